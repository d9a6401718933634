import json
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from app.canonical import seconds_of, time_text
from app.errors import PolicyRefused, ProofError
from app.protocol import bls
from app.protocol.beacon import DELAY_SECONDS, LOCAL, QUICKNET, required_round, verify_beacon

VECTORS = Path(__file__).parents[2] / "vectors" / "beacon"


def verify(case):
    verify_beacon(
        case["source"],
        case["round"],
        bytes.fromhex(case["randomness"]),
        bytes.fromhex(case["signature"]),
        entry_index=case["entry_index"],
        entry_time=case["entry_time"],
    )


def vector(name):
    return json.loads((VECTORS / f"{name}.json").read_bytes())


# What the message of each refused vector says; every `_fail` file must be here.
REASONS = {
    "another_chain_fail": "no beacon source 'drand:abab",
    "quicknet_later_round_fail": "is round 1000 of",
    "quicknet_earlier_round_fail": "is round 1001 of",
    "quicknet_signature_of_another_round_fail": "not the chain's",
    "quicknet_signature_negated_fail": "not the chain's",
    "quicknet_randomness_bit_fail": "SHA-256 of its signature",
    "quicknet_signature_empty_fail": "48 bytes, not 0",
    "quicknet_signature_short_fail": "48 bytes, not 47",
    "quicknet_signature_at_infinity_fail": "prime order",
    "quicknet_signature_off_the_curve_fail": "not a point",
    "quicknet_signature_in_another_group_fail": "prime order",
    "local_another_round_fail": "is round 5 of local, not 6",
    "local_chosen_randomness_fail": "32 zero bytes",
    "local_short_randomness_fail": "32 zero bytes",
    "local_with_signature_fail": "no signature",
}


@pytest.mark.parametrize("name", sorted(file.stem for file in VECTORS.glob("*.json")))
def test_beacon_vector(name):
    if name.endswith("_fail"):
        with pytest.raises((ProofError, PolicyRefused), match=REASONS[name]):
            verify(vector(name))
    else:
        verify(vector(name))


def test_source_that_is_nearly_one_is_refused():
    for source in ("", "drand", "drand:", "LOCAL", QUICKNET.source.upper()):
        with pytest.raises(PolicyRefused):
            required_round(source, 0, "2026-01-31T12:00:00Z")


def test_quicknet_parameters_are_the_ones_its_chain_hash_names():
    # drand's chain hash covers period, genesis, public key, the hash of the group file and the chain's name.
    group_hash = bytes.fromhex("f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e")
    named = QUICKNET.period_seconds.to_bytes(4, "big") + QUICKNET.genesis_seconds.to_bytes(8, "big")
    assert sha256(named + QUICKNET.public_key + group_hash + b"quicknet").hexdigest() == QUICKNET.chain_hash


def test_quicknet_public_key_is_in_the_group_of_prime_order():
    point = bls.public_point(QUICKNET.public_key)
    assert not bls.is_inf(point)
    assert bls.subgroup_check(point)


def test_local_round_is_the_index_of_the_entry():
    assert [required_round(LOCAL, index, "2026-01-31T12:00:00Z") for index in (0, 1, 2**53 - 1)] == [0, 1, 2**53 - 1]


def round_of(seconds):
    return required_round(QUICKNET.source, 0, time_text(datetime.fromtimestamp(seconds, UTC)))


def test_drand_round_is_the_first_not_before_a_minute_after_the_entry():
    start = seconds_of("2026-01-31T12:00:00Z")
    for seconds in range(start, start + 7):
        number = round_of(seconds)
        published_seconds = QUICKNET.genesis_seconds + (number - 1) * QUICKNET.period_seconds
        assert 0 <= published_seconds - (seconds + DELAY_SECONDS) < QUICKNET.period_seconds


def test_round_at_exactly_a_minute_is_taken_and_a_second_later_the_next():
    first_seconds = QUICKNET.genesis_seconds - DELAY_SECONDS
    assert [round_of(first_seconds + step) for step in (0, 1, 2, 3, 4)] == [1, 2, 2, 2, 3]


def test_entry_older_than_the_chain_gets_its_first_round():
    assert round_of(QUICKNET.genesis_seconds - DELAY_SECONDS - 1) == 1
    assert required_round(QUICKNET.source, 0, "1970-01-01T00:00:00Z") == 1


def test_every_bit_of_a_genuine_signature_counts():
    case = vector("quicknet_1000")
    signature = bytes.fromhex(case["signature"])
    # One bit a byte: decoding refuses about half, the pairing the rest.
    for position in range(0, len(signature), 6):
        damaged = bytearray(signature)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(ProofError):
            verify(case | {"signature": damaged.hex(), "randomness": sha256(damaged).hexdigest()})


def test_deeply_nested_json_is_still_refused_and_does_not_kill_the_process():
    # py_ecc lifts the recursion limit when imported; with it lifted this program ends by a segmentation fault.
    program = (
        "import sys; limit = sys.getrecursionlimit()\n"
        "import app.protocol.bls\n"
        "from app.canonical import parse_loose_json\n"
        "from app.errors import Malformed\n"
        "assert sys.getrecursionlimit() == limit\n"
        "try: parse_loose_json(b'[' * 99_000)\n"
        "except Malformed: print('refused')\n"
    )
    repository = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
