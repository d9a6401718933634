"""MLflow's scoring server.

`POST {endpoint}/invocations` with `{"inputs": [input]}`, answered by `{"predictions": [prediction]}`.
Options: `envelope`: "inputs" (tensors), "instances" (the same, TensorFlow's word) or "dataframe_split" (a table of one
row, as pipelines of transformers take pictures); `input_name`, the tensor's or column's name where the model's signature
has one; `encoding`.
Source: MLflow documentation, "Deploy MLflow model as a local inference server"; observed on mlflow 3.17.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.suspects.adapters.answers import answer_to_one, field_of
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, TEXT_ENCODINGS

# The column of a table whose signature names none.
USUAL_COLUMN = "image"


@dataclass(frozen=True)
class MLflowOptions(Record):
    """How the input stands in the request."""

    envelope: str = field(default="inputs", metadata=as_form(choice("inputs", "instances", "dataframe_split")))
    input_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))
    encoding: str = field(default="nested", metadata=as_form(choice(*NUMBER_ENCODINGS, *TEXT_ENCODINGS)))


class MLflow(FramedAdapter):
    """The adapter `mlflow`."""

    about = About(
        serves="MLflow's scoring server and what speaks like it (Databricks, SageMaker images made by MLflow)",
        unknown="the model's signature, which no route tells; whether scores are probabilities or logits",
        tried="live (MLflow 3.17.2)",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about a batch of one."""
        known = parse_options(MLflowOptions, options)
        match known.envelope:
            case "dataframe_split":
                rows: Any = {"columns": [known.input_name or USUAL_COLUMN], "data": [[HOLE]]}
            case "instances":
                rows = [HOLE if known.input_name is None else {known.input_name: HOLE}]
            case _:
                rows = [HOLE] if known.input_name is None else {known.input_name: [HOLE]}
        return Frame("/invocations", {known.envelope: rows}, known.encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction; a model with one named output gives an object around it."""
        predictions = field_of(response, "predictions")
        if isinstance(predictions, dict) and len(predictions) == 1:
            (predictions,) = predictions.values()
        return answer_to_one(predictions, score_count)
