"""Signatures against the library that receivers use."""

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.delivery.signing import secret_text, signed_headers

SECRET, OLD = b"\x01" * 32, b"\x02" * 32
BODY = b'{"data":{},"type":"ping"}'


def headers_now(secrets: list[bytes], earlier: timedelta = timedelta()) -> dict[str, str]:
    return signed_headers(secrets, "evt_1", int((datetime.now(UTC) - earlier).timestamp()), BODY)


def test_a_receivers_library_accepts_what_we_sign() -> None:
    assert Webhook(secret_text(SECRET)).verify(BODY, headers_now([SECRET])) == {"data": {}, "type": "ping"}


def test_our_signature_is_the_librarys() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    ours = signed_headers([SECRET], "evt_1", int(moment.timestamp()), BODY)["webhook-signature"]
    assert ours == Webhook(secret_text(SECRET)).sign("evt_1", moment, BODY.decode())


def test_while_a_secret_is_replaced_who_knows_either_accepts() -> None:
    headers = headers_now([SECRET, OLD])
    for secret in (SECRET, OLD):
        assert Webhook(secret_text(secret)).verify(BODY, headers)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        # Before this file was read, so never the moment of the test.
        {"webhook-timestamp": str(int(datetime.now(UTC).timestamp()) - 30)},
        {"webhook-signature": "v1,AAAA"},
    ],
)
def test_what_was_changed_on_the_way_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(SECRET)).verify(BODY, headers_now([SECRET]) | change)


def test_another_secret_or_body_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(OLD)).verify(BODY, headers_now([SECRET]))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(SECRET)).verify(BODY + b" ", headers_now([SECRET]))


@pytest.mark.parametrize("age", [timedelta(minutes=6), -timedelta(minutes=6)])
def test_a_message_that_is_sent_again_later_is_refused(age: timedelta) -> None:
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(secret_text(SECRET)).verify(BODY, headers_now([SECRET], age))
