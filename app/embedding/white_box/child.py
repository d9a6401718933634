"""The white-box child: `python -m app.embedding.white_box.child`, started by app.embedding.training_process.

Counts what a suspect's weights answer to the triggers with their own head and, if the order admits it, with a vendor's.

Invariants: the files counted with are those that the admission names, by SHA-256; nothing secret leaves but counts.
Source: docs/survival.md, "What is no evidence".
Trust: suspect and controls are strangers' files, weights or programs, read by app.embedding.networks; the parent lets no
program in here that it cannot confine.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from app.embedding.answering import count_matches
from app.embedding.artifacts import digest_of_file, is_program, write_whole
from app.embedding.attacks.heads import check_head, head_of, with_head
from app.embedding.child_order import PlainKey, SealedKey
from app.embedding.child_talk import Say, leave, speak
from app.embedding.data import LabelledSet, check_fits, trigger_set
from app.embedding.networks import (
    MAX_WEIGHTS_BYTES,
    MarkedNetwork,
    load_network,
    model_shape,
    open_network,
    read_header,
)
from app.embedding.opened_key import labels_of_key, open_marking_key
from app.embedding.train import choose_device, prepare_torch
from app.embedding.white_box.check import (
    NOT_EVIDENCE,
    WHITE_BOX_REPORT,
    Admission,
    HeadCount,
    VendorsHead,
    WhiteBoxOrder,
    WhiteBoxReport,
    own_head_of,
)
from app.errors import Malformed, PolicyRefused, TooLarge

HEAD_TENSORS = ({"weight"}, {"bias", "weight"})


def main() -> int:
    """Make one check."""
    return speak(WhiteBoxOrder, run_white_box)


def run_white_box(order: WhiteBoxOrder, secrets: PlainKey | SealedKey, _say: Say) -> WhiteBoxReport:
    """Count, and write the report.

    Raises: TrapstreetError with what has to change.
    """
    prepare_torch(order.threads)
    device = choose_device(order.device)
    key = open_marking_key(order.statement, secrets)
    triggers = trigger_set(key.inputs, labels_of_key(order.statement, order.salt, key)).to(device)
    check_fits(triggers, order.statement.kind, order.statement.shape, len(order.statement.classes))
    suspect = _read_network(order, order.suspect_path, device)
    own_head = None
    suspect_file = Path(order.suspect_path)
    if is_program(suspect_file) or read_header(suspect_file).classes == len(order.statement.classes):
        own_head = own_head_of(order.statement, count_matches(suspect, triggers, order.statement.families), order.bits)
    report = WhiteBoxReport(
        root=order.statement.root,
        suspect_sha256=digest_of_file(suspect_file),
        own_head=own_head,
        not_evidence=_with_vendors_head(order, suspect, triggers, device),
    )
    write_whole(Path(order.output_path) / WHITE_BOX_REPORT, report.encode())
    return report


def _with_vendors_head(
    order: WhiteBoxOrder, suspect: MarkedNetwork, triggers: LabelledSet, device: torch.device
) -> VendorsHead | None:
    if order.head_path is None or order.admission is None:
        return None
    head = read_head(Path(order.head_path), order.admission, triggers.inputs.cpu(), _program(order))
    if head.out_features != len(order.statement.classes):
        raise Malformed(f"the head answers {head.out_features} classes; registered are {len(order.statement.classes)}")

    def count(name: str, path: str, network: MarkedNetwork) -> HeadCount:
        try:
            check_head(network, triggers.inputs)
            matches = count_matches(with_head(network, head), triggers, order.statement.families)
        except PolicyRefused:  # another width, or no linear head of its own: there is nothing to count
            matches = None
        return HeadCount(name, digest_of_file(Path(path)), matches)

    return VendorsHead(
        admission=order.admission,
        suspect=count("suspect", order.suspect_path, suspect),
        controls=tuple(
            count(control.name, control.path, _read_network(order, control.path, device)) for control in order.controls
        ),
        note=NOT_EVIDENCE,
    )


def read_head(path: Path, admission: Admission, inputs: Tensor, program: Path | None = None) -> nn.Linear:
    """Read a head from a file of its own, or from weights, whose network has to answer some inputs by it.

    Raises: Malformed unless the file is the admitted one and holds a head; PolicyRefused if the network has none; TooLarge.
    """
    if digest_of_file(path) != admission.head_sha256:
        raise Malformed(f"{path.name} is not the head that was admitted: its SHA-256 is another")
    if is_program(path):
        raise Malformed(f"{path.name} is a program: give the head as weights of it, or in a file of its own")
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise TooLarge(f"weights may have {MAX_WEIGHTS_BYTES} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            if set(file.keys()) not in HEAD_TENSORS:
                network = load_network(path, program)
                check_head(network, inputs)
                return head_of(network)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping of safetensors' own
    except SafetensorError as error:
        raise Malformed(f"not a safetensors file: {error}") from error
    weight, bias = tensors["weight"], tensors.get("bias")
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise Malformed("a head is `weight` (classes, features) and, if it has one, `bias` (classes,)")
    if any(value.dtype != torch.float32 or not bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise Malformed("a head holds finite float32 values")
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    head.load_state_dict(tensors)
    return head


def _read_network(order: WhiteBoxOrder, path: str, device: torch.device) -> MarkedNetwork:
    shape, classes = model_shape(order.statement.kind, order.statement.shape), len(order.statement.classes)
    # What the vendor gave is believed before what the suspect's file says of a program.
    beside = (order.head_path, *(control.path for control in order.controls), order.suspect_path)
    others = [Path(other) for other in beside if other is not None]
    return open_network(Path(path), shape, classes, _program(order), others).to(device)


def _program(order: WhiteBoxOrder) -> Path | None:
    return None if order.program_path is None else Path(order.program_path)


if __name__ == "__main__":
    leave(main())
