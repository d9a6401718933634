"""Recovery codes as people type them."""

import re

import pytest

from app.people.recovery import CODE_BYTES, code_hash, code_text, network_of


def test_a_code_is_four_groups_of_letters_and_digits_that_nobody_mistakes():
    assert re.fullmatch("([a-z2-7]{5}-){3}[a-z2-7]{5}", code_text(bytes(range(CODE_BYTES))))


@pytest.mark.parametrize("written", [str.upper, lambda code: code.replace("-", " "), lambda code: f" {code}\n"])
def test_capitals_spaces_and_hyphens_make_no_difference(written):
    code = code_text(b"\x93" * CODE_BYTES)
    assert code_hash(written(code)) == code_hash(code)


def test_what_is_misread_on_paper_is_understood():
    assert code_hash("ol b") == code_hash("01-8")


def test_other_codes_and_strange_text_have_other_hashes():
    typed = ["", "a", "aaaaa", "ä", "\udcff", "a" * 10_000]
    assert len({code_hash(text) for text in typed}) == len(typed)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
    ],
)
def test_guesses_count_by_what_one_person_has_of_the_network(address: str, network: str):
    assert network_of(address) == network
