"""Azure Machine Learning: online endpoints.

`POST {endpoint}`, the scoring URL that the studio shows (`…/score`). MLflow models, AutoML's among them, take a table,
`{"input_data": {"columns": ["image"], "data": [picture in base64]}}`, or an array, `{"input_data": [numbers]}`; scoring
scripts of the owner's often `{"data": [numbers]}`. Answered by `[{"labels": […], "probs": […]}]` or whatever the model
gives, an array of one.
Options: `version`, the deployment behind the endpoint (part of the address); `encoding`; `envelope`, the field around it.
Source: Azure Machine Learning documentation, "Data schemas to train computer vision models with automated machine
learning", online scoring; "Deploy models for scoring", `azureml-model-deployment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.suspects.adapters.answers import answer_to_one, refuse_reported_error, unwrapped
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, TEXT_ENCODINGS

# Names of deployments, as the service allows them.
NAME = r"[a-zA-Z][a-zA-Z0-9-]{2,31}"


@dataclass(frozen=True)
class AzureMLOptions(Record):
    """Which deployment, and what its model takes."""

    version: str | None = field(default=None, metadata=as_form(nullable(text(3, 32, pattern=NAME))))
    encoding: str = field(default="png_base64", metadata=as_form(choice(*TEXT_ENCODINGS, *NUMBER_ENCODINGS)))
    envelope: str = field(default="input_data", metadata=as_form(choice("input_data", "data")))


class AzureML(FramedAdapter):
    """The adapter `azure_ml`."""

    about = About(
        serves="Azure Machine Learning online endpoints: MLflow models, AutoML, scoring scripts",
        unknown="which deployment answered where none is named; what a scoring script's numbers mean",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one row."""
        known = parse_options(AzureMLOptions, options)
        is_table = known.encoding in TEXT_ENCODINGS and known.envelope == "input_data"
        rows: Any = {"columns": ["image"], "data": [HOLE]} if is_table else [HOLE]
        headers = () if known.version is None else (("azureml-model-deployment", known.version),)
        return Frame("", {known.envelope: rows}, known.encoding, more_headers=headers)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction, inside its envelope or outside."""
        response = unwrapped(response)
        refuse_reported_error(response)
        if isinstance(response, dict) and "predictions" in response:
            response = response["predictions"]
        return answer_to_one(response, score_count)
