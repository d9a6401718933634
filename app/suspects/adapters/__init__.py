"""One served protocol, one file: bytes in, bytes out, no I/O.

`ADAPTERS` names every protocol a filing may choose; `contract` says what an adapter does; `codec`, `png` and `answers`
hold what the protocols share.
"""

from collections.abc import Mapping

from app.errors import Malformed, SuspectMisbehaved
from app.protocol.interface import Interface
from app.suspects.adapters.azure_ml import AzureML
from app.suspects.adapters.bentoml import BentoML
from app.suspects.adapters.contract import Adapter, Answer, Request
from app.suspects.adapters.frame import FramedAdapter
from app.suspects.adapters.generic_json import GenericJson
from app.suspects.adapters.gradio import Gradio
from app.suspects.adapters.huggingface import HuggingFace
from app.suspects.adapters.kserve_v1 import KServeV1
from app.suspects.adapters.litserve import LitServe
from app.suspects.adapters.mlflow import MLflow
from app.suspects.adapters.oip_v2 import OipV2
from app.suspects.adapters.ray_serve import RayServe
from app.suspects.adapters.replicate import Replicate
from app.suspects.adapters.roboflow import Roboflow
from app.suspects.adapters.sagemaker import SageMaker
from app.suspects.adapters.tf_serving import TFServing
from app.suspects.adapters.torchserve import TorchServe
from app.suspects.adapters.vertex import Vertex

__all__ = ["ADAPTERS", "Adapter", "Answer", "Request", "check_interface", "load_adapter", "read_answer"]

ADAPTERS: Mapping[str, FramedAdapter] = {
    "azure_ml": AzureML(),
    "bentoml": BentoML(),
    "generic_json": GenericJson(),
    "gradio": Gradio(),
    "huggingface": HuggingFace(),
    "kserve_v1": KServeV1(),
    "litserve": LitServe(),
    "mlflow": MLflow(),
    "oip_v2": OipV2(),
    "ray_serve": RayServe(),
    "replicate": Replicate(),
    "roboflow": Roboflow(),
    "sagemaker": SageMaker(),
    "tf_serving": TFServing(),
    "torchserve": TorchServe(),
    "vertex": Vertex(),
}


def load_adapter(name: str) -> FramedAdapter:
    """Give the adapter of this name.

    Raises: Malformed if there is none.
    """
    if name not in ADAPTERS:
        raise Malformed("must be one of " + ", ".join(sorted(ADAPTERS)), pointer="/adapter")
    return ADAPTERS[name]


def check_interface(interface: Interface, kind: str, shape: tuple[int, ...]) -> None:
    """Accept an interface whose adapter exists and takes its options for inputs of this kind and shape.

    Raises: Malformed with a pointer.
    """
    load_adapter(interface.adapter).check_options(
        interface.options, interface.preprocessing, kind=kind, shape=tuple(shape)
    )


def read_answer(
    interface: Interface, class_count: int, status: int, body: bytes, *, ranking: bool = False
) -> tuple[tuple[str, ...], str]:
    """Give the endpoint labels in a response and "", or none and the stable word for what is wrong with it.

    `ranking`: all labels that the endpoint ranks, highest first, instead of the one that it answers with.
    """
    # Scores mapped by index must be one for each class; a name or an explicit map says itself what it knows.
    score_count = class_count if interface.label_map == {"by": "index"} else None
    adapter = load_adapter(interface.adapter)
    try:
        if adapter.next_request(interface.options, status, body) is not None:
            return (), "unfinished"
        answer = adapter.parse_response(interface.options, status, body, score_count=score_count)
    except SuspectMisbehaved as error:
        return (), error.reason
    return answer.labels if ranking else answer.said, ""
