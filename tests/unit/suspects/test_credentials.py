"""Which credentials are taken, and that nothing shows them."""

import sys

import pytest

from app.disputes.trials import shown_start
from app.errors import Malformed, PolicyRefused
from app.suspects.credentials import WHO_ASKS, HeaderCredentials, SigV4Credentials, parse_credentials, signer_of

SECRET = "s3cr3t-of-the-vendor"
SIGV4 = {
    "kind": "sigv4",
    "access_key_id": "AKIDEXAMPLE0000000",
    "secret_access_key": SECRET,
    "region": "eu-central-1",
    "service": "sagemaker",
}


def headers(**values):
    return {"kind": "headers", "headers": values}


@pytest.mark.parametrize("name", sorted(WHO_ASKS))
def test_a_header_that_says_who_asks_goes_out_beside_the_adapters_own(name):
    credentials = parse_credentials(headers(**{name.title(): SECRET}))
    sent = signer_of(credentials)("POST", "https://suspect.example/", {"accept": "application/json"}, b"{}")
    assert sent == {"accept": "application/json", name: SECRET}
    assert credentials.header_names == (name,)


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "Content-Type", "Transfer-Encoding", "TE", "Trailer", "Connection", "Keep-Alive"),
        *("Upgrade", "Proxy-Authorization", "Proxy-Connection", "Expect", "Accept", "Accept-Encoding", "Cookie"),
        *("Range", "If-None-Match", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via", "Date", "User-Agent"),
        *("X-Answer-Seed", "azureml-model-deployment", "X-Amzn-SageMaker-Target-Variant", "Idempotency-Key"),
        *(
            "",
            " authorization",
            "authorization:",
            "author\r\nization",
            "authorizat\u0131on",
            "x-api-key\0",
            "Authorization ",
        ),
    ],
)
def test_a_header_that_could_steer_the_endpoint_or_the_message_is_refused(name):
    with pytest.raises(PolicyRefused) as refused:
        parse_credentials(headers(**{"Authorization": "Bearer x", name: SECRET}), "/credentials")
    assert refused.value.pointer.startswith("/credentials/headers/")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", SECRET + "\r\nX: y", SECRET + "\n", SECRET + "\0", " " + SECRET, SECRET + " ", SECRET + "ü"),
        *(SECRET + "\x7f", SECRET * 1000, 7, None, [SECRET], {"a": SECRET}),
    ],
)
def test_a_value_that_is_not_one_plain_line_is_refused_and_not_repeated(value):
    with pytest.raises(Malformed) as refused:
        parse_credentials(headers(Authorization=value))
    assert SECRET not in str(refused.value)
    assert refused.value.pointer == "/headers/Authorization"


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            None,
            SECRET,
            [],
            {},
            {"kind": SECRET},
            {"kind": "headers"},
            headers(),
            {"kind": "headers", "headers": [SECRET]},
        ),
        *({**headers(Authorization=SECRET), "more": 1}, headers(authorization=SECRET, Authorization=SECRET)),
        *({**SIGV4, "region": "eu central"}, {**SIGV4, "region": ""}, {**SIGV4, "secret_access_key": f"{SECRET}\n"}),
        *({**SIGV4, "session_token": f"{SECRET} "}, {**SIGV4, "access_key_id": "short"}, {**SIGV4, "service": "S3/.."}),
        {name: value for name, value in SIGV4.items() if name != "secret_access_key"},
    ],
)
def test_credentials_of_another_form_are_refused_without_a_word_of_them(wrong):
    with pytest.raises(Malformed) as refused:
        parse_credentials(wrong)
    assert SECRET not in str(refused.value) + refused.value.pointer


def test_neither_kind_shows_its_secrets():
    token = {**SIGV4, "session_token": SECRET * 2}
    for value in (headers(Authorization=SECRET), SIGV4, token):
        credentials = parse_credentials(value)
        assert SECRET not in repr(credentials) + str(credentials) + f"{credentials}"
        assert "AKID" not in repr(credentials)
        assert type(credentials).parse(credentials.encode()) == credentials
    assert isinstance(parse_credentials(SIGV4), SigV4Credentials)
    assert isinstance(parse_credentials(headers(Authorization=SECRET)), HeaderCredentials)


def test_without_credentials_a_request_stays_as_it_is():
    assert signer_of(None)("POST", "https://suspect.example/", {"accept": "a/b"}, b"") == {"accept": "a/b"}


def test_without_botocore_aws_credentials_are_refused_by_the_extras_name(monkeypatch):
    for module in ("botocore", "botocore.auth"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PolicyRefused, match="extra `aws`"):
        signer_of(parse_credentials(SIGV4))


def test_what_an_answer_begins_with_is_shown_without_the_keys_that_it_repeats():
    given = parse_credentials(
        {"kind": "headers", "headers": {"Authorization": "Bearer hush", "x-api-key": "hush-hush"}}
    )
    said = b'{"asked with": "Bearer hush", "and": "hush-hush", "token": "hush"}\x1b'
    assert "hush" not in shown_start(said, given)
    assert shown_start(said, given).isprintable()
    aws = {
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "s3cr3t",
        "region": "eu",
        "service": "sagemaker",
    }
    assert shown_start(b"AKIAIOSFODNN7EXAMPLE", parse_credentials({"kind": "sigv4", **aws})) == "(your key)"
    assert shown_start(b"plain", None) == "plain"
