"""Commands that ask what a mark survives: survive, white-box. The work is done in child processes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.canonical import parse_loose_json, timestamp
from app.cli.client import ApiClient, LogView
from app.cli.files import check_readable, read_key_file
from app.cli.keygen import PassphraseFile
from app.cli.output import JsonFlag, console, reported, show
from app.cli.vendor import DEFAULT_URL, ApiKey, LogKey, Url, read_registration
from app.embedding.artifacts import digest_of_file
from app.embedding.attacks.catalogue import suite
from app.embedding.child_order import PlainKey
from app.embedding.survival.order import QUICK_SETTINGS, SURVIVAL_PAGE, SurvivalOrder, SurvivalReport, SurvivalSettings
from app.embedding.survival.report import percent_text
from app.embedding.training_process import run_survival, run_white_box
from app.embedding.white_box.check import Admission, Control, WhiteBoxOrder, WhiteBoxReport, admit_head
from app.errors import Malformed, PolicyRefused
from app.keys.commitment import check_marking_key
from app.keys.key_file import encode_key_file


def survive(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    weights: Annotated[Path, typer.Option(help="The marked network that is attacked.")],
    data: Annotated[Path, typer.Option(help="The training data, of which the attacker has a share.")],
    out: Annotated[Path, typer.Option(help="Folder for report and page; a killed run goes on there.")],
    test_data: Annotated[Path | None, typer.Option(help="Test data; else a share of --data is held out.")] = None,
    attacker_data: Annotated[Path | None, typer.Option(help="The attacker's own data, instead of a share.")] = None,
    plain: Annotated[
        Path | None, typer.Option(help="The same network without the mark, weights or .pt2, as the control.")
    ] = None,
    program: Annotated[Path | None, typer.Option(help="The .pt2 program whose weights these are, if they are.")] = None,
    transfer_data: Annotated[Path | None, typer.Option(help="Another task's data, for the attack transfer.")] = None,
    transfer_classes: Annotated[str, typer.Option(help="Classes of --transfer-data, separated by commas.")] = "",
    attacks: Annotated[str, typer.Option(help="Attacks, separated by commas; steps of one joined by +.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="One attack of each kind and fewer epochs.")] = False,
    settings: Annotated[str, typer.Option(help="Settings as JSON, see docs/survival.md.")] = "{}",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Attack a marked network as a thief would, and report what the mark survives."""
    with reported(as_json=as_json):
        key = read_key_file(key_file, passphrase_file)
        with ApiClient(url, api_key, log_key) as client:
            statement, _, salt = read_registration(client, registration)
        check_marking_key(key, statement)
        check_readable(weights, data, test_data, attacker_data, plain, program, transfer_data)
        chosen = attacks.split(",") if attacks else suite(statement.kind, quick=quick, has_transfer=bool(transfer_data))
        order = SurvivalOrder(
            statement=statement,
            salt=salt if key.labels is None else b"",
            settings=read_settings(settings, list(chosen), quick=quick),
            weights_path=str(weights.absolute()),
            data_path=str(data.absolute()),
            test_path=_path(test_data),
            attacker_path=_path(attacker_data),
            plain_path=_path(plain),
            transfer_path=_path(transfer_data),
            transfer_classes=tuple(name for name in transfer_classes.split(",") if name),
            output_path=str(out.absolute()),
            key_form="plain",
            program_path=_path(program),
        )
        report = run_with_progress(order, PlainKey(encode_key_file(key)))
        show(report.to_json() if as_json else describe(report), as_json=as_json)


def read_settings(text: str, attacks: list[str], *, quick: bool) -> SurvivalSettings:
    """Read settings as typed; the attacks come from their own option.

    Raises: Malformed with a pointer to the setting at fault.
    """
    options = parse_loose_json(text.encode())
    if not isinstance(options, dict):
        raise Malformed("settings are one JSON object", pointer="/settings")
    return SurvivalSettings.from_options({"attacks": attacks, **(QUICK_SETTINGS if quick else {}), **options})


def run_with_progress(order: SurvivalOrder, key: PlainKey) -> SurvivalReport:
    """Run a report in its child and show how far it is.

    Raises: TrainingFailed.
    """
    from app.settings import load_settings

    SurvivalOrder.parse(order.encode())  # refused here, before a process is started for it
    Path(order.output_path).mkdir(parents=True, exist_ok=True)
    with console.status("reading data", spinner="line") as status:

        def on_event(event: dict[str, Any]) -> None:
            if event.get("event") == "progress":
                at = f"attack {event['number']} of {event['attacks']}: {event['attack']}"
                status.update(f"{at}, epoch {event['epoch']} of {event['epochs']}" if event["epochs"] else at)

        limits = load_settings().training_limits
        return run_survival(order, key, on_event, lambda: False, limits=limits)


