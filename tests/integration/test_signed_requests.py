"""Requests signed for AWS, checked by a server that holds the same key and computes the signature from what it received."""

import hmac
from hashlib import sha256
from urllib.parse import quote

import pytest

from app.suspects.credentials import parse_credentials
from app.suspects.probe import Manner, ask
from tests.integration.asking import RULES, now, question, scores, suspect_of
from tests.simulators.suspect import SuspectSimulator

pytest.importorskip("botocore", reason="the extra `aws` is not installed")

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = {
    "kind": "sigv4",
    "access_key_id": "AKIDEXAMPLE0000000",
    "secret_access_key": SECRET,
    "region": "eu-central-1",
    "service": "sagemaker",
}


def keyed(key, text):
    return hmac.digest(key, text.encode(), "sha256")


def signature_of(seen, secret=SECRET):
    """Compute the signature as AWS describes it, from the bytes that arrived."""
    scheme, _, rest = seen.headers["authorization"].partition(" ")
    parts = dict(item.split("=", 1) for item in rest.split(", "))
    assert scheme == "AWS4-HMAC-SHA256"
    names = parts["SignedHeaders"].split(";")
    path, _, query = seen.path.partition("?")
    canonical = "\n".join(
        [
            "POST",
            quote(path, safe="/~"),
            query,
            *(f"{name}:{' '.join(seen.headers[name].split())}" for name in names),
            "",
            ";".join(names),
            sha256(seen.body).hexdigest(),
        ]
    )
    scope = parts["Credential"].split("/", 1)[1]
    to_sign = "\n".join(["AWS4-HMAC-SHA256", seen.headers["x-amz-date"], scope, sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for step in scope.split("/"):
        key = keyed(key, step)
    return keyed(key, to_sign).hex(), parts["Signature"], names, scope


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzE+/=="])
def test_every_request_is_signed_over_the_bytes_that_arrive(token):
    with SuspectSimulator(scores, options={"model": "digits-v1.2~a"}) as simulator:
        credentials = parse_credentials({**KEY, "session_token": token})
        asked = ask(
            [question(n) for n in range(5)], suspect_of(simulator, credentials=credentials), RULES, Manner(), now
        )
        seen = simulator.requests
    assert [item.labels for item in asked] == [(str(n),) for n in range(5)]
    assert len(seen) == 5
    for request in seen:
        expected, sent, names, scope = signature_of(request)
        assert sent == expected
        assert signature_of(request, "another secret")[0] != sent
        assert {"host", "content-type", "x-amz-date"} <= set(names)
        assert scope.endswith("/eu-central-1/sagemaker/aws4_request")
        assert request.headers.get("x-amz-security-token") == token
        assert SECRET not in repr(request)


def test_a_retry_is_signed_anew_and_no_secret_reaches_a_record():
    with SuspectSimulator(scores, fault="status_503", faulty=lambda asked, ordinal: ordinal < 1) as simulator:
        suspect = suspect_of(simulator, credentials=parse_credentials({**KEY, "session_token": "t0ken-of-a-session"}))
        manner = Manner(attempts=2, backoff_seconds=1.1)
        asked = ask([question(1)], suspect, RULES, manner, now)[0]
        first, second = simulator.requests
    assert (asked.attempt, asked.labels) == (2, ("1",))
    assert first.headers["x-amz-date"] != second.headers["x-amz-date"]
    assert signature_of(second)[0] == signature_of(second)[1]
    for secret in (SECRET, "t0ken-of-a-session", "AKIDEXAMPLE0000000"):
        assert secret not in repr(asked) + repr(suspect)
