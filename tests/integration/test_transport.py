"""The way out to the network against a real, hostile server on loopback."""

import asyncio
import contextlib
import socket
import ssl
import threading
from hashlib import sha256

import pytest

from app.suspects.addresses import NetworkRules, system_resolver
from app.suspects.probe import Suspect, ask, ask_once
from app.suspects.transport import TRANSPORT_ERRORS, Lookup, SuspectClient
from tests.integration.asking import BODY, BRIEF, ONCE, RULES, now, question, scores, suspect_of
from tests.simulators.certificates import certificate_for
from tests.simulators.suspect import SuspectSimulator

CLOSED = NetworkRules(allow_http=True, ports=None)


def send(simulator, host, rules=RULES, resolver=None, tls=None):
    async def exchange():
        async with SuspectClient(Lookup(rules, resolver or system_resolver), BRIEF, tls=tls) as client:
            scheme = "https" if tls else "http"
            first = await client.send("POST", f"{scheme}://{host}:{simulator.port}/v1/models/digits:predict", {}, BODY)
            return first, client

    return asyncio.run(exchange())[0]


class FixedResolver:
    """A name server that gives one answer after the other and counts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, host):
        self.asked.append(host)
        return self.answers.pop(0)


def test_every_connection_goes_through_the_checked_backend():
    resolver = FixedResolver(["127.0.0.1"])
    with SuspectSimulator(scores) as simulator:
        exchange = send(simulator, "suspect.test", resolver=resolver)
    # No name server knows suspect.test: only our own look-up can have found it.
    assert exchange.status == 200
    assert exchange.address == "127.0.0.1"
    assert resolver.asked == ["suspect.test"]
    assert simulator.requests[0].headers["host"] == f"suspect.test:{simulator.port}"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::ffff:127.0.0.1"]]
)
def test_one_bad_address_refuses_the_host_and_nothing_connects(addresses):
    with SuspectSimulator(scores) as simulator:
        exchange = send(simulator, "suspect.test", rules=CLOSED, resolver=FixedResolver(addresses))
        assert exchange.error == "address_refused"
        assert not simulator.requests


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "127.0.0.1"])
def test_what_the_system_resolves_to_loopback_is_refused_at_connect_too(host):
    with SuspectSimulator(scores) as simulator:
        assert send(simulator, host, rules=CLOSED).error in {"address_refused", "no_such_host"}
        assert not simulator.requests


def test_a_name_that_changes_its_address_is_looked_up_once():
    resolver = FixedResolver(["127.0.0.1"], ["10.0.0.1"])

    async def exchange(simulator):
        async with SuspectClient(Lookup(RULES, resolver), BRIEF) as client:
            url = f"http://suspect.test:{simulator.port}/v1/models/digits:predict"
            return [await client.send("POST", url, {"connection": "close"}, BODY) for _ in range(3)]

    with SuspectSimulator(scores) as simulator:
        exchanges = asyncio.run(exchange(simulator))
        assert len(simulator.connections) == 3
    assert [item.address for item in exchanges] == ["127.0.0.1"] * 3
    assert len(resolver.asked) == 1


def test_clients_of_one_session_share_the_look_up_whichever_of_our_addresses_they_leave_by():
    resolver = FixedResolver(["127.0.0.1"], ["10.0.0.1"])

    async def exchange(simulator):
        lookup = Lookup(RULES, resolver)
        url = f"http://suspect.test:{simulator.port}/v1/models/digits:predict"
        async with (
            SuspectClient(lookup, BRIEF, local_address="127.0.0.2") as first,
            SuspectClient(lookup, BRIEF, local_address="127.0.0.3") as second,
        ):
            return [await client.send("POST", url, {}, BODY) for client in (first, second)]

    with SuspectSimulator(scores) as simulator:
        exchanges = asyncio.run(exchange(simulator))
        assert [seen.client[0] for seen in simulator.requests] == ["127.0.0.2", "127.0.0.3"]
    assert [item.status for item in exchanges] == [200, 200]
    assert len(resolver.asked) == 1


def test_an_address_that_does_not_answer_is_passed_over():
    with SuspectSimulator(scores) as simulator:
        exchange = send(simulator, "suspect.test", resolver=FixedResolver(["127.0.0.99", "127.0.0.1"]))
    assert exchange.address == "127.0.0.1"


def test_an_unknown_host_has_a_name():
    with SuspectSimulator(scores) as simulator:
        assert send(simulator, "suspect.test", resolver=FixedResolver([])).error == "no_such_host"


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    with SuspectSimulator(scores) as simulator, SuspectSimulator(scores) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        assert send(simulator, "127.0.0.1").status == 200
        # The proxy would have been asked to look this name up; so only our own look-up is.
        assert send(simulator, "suspect.test", resolver=FixedResolver(["127.0.0.1"])).status == 200
        assert not proxy.connections


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "//127.0.0.1:{port}/", "/elsewhere"]
)
def test_a_redirect_is_a_word_and_is_never_followed(status, to):
    with SuspectSimulator(scores) as other:
        location = to.format(port=other.port)
        with SuspectSimulator(scores, fault="redirect", redirect=status, location=location) as simulator:
            asked = ask_once(question(1), suspect_of(simulator), RULES, ONCE, now)
            assert (asked.status, asked.error, asked.labels) == (status, f"status_{status}", ())
            assert len(simulator.requests) == 1
        assert not other.requests


def test_a_cookie_is_never_sent_back():
    with SuspectSimulator(scores, fault="cookie") as simulator:
        ask([question(n) for n in range(20)], suspect_of(simulator), RULES, ONCE, now)
        assert not any("cookie" in name for seen in simulator.requests for name in seen.headers)


def test_requests_do_not_name_the_service_and_ask_for_no_compression():
    with SuspectSimulator(scores) as simulator:
        ask_once(question(1), suspect_of(simulator), RULES, ONCE, now)
        headers = simulator.requests[0].headers
    assert headers["accept-encoding"] == "identity"
    assert not any("trapstreet" in value.lower() for value in headers.values())


def test_tls_checks_the_name_and_not_the_address_and_the_leaf_is_recorded(tmp_path):
    server, client, fingerprint = certificate_for("suspect.test", tmp_path)
    with SuspectSimulator(scores, tls=server) as simulator:
        right = send(simulator, "suspect.test", resolver=FixedResolver(["127.0.0.1"]), tls=client)
        wrong = send(simulator, "other.test", resolver=FixedResolver(["127.0.0.1"]), tls=client)
        strange = send(
            simulator, "suspect.test", resolver=FixedResolver(["127.0.0.1"]), tls=ssl.create_default_context()
        )
    assert (right.status, right.certificate_sha256) == (200, fingerprint)
    assert (wrong.error, strange.error) == ("tls_failed", "tls_failed")


def test_the_name_and_not_the_address_is_what_tls_and_http_say(tmp_path):
    server, client, _ = certificate_for("suspect.test", tmp_path)
    names = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    with SuspectSimulator(scores, tls=server) as simulator:
        exchange = send(simulator, "suspect.test", resolver=FixedResolver(["127.0.0.1"]), tls=client)
    assert (exchange.status, exchange.address, names) == (200, "127.0.0.1", ["suspect.test"])
    assert simulator.requests[0].headers["host"] == f"suspect.test:{simulator.port}"


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("status_500", "status_500", 500),
        ("status_503", "status_503", 503),
        ("hang", "timeout", None),
        ("drip", "timeout", None),
        ("endless", "too_large", 200),
        ("gzip", "encoded_body", 200),
        ("not_json", "not_json", 200),
        ("too_deep", "too_deep", 200),
        ("wrong_count", "wrong_count", 200),
        ("nan_score", "nan_score", 200),
        ("drop", "connection_lost", None),
        ("cut_short", "connection_lost", None),
        ("not_http", "not_http", None),
    ],
)
def test_whatever_the_suspect_does_wrong_has_a_name_and_the_rest_goes_on(fault, error, status):
    with SuspectSimulator(scores, fault=fault, faulty=lambda asked, ordinal: asked[-1] == 3) as simulator:
        results = ask([question(n) for n in range(6)], suspect_of(simulator), RULES, ONCE, now)
    bad = results.pop(3)
    assert (bad.error, bad.status, bad.labels) == (error, status, ())
    assert bad.response_sha256 == (b"" if error in TRANSPORT_ERRORS else sha256(bad.response).digest())
    assert [result.labels for result in results] == [("0",), ("1",), ("2",), ("4",), ("5",)]


RAW_RESPONSES = (
    b"HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 1000 High\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000,
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, br\r\ncontent-length: 1\r\n\r\nx",
    b"HTTP/1.1 429 X\r\nretry-after: \xb2\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 \xff\xfe\r\n\xff: \xff\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\r\n",
    b"",
)


@pytest.mark.parametrize("response", RAW_RESPONSES)
def test_no_bytes_on_the_wire_raise(response):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                connection.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        interface = SuspectSimulator(scores).interface
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        asked = ask_once(question(1), Suspect(url, interface, 10), RULES, ONCE, now)
        thread.join()
    assert asked.error
    assert not asked.labels
    assert asked.status is None or 100 <= asked.status <= 999
