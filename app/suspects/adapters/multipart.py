"""A picture as the one file of a form, and back.

The boundary is fixed, so that a request is the same bytes whenever it is made; a picture that held it would only break its
own request.
Invariants: nothing but the one file stands in the form.
Source: RFC 7578; RFC 2046 section 5.1.
"""

from app.errors import Malformed

_BOUNDARY = "trapstreet-7d1c5a0e93b84f62"
CONTENT_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"


def write_form(name: str, file_name: str, media_type: str, data: bytes) -> bytes:
    """Write a form with one file; `name` holds neither quotes nor line ends."""
    return _head(name, file_name, media_type) + data + _TAIL


def read_form(name: str, file_name: str, media_type: str, body: bytes) -> bytes:
    """Give the file's bytes.

    Raises: Malformed unless the body is what `write_form` writes.
    """
    head = _head(name, file_name, media_type)
    if len(body) < len(head) + len(_TAIL) or not body.startswith(head) or not body.endswith(_TAIL):
        raise Malformed("the request is not a form with the picture and nothing else")
    return body[len(head) : -len(_TAIL)]


_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


def _head(name: str, file_name: str, media_type: str) -> bytes:
    return (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    ).encode()
