"""TorchServe (archived in 2025, still found).

`POST {endpoint}/predictions/{model}[/{version}]` with a picture as the whole body, or JSON, answered by whatever the
handler gives: of the built-in image classifier an object of probabilities by label, of others an array of scores.
Options: `model`, `version` (the address); `encoding`, by default a picture, or numbers where no picture can be;
`envelope` for JSON: null is the input by itself, as the built-in handlers read it, "instances" the KServe envelope, "data"
and "body" the fields that handlers look into.
Source: TorchServe documentation, "Inference API", "Default handlers"; observed on torchserve 0.12.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.errors import Malformed
from app.suspects.adapters.answers import answer_to_one, inside_envelope
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, SEGMENT, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import BODY_ENCODINGS, NUMBER_ENCODINGS, TEXT_ENCODINGS, usual_encoding

ENVELOPES: Mapping[str | None, Any] = {
    None: HOLE,
    "instances": {"instances": [HOLE]},
    "data": {"data": HOLE},
    "body": {"body": HOLE},
}


@dataclass(frozen=True)
class TorchServeOptions(Record):
    """Where the model is, and what its handler takes."""

    model: str = field(metadata=as_form(text(1, 200, pattern=SEGMENT)))
    version: str | None = field(default=None, metadata=as_form(nullable(text(1, 200, pattern=SEGMENT))))
    encoding: str | None = field(
        default=None, metadata=as_form(nullable(choice(*BODY_ENCODINGS, *NUMBER_ENCODINGS, *TEXT_ENCODINGS)))
    )
    envelope: str | None = field(default=None, metadata=as_form(choice(*ENVELOPES)))

    def check(self, pointer: str) -> None:
        """Refuse an envelope around a whole body."""
        if self.envelope is not None and self.encoding in BODY_ENCODINGS:
            raise Malformed("a picture as the whole body has no envelope", pointer=f"{pointer}/envelope")


class TorchServe(FramedAdapter):
    """The adapter `torchserve`."""

    about = About(
        serves="TorchServe",
        unknown="what a handler takes and gives: its metadata says neither; labels in plain text, which are no JSON",
        tried="live (TorchServe 0.12.0)",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one input."""
        known = parse_options(TorchServeOptions, options)
        version = "" if known.version is None else f"/{known.version}"
        usual = "png" if known.envelope is None else "png_base64"
        encoding = known.encoding or usual_encoding(usual, rules, kind)
        body = None if encoding in BODY_ENCODINGS else ENVELOPES[known.envelope]
        return Frame(f"/predictions/{known.model}{version}", body, encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction, inside the KServe envelope or outside."""
        return answer_to_one(inside_envelope(response), score_count)