def describe(report: SurvivalReport) -> dict[str, str]:
    """Say in words what each attack left."""
    told = {}
    for row in (report.marked, report.plain, *report.attacks):
        if row is not None:
            measured = row.measured
            count = "no answers of this task" if measured.matches is None else f"{sum(measured.matches)} triggers"
            if measured.pirate is not None:
                count += f" (of the pirate's own {measured.pirate[1]}: {measured.pirate[0]})"
            task = percent_text(measured.task_correct, measured.task_total)
            told[measured.attack] = f"task {task}, {count}, {row.verdict}"
    told |= {skipped.attack: f"not made: {skipped.reason}" for skipped in report.skipped}
    return told | {"in short": report.summary, "page": SURVIVAL_PAGE}


def _path(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


def white_box(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    suspect: Annotated[Path, typer.Option(help="The suspect: weights (safetensors) or a .pt2 program.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    head: Annotated[Path | None, typer.Option(help="The vendor's own head, or weights that hold it.")] = None,
    head_entry: Annotated[int | None, typer.Option(help="Log index of the model entry of --head.")] = None,
    suspect_entry: Annotated[
        list[int] | None, typer.Option(help="Log index of a model entry of the suspect's weights. Repeatable.")
    ] = None,
    suspect_since: Annotated[str, typer.Option(help="Since when the suspect's weights are known, in UTC.")] = "",
    control: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE of a network without the mark, weights or .pt2. Repeatable.")
    ] = None,
    program: Annotated[Path | None, typer.Option(help="The .pt2 program whose weights these are, if they are.")] = None,
    bits: Annotated[int, typer.Option(help="Strength: 64 or 80.")] = 64,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a suspect's weights, where they are at hand. With --head also a count that is no evidence."""
    with reported(as_json=as_json):
        key = read_key_file(key_file, passphrase_file)
        controls = [read_control(item) for item in control or []]
        check_readable(suspect, head, program, *(Path(item.path) for item in controls))
        with ApiClient(url, api_key, log_key) as client:
            statement, _, salt = read_registration(client, registration)
            check_marking_key(key, statement)
            admission = ask_admission(client.log, head, head_entry, suspect, suspect_entry or [], suspect_since)
        order = WhiteBoxOrder(
            statement=statement,
            salt=salt if key.labels is None else b"",
            suspect_path=str(suspect.absolute()),
            head_path=_path(head),
            admission=admission,
            controls=tuple(controls),
            bits=bits,
            device="auto",
            threads=0,
            output_path=str(out.absolute()),
            key_form="plain",
            program_path=_path(program),
        )
        report = ask_weights(order, PlainKey(encode_key_file(key)))
        show(report.to_json() if as_json else describe_white_box(report), as_json=as_json)


def ask_weights(order: WhiteBoxOrder, key: PlainKey) -> WhiteBoxReport:
    """Run a white-box check in its child.

    Raises: TrainingFailed.
    """
    from app.settings import load_settings

    WhiteBoxOrder.parse(order.encode())  # refused here, before a process is started for it
    Path(order.output_path).mkdir(parents=True, exist_ok=True)
    with console.status("asking the suspect's weights", spinner="line"):
        return run_white_box(order, key, lambda: False, limits=load_settings().training_limits)


def ask_admission(
    log: LogView, head: Path | None, head_entry: int | None, suspect: Path, suspect_entries: list[int], since: str
) -> Admission | None:
    """Read the entries that date head and suspect from the log, proven, and ask whether the head may be tried.

    Raises: PolicyRefused; ProofError; Malformed.
    """
    if head is None:
        return None
    if head_entry is None:
        raise PolicyRefused("a head that was not committed to in the log is not tried: give --head-entry")
    given = timestamp().parse(since, "/suspect_since") if since else None
    entries = [log.entry(index) for index in suspect_entries]
    return admit_head(log.entry(head_entry), digest_of_file(head), digest_of_file(suspect), entries, given)


def read_control(text: str) -> Control:
    """Read NAME=FILE.

    Raises: Malformed.
    """
    name, _, path = text.partition("=")
    if not name or not path:
        raise Malformed(f"{text!r} is no control: write NAME=FILE, such as unmarked=plain.safetensors")
    return Control(name, str(Path(path).absolute()))


def describe_white_box(report: WhiteBoxReport) -> dict[str, str]:
    """Say in words what came of a white-box check; what is no evidence is called so."""
    told = {"suspect": report.suspect_sha256.hex()}
    if report.own_head is None:
        told["own head"] = "answers other classes than the registered ones"
    else:
        own = report.own_head
        told["own head"] = f"{sum(own.matches)} triggers match"
        if own.log2_e is not None:
            told["log2 E by family"] = f"{', '.join(own.log2_e)} (threshold {own.log2_threshold})"
    if (apart := report.not_evidence) is not None:
        for count in (apart.suspect, *apart.controls):
            matched = "the head does not fit" if count.matches is None else f"{sum(count.matches)} triggers match"
            told[f"not evidence: {count.name}"] = f"{matched} with the vendor's head"
    return told


COMMANDS = (survive, white_box)
