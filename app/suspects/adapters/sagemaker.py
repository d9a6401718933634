"""Amazon SageMaker: real-time endpoints.

`POST {endpoint}`, the URL that the console shows (`…/endpoints/NAME/invocations`), with whatever the container behind it
takes: a picture as the whole body (built-in algorithms, Hugging Face's container), `{"instances": [numbers]}`
(TensorFlow's), `[numbers]` (PyTorch's) or `{"inputs": picture in base64}`; answered by `[p0, p1, …]`,
`{"predictions": […]}`, `{"probabilities": […]}` or `[{"label", "score"}]`. A response is passed through unread.
Options: `model`, an inference component, and `version`, a production variant (both part of the address); `encoding`;
`envelope`, what stands around it; `media_type` where a container insists on its own name for pictures.
The request is signed (SigV4) by who sends it, over exactly the headers and the body given here.
Source: SageMaker API reference, "InvokeEndpoint"; SageMaker developer guide, "Common data formats for inference" and
"Image Classification - MXNet"; Hugging Face inference toolkit, content types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.errors import Malformed
from app.suspects.adapters.answers import answer_to_one
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import BODY_ENCODINGS, NUMBER_ENCODINGS, TEXT_ENCODINGS

# Names of variants and inference components, as the service allows them.
NAME = r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}"

ENVELOPES: Mapping[str, Any] = {"bare": [HOLE], "instances": {"instances": [HOLE]}, "inputs": {"inputs": HOLE}}


@dataclass(frozen=True)
class SageMakerOptions(Record):
    """Which model behind the endpoint, and what its container takes."""

    model: str | None = field(default=None, metadata=as_form(nullable(text(1, 63, pattern=NAME))))
    version: str | None = field(default=None, metadata=as_form(nullable(text(1, 63, pattern=NAME))))
    encoding: str = field(default="png", metadata=as_form(choice(*BODY_ENCODINGS, *NUMBER_ENCODINGS, *TEXT_ENCODINGS)))
    envelope: str | None = field(default=None, metadata=as_form(nullable(choice(*ENVELOPES))))
    media_type: str | None = field(default=None, metadata=as_form(nullable(choice("application/x-image"))))

    def check(self, pointer: str) -> None:
        """Refuse what does not belong to the encoding."""
        if self.envelope is not None and self.encoding in BODY_ENCODINGS:
            raise Malformed("a picture as the whole body has no envelope", pointer=f"{pointer}/envelope")
        if self.media_type is not None and self.encoding not in BODY_ENCODINGS:
            raise Malformed("only a picture as the whole body is sent as x-image", pointer=f"{pointer}/media_type")


class SageMaker(FramedAdapter):
    """The adapter `sagemaker`."""

    about = About(
        serves="Amazon SageMaker real-time endpoints",
        unknown="what the container behind the endpoint takes and means: probabilities and logits look alike",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about a batch of one."""
        known = parse_options(SageMakerOptions, options)
        headers = (
            ("x-amzn-sagemaker-inference-component", known.model),
            ("x-amzn-sagemaker-target-variant", known.version),
        )
        envelope = known.envelope or ("instances" if known.encoding in NUMBER_ENCODINGS else "inputs")
        return Frame(
            "",
            None if known.encoding in BODY_ENCODINGS else ENVELOPES[envelope],
            known.encoding,
            media_type=known.media_type,
            more_headers=tuple((name, value) for name, value in headers if value is not None),
        )

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction, inside its envelope or outside."""
        if isinstance(response, dict) and "predictions" in response:
            response = response["predictions"]
        return answer_to_one(response, score_count)
