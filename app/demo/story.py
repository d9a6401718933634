"""The story: register, mark, six disputes, and a verdict that anyone can recheck. Everything in it is computed.

Six rows, one dispute each: four suspects of the owner's registration (one family each), and a liar's claim against an
innocent model, once with labels he chose (class B) and once with labels the beacon drew (class A).
Source: the three paths of docs/architecture in README; Adi et al. 2018; Liu et al. 2024 for the liar.
"""

import json
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.cli.client import ApiClient, file_dispute
from app.demo.stage import Stage, Workshop
from app.demo.teller import Bar, Teller
from app.demo.vendors import FAMILIES, POLL_SECONDS, Party, embed, key_path, make_key, register, register_liar, sign_up
from app.errors import ProofError
from app.merkle.checkpoint import parse_verifier_key
from app.protocol.bundle import check_bundle
from app.protocol.interface import BY_CLAIMANT, Interface
from app.protocol.records import FilingRecord, Policy
from app.storage.archive import unpack
from app.suspects.adapter_codec import AdapterCodec

# The model servers' protocol with its defaults: priced at 8 bits.
INTERFACE = Interface(adapter="kserve_v1", options={"model": "digits"}, preprocessing={}, label_map={"by": "index"})

# What must come out; the exit status says whether it did. An innocent endpoint must not be confirmed; that 128
# triggers do not suffice to let it go happens to one in 35, and is then said to be INCONCLUSIVE.
LET_GO = ("NOT_SUPPORTED", "INCONCLUSIVE")
EXPECTED = {
    ("stolen", "A"): ("CONFIRMED",),
    ("fine-tuned", "A"): ("CONFIRMED",),
    ("pruned", "A"): ("CONFIRMED",),
    ("independent", "A"): LET_GO,
    ("framed", "B"): ("INDICATIVE",),
    ("framed", "A"): LET_GO,
}


@dataclass
class Filed:
    """One dispute of the demonstration."""

    suspect: str
    party: Party
    dispute_id: str
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def assurance_class(self) -> str:
        """Give the assurance class of the registration."""
        return self.party.statement.assurance_class if self.party.statement else ""

    def row(self) -> dict[str, Any]:
        """Give the dispute's row of the table."""
        return {
            "suspect": self.suspect,
            "class": self.assurance_class,
            "asked": self.state["asked"],
            "matches": self.state["matches"],
            "log2_e": self.state["log2_e"],
            "paper_rule": self.state["paper_rule"],
            "verdict": self.state["verdict"],
        }


@dataclass(frozen=True)
class Told:
    """What came of the story: the table's rows, the log's key, the owner's API key and id, and each dispute's bundle file."""

    rows: list[dict[str, Any]]
    log_key: str
    api_key: str
    vendor_id: str
    bundles: dict[str, Path]


def tell(stage: Stage, teller: Teller) -> Told:
    """Run the whole story on a stage, up to the verdicts and their bundles.

    Raises: ProofError if a check fails that must hold; TrapstreetError if the service refuses or fails.
    """
    with teller.step("start Postgres, API, light worker and training worker"):
        preparing = stage.workshop("prepare")
        stage.start_service()
        sizes = preparing.result()
        log_key = _read_log_key(stage)
        teller.fact("API", stage.url)
        teller.fact("digits", f"{sizes['train']} to train on, {sizes['test']} to test, {sizes['covers']} covers")
    apart, lies = stage.workshop("train-apart"), stage.workshop("lie")
    with teller.step("the owner makes a marking key, registers its root, verifies the receipt"):
        owner = sign_up(stage, "Owner GmbH", make_key(stage), log_key)
        register(owner, FAMILIES, teller)
    with teller.step("the worker trains the mark into a network") as bar:
        embed(stage, owner, teller, bar)
    with teller.step("a thief copies and alters it; an outsider trains apart; a liar prepares"):
        _make_suspects(stage, apart, lies, teller)
    with teller.step("the liar registers his pictures twice: with labels of his own, of the beacon"):
        liars = [register_liar(stage, log_key, teller, chosen=chosen) for chosen in (True, False)]
    with teller.step("six disputes, openings by three agents, probing by the worker") as bar:
        disputes = _file_all(stage, owner, liars)
        for party in (owner, *liars):
            stage.start_agent(f"agent-{party.name}", key_path(stage, party), party.api_key, log_key)
        _wait_for_verdicts(disputes, bar)
    rows = [filed.row() for filed in disputes]
    _show_table(teller, rows)
    bundles = {filed.suspect + "-" + filed.assurance_class: _bundle(stage, filed) for filed in disputes}
    vendor_id = owner.client.get("/v1/vendors/me")["id"]
    for party in (owner, *liars):
        party.client.__exit__(None, None, None)
    return Told(rows, log_key, owner.api_key, vendor_id, bundles)


