"""What an endpoint wants to see before it answers: keys in headers, or requests signed as AWS does (Signature Version 4).

A header can steer an endpoint as an interface can, and an interface costs evidence by its bytes; these bytes are secret, so
nobody could recount the price. So only headers that say who asks are taken, from a list; what chooses a model or the form of
an answer belongs into the interface. (docs/decisions.md)

Invariants: no header that shapes the message or routes it passes; a value is one line of printable ASCII; no value of a
secret stands in a message, a `repr` or a log line.
Trust: whoever holds one of these values is the vendor's equal at that endpoint.
Source: RFC 9110 section 5; AWS Signature Version 4, by botocore's signer.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, below, choice, json_object, nullable, text
from app.errors import Malformed, PolicyRefused
from app.suspects.addresses import Endpoint

# Headers that say who asks, of the services that our adapters speak with and of common gateways, and do nothing else.
WHO_ASKS = frozenset(
    {
        *("authorization", "api-key", "apikey", "x-api-key", "x-auth-token", "x-access-token"),
        *("ocp-apim-subscription-key", "x-functions-key", "x-goog-api-key", "x-rapidapi-key", "private-token"),
        *("cf-access-client-id", "cf-access-client-secret", "modal-key", "modal-secret"),
    }
)
MAX_VALUE_CHARACTERS = 8192

# One line: nothing that could begin another header, and no space at an end, which servers cut off.
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ONE_LINE = r"[\x21-\x7e]+"


@dataclass(frozen=True)
class HeaderCredentials(Record):
    """Headers that go out with every request as they are."""

    kind: str = field(metadata=as_form(choice("headers")))
    headers: dict[str, Any] = field(repr=False, metadata=as_form(json_object()))

    def check(self, pointer: str) -> None:
        """Refuse headers that say more than who asks."""
        if not self.headers:
            raise Malformed("name at least one header", pointer=f"{pointer}/headers")
        names = [name.lower() for name in self.headers]
        for name, value in self.headers.items():
            place = below(f"{pointer}/headers", name)
            if name.lower() not in WHO_ASKS:
                raise PolicyRefused(
                    f"only headers that say who asks are taken ({', '.join(sorted(WHO_ASKS))}); what chooses a model or "
                    "an answer's form belongs into the interface, where it has its price",
                    pointer=place,
                )
            if names.count(name.lower()) > 1:
                raise Malformed("this header stands twice", pointer=place)
            whole = isinstance(value, str) and len(value) <= MAX_VALUE_CHARACTERS and _VALUE.fullmatch(value)
            if not whole:
                raise Malformed(
                    f"a value is one line of at most {MAX_VALUE_CHARACTERS} printable ASCII characters", pointer=place
                )

    @property
    def header_names(self) -> tuple[str, ...]:
        """Name the headers that they add."""
        return tuple(sorted(name.lower() for name in self.headers))


@dataclass(frozen=True)
class SigV4Credentials(Record):
    """A key of AWS that signs every request when it leaves, over its real bytes."""

    kind: str = field(metadata=as_form(choice("sigv4")))
    access_key_id: str = field(repr=False, metadata=as_form(text(16, 128, pattern="[A-Za-z0-9_]+")))
    secret_access_key: str = field(repr=False, metadata=as_form(text(1, 200, pattern=_ONE_LINE)))
    session_token: str | None = field(repr=False, metadata=as_form(nullable(text(1, 8192, pattern=_ONE_LINE))))
    region: str = field(metadata=as_form(text(1, 40, pattern="[a-z0-9-]+")))
    service: str = field(metadata=as_form(text(1, 40, pattern="[a-z0-9-]+")))

    @property
    def header_names(self) -> tuple[str, ...]:
        """Name the headers that they add."""
        token = () if self.session_token is None else ("x-amz-security-token",)
        return ("authorization", "x-amz-date", *token)


Credentials = HeaderCredentials | SigV4Credentials

# Gives the headers of a request by its method, URL, headers and body.
Sign = Callable[[str, str, Mapping[str, str], bytes], dict[str, str]]


def parse_credentials(value: Any, pointer: str = "") -> Credentials:
    """Read credentials as the API takes them; a session token may be left out.

    Raises: Malformed or PolicyRefused with a pointer, never with a value.
    """
    match value:
        case {"kind": "headers"}:
            return HeaderCredentials.from_json(value, pointer)
        case {"kind": "sigv4"}:
            return SigV4Credentials.from_json({"session_token": None, **value}, pointer)
        case _:
            raise Malformed('credentials have the kind "headers" or "sigv4"', pointer=f"{pointer}/kind")


def verify_way(place: Endpoint, credentials: Credentials | None, *, allow_http: bool, told_by: str) -> None:
    """Refuse to send a key where everybody on the way reads it, unless that was said; `told_by` is how to say it.

    Raises: PolicyRefused.
    """
    if credentials is not None and not allow_http and not place.is_private_way:
        raise PolicyRefused(
            f"over http everybody on the way reads the endpoint's key: use https, or say that it may be read ({told_by})",
            pointer="/endpoint",
        )


def secrets_of(credentials: Credentials | None) -> tuple[bytes, ...]:
    """Give the values that nobody may be shown, the longest first, as they go out and without a scheme before them."""
    match credentials:
        case None:
            return ()
        case HeaderCredentials():
            whole = [str(value) for value in credentials.headers.values()]
            values = whole + [value.rpartition(" ")[2] for value in whole]
        case SigV4Credentials():
            values = [credentials.secret_access_key, credentials.session_token or "", credentials.access_key_id]
    return tuple(value.encode() for value in sorted(filter(None, values), key=len, reverse=True))


def signer_of(credentials: Credentials | None) -> Sign:
    """Give what puts credentials on a request.

    Raises: PolicyRefused if what signs is not installed.
    """
    match credentials:
        case None:
            return lambda _method, _url, headers, _body: dict(headers)
        case HeaderCredentials():
            secret = {name.lower(): value for name, value in credentials.headers.items()}
            return lambda _method, _url, headers, _body: dict(headers) | secret
        case SigV4Credentials():
            return _aws_signer(credentials)


def _aws_signer(credentials: SigV4Credentials) -> Sign:
    try:
        # An extra: only who asks at AWS needs it.
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials as AwsKey  # noqa: PLC0415
    except ImportError as error:
        raise PolicyRefused(
            "requests for AWS are signed by botocore, which is not installed here: install the extra `aws`",
            pointer="/credentials/kind",
        ) from error
    key = AwsKey(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(key, credentials.service, credentials.region).add_auth(request)
        return {name.lower(): str(value) for name, value in request.headers.items()}

    return sign
