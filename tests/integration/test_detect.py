"""`suspect detect` over real sockets: an ordinary server is found, a hostile one is shown and harms nobody."""

import json
import socket
import time
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli.commands import main
from app.errors import SuspectUnreachable
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.detect import FIRST_LOOKS, Seen, candidates
from app.suspects.looking import UNKNOWN, look, sample, try_candidates
from app.suspects.probe import Suspect
from tests.integration.asking import RULES, scores
from tests.simulators.raw_server import RawServer, always, forever, response
from tests.simulators.suspect import SuspectSimulator

LISTED = {"/v1/models": {"models": ["digits"]}}
HERE = ["--shape", "8x8x1", "--allow-network", "127.0.0.0/8"]


def key_file(folder, name, value):
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"kind": "headers", "headers": {name: value}}))
    return str(path)


def detect(url, *arguments):
    return CliRunner().invoke(main, ["suspect", "detect", url, *HERE, *arguments])


def test_a_server_that_lists_its_models_is_found_and_asked():
    with SuspectSimulator(scores, metadata=LISTED) as simulator:
        result = detect(simulator.url, "--json", "--classes", "10")
        asked = [(each.path, each.body) for each in simulator.requests]
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["interface"] == {
        "adapter": "kserve_v1",
        "options": {"model": "digits"},
        "preprocessing": {},
        "label_map": {"by": "index"},
    }
    assert [path for path, _ in asked[: len(FIRST_LOOKS)]] == [each.path for each in FIRST_LOOKS]
    assert asked[-1][0] == "/v1/models/digits:predict"
    assert len(told["tried"]) == 1
    assert len(asked) == len(told["looked"]) + 1


def test_a_person_sees_each_request_its_answer_and_the_proposal():
    with SuspectSimulator(scores, metadata=LISTED) as simulator:
        result = detect(simulator.url)
    assert result.exit_code == 0, result.output
    assert 'GET  /v1/models                      200  {"models": ["digits"]}' in result.output
    assert "POST /v1/models/digits:predict" in result.output
    proposed = (
        """--adapter kserve_v1 --options '{"model": "digits"}' --preprocessing '{}' --label-map '{"by": "index"}'"""
    )
    assert f"proposed, as options of `dispute`:\n  {proposed}\n" in result.output


def test_labels_that_are_no_numbers_are_mapped_by_name():
    with SuspectSimulator(lambda asked: "seven", metadata=LISTED) as simulator:
        told = json.loads(detect(simulator.url, "--json").output)
    assert told["interface"]["label_map"] == {"by": "name"}


def test_a_picture_of_ones_own_is_asked_about(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "seven.png")
    with SuspectSimulator(scores, metadata=LISTED) as simulator:
        told = json.loads(detect(simulator.url, "--json", "--input", str(tmp_path / "seven.png")).output)
    assert told["tried"][0]["labels"][0] == "7"


def test_the_key_of_a_file_goes_out_with_every_request_and_is_shown_nowhere(tmp_path):
    with SuspectSimulator(scores, metadata=LISTED) as simulator:
        result = detect(simulator.url, "--credentials", key_file(tmp_path, "authorization", "Bearer hush"))
        assert {each.headers.get("authorization") for each in simulator.requests} == {"Bearer hush"}
    assert "hush" not in result.output


def test_a_header_that_says_more_than_who_asks_is_refused_without_its_value(tmp_path):
    result = detect("http://127.0.0.1:9", "--credentials", key_file(tmp_path, "x-labels", "3120"))
    assert result.exit_code == 2
    assert "3120" not in result.output