def check_offline(teller: Teller, log_key: str, bundles: dict[str, Path], *, is_stopped: bool) -> None:
    """Check every bundle in a process that needs no server, and that one flipped byte in any file is found.

    Raises: ProofError if a bundle fails, or a forged one does not.
    """
    server = "the server is stopped; " if is_stopped else ""
    with teller.step(f"{server}`trapstreet check` recomputes each verdict"):
        for name, path in bundles.items():
            command = [sys.executable, "-m", "app.cli", "check", str(path), "--log-key", log_key, "--json"]
            done = subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parents[2])
            if done.returncode:
                raise ProofError(f"check of {name} ended with {done.returncode}: {done.stdout!r} {done.stderr!r}")
            teller.fact(name, json.loads(done.stdout)["verdict"])
    with teller.step("one byte flipped in each file of a bundle, one file at a time") as bar:
        files = unpack(bundles["stolen-A"].read_bytes())
        for number, name in enumerate(sorted(files)):
            bar.move(number / len(files), name)
            reason = _reason_when_flipped(files, name, log_key)
            if name in ("queries.jsonl", "report.json"):
                teller.fact(name, reason)
        teller.fact("refused", f"all {len(files)}")


def _reason_when_flipped(files: dict[str, bytes], name: str, log_key: str) -> str:
    data = bytearray(files[name])
    data[secrets.randbelow(len(data))] ^= 1
    try:
        check_bundle(files | {name: bytes(data)}, AdapterCodec(), log_key=parse_verifier_key(log_key)[1])
    except ProofError as error:
        return error.message
    raise ProofError(f"a flipped byte in {name} was not found")


def _read_log_key(stage: Stage) -> str:
    with ApiClient(stage.url) as client:
        return client.text("/v1/log/key").strip()


def _make_suspects(stage: Stage, apart: Workshop, lies: Workshop, teller: Teller) -> None:
    accuracies = stage.workshop("steal").result() | apart.result()
    lies.result()
    for name, accuracy in accuracies.items():
        teller.fact(name, f"task accuracy {float(accuracy):.1%}")
        stage.start_suspect(name)


def _file_all(stage: Stage, owner: Party, liars: list[Party]) -> list[Filed]:
    urls = {name: stage.suspect_url(name) for name in ("stolen", "fine-tuned", "pruned", "independent", "framed")}
    covers = {
        id(party): party.client.upload(stage.folder / "covers.json", "application/json") for party in (owner, *liars)
    }
    plan = [(name, owner, family.name) for name, family in zip(urls, FAMILIES, strict=False)]
    plan += [("framed", liar, "lies") for liar in liars]
    return [Filed(name, party, _file(party, urls[name], family, covers[id(party)])) for name, party, family in plan]


def _file(party: Party, endpoint: str, family: str, covers: str) -> str:
    # The paper's scheme asks every trigger; 128 of the liar's chosen ones are as convincing as all of them.
    is_class_a = party.key.labels is None
    record = FilingRecord(
        registration=party.entry_index,
        family=family,
        endpoint=endpoint,
        interface=INTERFACE,
        interface_origin=BY_CLAIMANT,
        evidence="label",
        policy=Policy(
            bits=64,
            max_triggers=256 if is_class_a else 128,
            covers_per_trigger=10,
            block_size=16,
            attempts=3,
            answer="first",
            opening_seconds=600,
            lookahead=1,
        ),
    )
    body = {"name": endpoint, "endpoint": endpoint, "interface": INTERFACE.to_json()}
    suspect = party.client.post("/v1/suspects", body)
    return str(file_dispute(party.client, suspect["id"], record, party.private_key, covers)["id"])


def _wait_for_verdicts(disputes: list[Filed], bar: Bar) -> None:
    while True:
        for filed in disputes:
            if filed.state.get("verdict") is None:
                filed.state = filed.party.client.get(f"/v1/disputes/{filed.dispute_id}")
        decided = [filed for filed in disputes if filed.state["verdict"] is not None]
        if len(decided) == len(disputes):
            return
        bar.move(len(decided) / len(disputes), f"{len(decided)} of {len(disputes)} decided")
        time.sleep(POLL_SECONDS)


def _bundle(stage: Stage, filed: Filed) -> Path:
    path = stage.folder / "bundles" / f"{filed.suspect}-{filed.assurance_class}.zip"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(filed.party.client.download(f"/v1/disputes/{filed.dispute_id}/evidence"))
    return path


def _show_table(teller: Teller, rows: list[dict[str, Any]]) -> None:
    columns = ["suspect", "class", "asked", "matches", "log2 E", "paper's rule", "verdict"]
    cells = [
        [
            row["suspect"],
            row["class"],
            str(row["asked"]),
            str(row["matches"]),
            "-" if row["log2_e"] is None else f"{float(row['log2_e']):.1f}",
            "accepts" if row["paper_rule"] else "rejects",
            row["verdict"],
        ]
        for row in rows
    ]
    teller.table("verdicts", columns, cells)


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """Explain a verdict that is right and yet looks odd."""
    return [
        f"{row['suspect']} (class {row['class']}): {row['asked']} triggers did not suffice to let it go; this happens to one "
        "innocent endpoint in 35; that it is confirmed has a chance below 2^-64"
        for row in rows
        if row["verdict"] == "INCONCLUSIVE"
    ]


def surprises(rows: list[dict[str, Any]]) -> list[str]:
    """Name every verdict that is not the expected one."""
    found = {(row["suspect"], row["class"]): row["verdict"] for row in rows}
    return [
        f"{suspect} (class {kind}): {found.get((suspect, kind))} instead of {' or '.join(verdicts)}"
        for (suspect, kind), verdicts in EXPECTED.items()
        if found.get((suspect, kind)) not in verdicts
    ]
