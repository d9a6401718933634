"""Secrets in links and cookies."""

import pytest

from app.people.tokens import TOKEN_BYTES, token_hash, token_text


def test_a_token_fits_into_an_address_and_has_one_hash_a_purpose():
    text = token_text(b"\xff" * TOKEN_BYTES)
    assert len(text) == 43
    assert text.replace("-", "").replace("_", "").isalnum()
    assert token_hash(text, "sign-in-link") != token_hash(text, "web-session")


@pytest.mark.parametrize("text", ["", "ä", "a", "no token", "\x00", "A" * 44])
def test_what_is_no_token_is_no_error_and_nobodys(text: str):
    assert token_hash(text, "web-session") != token_hash(token_text(bytes(TOKEN_BYTES)), "web-session")
