"""The public randomness of a log entry: which round it is, and whether a recorded one is genuine.

The beacon of an entry is a pure function of the log. Nobody chooses it: source and time (or index) of the entry name
one round, and that round has one value.

  local           round = index of the entry, randomness = 32 zero bytes, no signature; what nobody could foresee is the
                  nonce that the service committed to, so labels are sound only while the service is honest.
  drand:<chain>   the first round not before the entry's time + 60 s; randomness = SHA-256(signature), and the signature
                  is the chain's own (BLS12-381, signatures in G1).

Invariants: a value passes only if source, round, randomness and signature are the ones the rule gives.
Source: docs/protocol.md section 5; drand's scheme bls-unchained-g1-rfc9380.
Trust: of a drand chain, that fewer than a threshold of its operators collude; for dates, see docs/protocol.md section 5.
"""

from dataclasses import dataclass

from app.canonical import seconds_of, sha256, u64
from app.errors import PolicyRefused, ProofError

LOCAL = "local"
LOCAL_RANDOMNESS = bytes(32)

# The round must be unknown when the entry is written; a minute covers clocks that disagree and a slow commit.
DELAY_SECONDS = 60


@dataclass(frozen=True)
class Chain:
    """A drand chain of the scheme bls-unchained-g1-rfc9380."""

    chain_hash: str
    genesis_seconds: int  # Unix time of round 1
    period_seconds: int
    public_key: bytes  # compressed point of G2

    @property
    def source(self) -> str:
        """Give the name under which statements and beacon entries mean this chain."""
        return f"drand:{self.chain_hash}"


QUICKNET = Chain(
    chain_hash="52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971",
    genesis_seconds=1692803367,
    period_seconds=3,
    public_key=bytes.fromhex(
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
        "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
    ),
)


def required_round(source: str, entry_index: int, entry_time: str) -> int:
    """Give the one round of `source` that is the beacon of the entry with this index and time.

    Raises: PolicyRefused if the source is not one of this version.
    """
    if source == LOCAL:
        return entry_index
    chain = _chain_of(source)
    wait_seconds = seconds_of(entry_time) + DELAY_SECONDS - chain.genesis_seconds
    # Rounding up: the first round not before that time. An entry older than the chain gets its first round.
    return 1 + max(0, -(-wait_seconds // chain.period_seconds))


def verify_beacon(
    source: str, round_: int, randomness: bytes, signature: bytes, *, entry_index: int, entry_time: str
) -> None:
    """Check that a recorded value is the beacon of the entry with this index and time.

    Raises: ProofError; PolicyRefused if the source is not one of this version.
    """
    required = required_round(source, entry_index, entry_time)
    if round_ != required:
        raise ProofError(f"the beacon of entry {entry_index} is round {required} of {source}, not {round_}")
    if source == LOCAL:
        if (randomness, signature) != (LOCAL_RANDOMNESS, b""):
            raise ProofError("a local beacon has 32 zero bytes as randomness and no signature")
        return
    if randomness != sha256(signature):
        raise ProofError("the randomness of a drand round is SHA-256 of its signature")
    # Imported by who needs it: loading the curve takes half a second, and nothing else here does.
    from app.protocol.bls import verify_bls  # noqa: PLC0415

    verify_bls(_chain_of(source).public_key, sha256(u64(round_)), signature)


def _chain_of(source: str) -> Chain:
    if source != QUICKNET.source:
        raise PolicyRefused(f"no beacon source {source!r}: use {LOCAL!r} or {QUICKNET.source!r}", pointer="/beacon")
    return QUICKNET
