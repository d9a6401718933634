"""The KServe v1 protocol.

`POST {endpoint}/v1/models/{model}:predict` with `{"instances": [input]}`, answered by `{"predictions": [prediction]}`.
Options: `model` (part of the address); `encoding`, how the input stands there (`nested`).
Source: KServe documentation, "V1 protocol"; observed on kserve 0.21.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, text
from app.suspects.adapters.answers import answer_from, field_of, only_item_of
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, SEGMENT, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, TEXT_ENCODINGS


@dataclass(frozen=True)
class KServeV1Options(Record):
    """Where the model is."""

    model: str = field(metadata=as_form(text(1, 200, pattern=SEGMENT)))
    encoding: str = field(default="nested", metadata=as_form(choice(*NUMBER_ENCODINGS, *TEXT_ENCODINGS)))


class KServeV1(FramedAdapter):
    """The adapter `kserve_v1`."""

    about = About(
        serves="KServe, MLServer's older clients",
        unknown="what stands behind a score: probabilities and logits look alike",
        tried="live (KServe 0.21.0)",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one instance."""
        known = parse_options(KServeV1Options, options)
        return Frame(f"/v1/models/{known.model}:predict", {"instances": [HOLE]}, known.encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction."""
        return answer_from(only_item_of(field_of(response, "predictions")), score_count)