def test_credentials_that_are_lines_are_refused_with_the_form_to_write(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("authorization: Bearer hush")
    result = detect("http://127.0.0.1:9", "--credentials", str(path))
    assert result.exit_code == 2
    assert '{"kind": "headers", "headers": {"Authorization"' in result.output
    assert "hush" not in result.output


def test_a_key_goes_by_http_to_another_machine_only_if_told(tmp_path):
    key = key_file(tmp_path, "authorization", "Bearer hush")
    # An address that leads nowhere, but could (RFC 5737).
    elsewhere = ["http://192.0.2.1:9", "--allow-network", "192.0.2.0/24", "--credentials", key]
    result = detect(*elsewhere)
    assert result.exit_code == 2
    assert "--allow-http" in result.output


@pytest.mark.parametrize(
    ("endpoint", "is_private"),
    [
        ("https://models.example.org", True),
        ("http://models.example.org", False),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://localhost:8000", True),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://192.0.2.1", False),
    ],
)
def test_nobody_reads_on_the_way_within_a_machine_or_under_tls(endpoint, is_private):
    networks = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "192.0.2.0/24")))
    assert parse_endpoint(endpoint, NetworkRules(networks, allow_http=True, ports=None)).is_private_way == is_private


def test_a_look_ends_when_its_seconds_are_over_and_gives_what_it_saw():
    with SuspectSimulator(scores, metadata=LISTED, latency_seconds=30) as simulator:
        began = time.monotonic()
        seen = look(simulator.url, RULES, seconds=2)
    assert time.monotonic() - began < 25
    assert [each.look for each in seen] == list(FIRST_LOOKS[:2])


def test_trying_ends_when_its_seconds_are_over():
    found = candidates([Seen(FIRST_LOOKS[3], 200, b'{"models": ["digits"]}')], "image", (8, 8, 1))
    with SuspectSimulator(scores, fault="hang") as simulator:
        suspect = Suspect(simulator.url, UNKNOWN, 10)
        question = sample("image", (8, 8, 1))
        tried = try_candidates(suspect, found, question, RULES, lambda: datetime.now(UTC), seconds=0.5)
    assert [each.asked.error for each in tried] == ["timeout"]


def test_a_server_that_tells_nothing_is_an_error_that_says_what_to_try():
    with SuspectSimulator(scores) as simulator:
        result = detect(simulator.url)
    assert result.exit_code == 1
    assert "no route told which server this is" in result.output
    assert "--model" in result.output


def test_a_wrong_guess_shows_the_first_bytes_of_the_answer():
    with SuspectSimulator(scores, metadata=LISTED, fault="not_json") as simulator:
        result = detect(simulator.url)
    assert result.exit_code == 1
    assert "refused: not_json" in result.output
    assert "<html>" in result.output


def test_an_address_that_is_not_allowed_is_not_reached():
    with SuspectSimulator(scores) as simulator:
        result = CliRunner().invoke(main, ["suspect", "detect", simulator.url])
        assert simulator.requests == []
    assert result.exit_code == 2
    assert "private" in result.output


def test_nobody_there_is_said_after_one_request():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(SuspectUnreachable) as refused:
            look(f"http://127.0.0.1:{closed.getsockname()[1]}", RULES)
    assert "connect_failed" in refused.value.message


@pytest.mark.parametrize(
    ("script", "error", "status"),
    [
        (
            forever(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"),
            "too_large",
            200,
        ),
        (response(b"", status="302 Found", headers=b"location: http://127.0.0.1:1/\r\n"), "", 302),
        (always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not_http", None),
        (response(b"\x1b[2J\xe2\x80\xae"), "", 200),
        (response(b"[" * 100_000), "", 200),
        (response(b'{"models": ["../a", "\\ud800", 7], "routes": 3, "named_endpoints": []}'), "", 200),
    ],
)
def test_a_hostile_server_is_looked_at_and_leads_nowhere(script, error, status):
    with RawServer(script) as server:
        seen = look(server.url, RULES)
    assert {(each.error, each.status) for each in seen} == {(error, status)}
    assert all(each.shown.isprintable() for each in seen)
    assert {each.adapter for each in candidates(seen, "image", (8, 8, 1))} <= {"mlflow", "ray_serve"}
