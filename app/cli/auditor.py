"""Commands of an auditor: check, check-steps, replay, check-vectors. No server, no database, no torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from app.canonical import parse_loose_json
from app.cli.files import read_file
from app.cli.output import EXIT_NO, EXIT_UNAUTHENTICATED, JsonFlag, console, reported, show
from app.errors import Malformed, ProofError
from app.merkle.checkpoint import parse_verifier_key
from app.protocol.assessment import expect
from app.protocol.bundle import MAX_FILE_BYTES, Checked, check_bundle
from app.protocol.records import BITS, AnswerRecord, CrossTestEntry, ModelEntry, NoticeRecord
from app.protocol.steps import check_steps as hold_steps
from app.protocol.vectors import find_difference
from app.protocol.verdict import decide
from app.storage.archive import unpack
from app.suspects.adapter_codec import AdapterCodec

LogKeyOption = Annotated[
    str,
    typer.Option("--log-key", envvar="TRAPSTREET_LOG_KEY", help="The log's verifier key (text, or a file with it)."),
]
ArbiterKey = Annotated[
    list[str] | None, typer.Option("--arbiter-key", help="An arbiter's public key in hex. Repeatable.")
]
Steps = Annotated[Path, typer.Argument(help="The steps of a dispute: the file, or a folder with its files.")]
Bundle = Annotated[Path, typer.Argument(help="An evidence bundle: the file, or a folder with its files.")]


def read_bundle(path: Path) -> dict[str, bytes]:
    """Read a bundle from its one file or from a folder.

    Raises: ProofError if the file is no bundle as it was written; NotFound.
    """
    if not path.is_dir():
        try:
            return unpack(read_file(path))
        except Malformed as error:
            # What was a bundle and no longer is one was tampered with: that is an answer, not a wrong call.
            raise ProofError(error.message) from error
    return {str(file.relative_to(path)): read_file(file) for file in sorted(path.rglob("*")) if file.is_file()}


def read_log_key(text: str) -> bytes | None:
    """Read a pinned log key from its verifier text or a file that holds it; "" gives None.

    Raises: Malformed.
    """
    if not text:
        return None
    path = Path(text)
    if "+" not in text and not path.is_file():
        raise Malformed(f"{text!r} is neither a verifier key nor a file with one", pointer="/log-key")
    return parse_verifier_key((path.read_text() if path.is_file() else text).strip())[1]


def check(
    bundle: Bundle, log_key: LogKeyOption = "", arbiter_key: ArbiterKey = None, as_json: JsonFlag = False
) -> None:
    """Recompute a verdict from its evidence bundle, offline.

    Exit status 0: all holds; 1: something does not, with the reason; 3: consistent, but no log key was given.
    """
    with reported(as_json=as_json):
        checked = _check(bundle, log_key, arbiter_key)
        show(_summary(checked), as_json=as_json)
    if not checked.is_authenticated:
        if not as_json:
            console.print("consistent, log not authenticated: give --log-key and compare the fingerprint")
        raise typer.Exit(EXIT_UNAUTHENTICATED)


def _check(bundle: Path, log_key: str, arbiter_key: list[str] | None) -> Checked:
    files = read_bundle(bundle)
    arbiters = [bytes.fromhex(text) for text in arbiter_key or []]
    return check_bundle(files, AdapterCodec(), log_key=read_log_key(log_key), arbiter_keys=arbiters)


def _summary(checked: Checked) -> Mapping[str, object]:
    entry, report = checked.entry, checked.report
    return {
        "verdict": entry.verdict,
        "reason": entry.reason,
        "asked": entry.asked,
        "matches": entry.matches,
        "log2_e": report.get("log2_e"),
        "log2_threshold": report.get("log2_threshold"),
        "assurance_class": report["assurance_class"],
        **_delivered(checked),
        "endpoint": entry.record.endpoint,
        "decided_at": entry.time,
        "log": checked.checkpoint.origin,
        "log_size": checked.checkpoint.size,
        "log_key_fingerprint": checked.log_fingerprint,
        "authenticated": checked.is_authenticated,
    }


def _delivered(checked: Checked) -> Mapping[str, object]:
    """Say what a bundle with delivered weights rests on that no file in it shows."""
    prior = checked.assessment.evidence.prior_model
    if prior is None:
        return {}
    return {
        "weights": expect(prior.entry, ModelEntry).sha256.hex(),
        "weights_repeated": f"{prior.repeated} of {prior.answered} answers",
        "weights_word": "that they are older than the labels was checked; how many answers they repeated is the service's "
        "word: whoever has the weights asks them again",
    }


def check_steps(steps: Steps, log_key: LogKeyOption = "", as_json: JsonFlag = False) -> None:
    """Hold what the accused was told, answered and asked for, and tests of two registrants' models, against the log, offline.

    The file is the one of a dispute's link. Exit status as of `check`.
    """
    with reported(as_json=as_json):
        checked = hold_steps(read_bundle(steps), log_key=read_log_key(log_key))
        notice = next(record for record in checked.records.values() if isinstance(record, NoticeRecord))
        result = {
            "filing": notice.filing,
            "endpoint": notice.endpoint,
            "second_run_of": notice.second_run,
            "steps": [f"{number} {entry.NAME} {entry.time}" for number, entry in checked.entries.items()],
            "answers": [record.words for record in checked.records.values() if isinstance(record, AnswerRecord)],
            "cross_tests": [
                _cross_test(number, entry, notice.filing)
                for number, entry in checked.entries.items()
                if isinstance(entry, CrossTestEntry)
            ],
            "log": checked.checkpoint.origin,
            "log_size": checked.checkpoint.size,
            "authenticated": checked.is_authenticated,
        }
        show(result, as_json=as_json)
    if not checked.is_authenticated:
        if not as_json:
            console.print("consistent, log not authenticated: give --log-key and compare the fingerprint")
        raise typer.Exit(EXIT_UNAUTHENTICATED)


def _cross_test(number: int, entry: CrossTestEntry, filing: int) -> str:
    """Say what a test of two registrants' models came to; its counts are the service's word."""
    other = next(party for party in entry.parties if party.filing != filing)
    first = [party.filing for party in entry.parties if party.is_first]
    word = "not decided" if not first else "this filing's model is first" if filing in first else "the other's is first"
    return f"{number} with filing {other.filing} (verdict {other.verdict}): {word}, {entry.reason}"


def replay(
    bundle: Bundle,
    bits: Annotated[int, typer.Option(help="Strength to replay with: 64 or 80.")] = 80,
    log_key: LogKeyOption = "",
    arbiter_key: ArbiterKey = None,
    as_json: JsonFlag = False,
) -> None:
    """Recompute evidence, futility and verdict of a bundle under another policy."""
    with reported(as_json=as_json):
        if bits not in BITS:
            raise Malformed(f"bits is {BITS[0]} or {BITS[1]}, not {bits}", pointer="/bits")
        checked = _check(bundle, log_key, arbiter_key)
        # Where the other bound is not reached, there is no more to ask than the bundle holds.
        decision = decide(replace(checked.assessment.case, bits=bits, end="exhausted"))
        result = {
            "bits": bits,
            "verdict": decision.verdict,
            "reason": decision.reason,
            "asked": decision.walk.asked,
            "matches": decision.walk.matches,
            "log2_e": decision.walk.log2_e,
            "original_verdict": checked.entry.verdict,
            "authenticated": checked.is_authenticated,
        }
        show(result, as_json=as_json)


def check_vectors(
    vectors: Annotated[Path, typer.Argument(help="A file of test vectors of this protocol.")], as_json: JsonFlag = False
) -> None:
    """Check a file of the protocol's test vectors; exit status 1 with the first difference otherwise."""
    with reported(as_json=as_json):
        difference = find_difference(parse_vectors(read_file(vectors)))
        result = {"file": str(vectors), "difference": difference}
        show(result, as_json=as_json, text=difference or "every vector holds")
    if difference:
        raise typer.Exit(EXIT_NO)


def parse_vectors(data: bytes) -> dict[str, object]:
    """Read a vectors file, which holds fractions and so is no record.

    Raises: Malformed.
    """
    value = parse_loose_json(data, max_bytes=MAX_FILE_BYTES)
    if not isinstance(value, dict):
        raise Malformed("a file of vectors is one JSON object")
    return value


COMMANDS = (check, check_steps, replay, check_vectors)
