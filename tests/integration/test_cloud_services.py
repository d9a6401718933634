"""Cloud services asked through the real probe over HTTP: each simulated from its documentation, none ever live."""

from types import SimpleNamespace

import pytest

from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.credentials import HeaderCredentials
from app.suspects.probe import Manner, Suspect, ask
from app.suspects.transport import Limits
from tests.integration.asking import RULES, now, question
from tests.simulators.cloud import (
    NAMES,
    TOKEN,
    VERSION,
    AzureML,
    HuggingFace,
    Replicate,
    Roboflow,
    SageMaker,
    Vertex,
)

MANNER = Manner(attempts=1, limits=Limits(connect_seconds=1, read_seconds=5, total_seconds=10))


# What an auditor's codec needs of a statement.
STATEMENT = SimpleNamespace(kind="image", shape=(8, 8, 1), classes=NAMES)


def by_first_pixel(pixels):
    """Score the class that is the first pixel modulo ten highest, and then those above it in turn."""
    return [1 - ((label - pixels[0]) % 10) / 10 for label in range(10)]


def order_from(label):
    return tuple(NAMES[(label + step) % 10] for step in range(10))


def asked_of(service, adapter, options, *, by="name", ranking=False, count=10, manner=MANNER):
    interface = Interface(adapter, options, {}, {"by": by})
    suspect = Suspect(
        service.url,
        interface,
        10,
        credentials=HeaderCredentials(kind="headers", headers={"authorization": TOKEN}),
        by_ranking=ranking,
    )
    asked = ask([question(n) for n in range(count)], suspect, RULES, manner, now)
    for each in asked:
        verify_audited(each, interface, ranking=ranking)
    return asked


def verify_audited(asked, interface, *, ranking):
    """Read request and response again as an auditor does, from the recorded bytes alone."""
    codec, sent = AdapterCodec(), question(asked.n).input
    assert codec.decode_request(interface, asked.request, STATEMENT, sent) == sent
    read = codec.read_answer(interface, asked.status, asked.response, STATEMENT, ranking=ranking)
    assert read == (asked.labels, asked.error)


@pytest.mark.parametrize(
    ("service", "adapter", "options"),
    [
        (HuggingFace, "huggingface", {}),
        (HuggingFace, "huggingface", {"top_k": 10}),
        (HuggingFace, "huggingface", {"encoding": "jpeg"}),
        (Vertex, "vertex", {}),
        (AzureML, "azure_ml", {}),
        (AzureML, "azure_ml", {"version": "green"}),
        (Roboflow, "roboflow", {}),
    ],
)
def test_a_service_that_answers_with_names_is_understood(service, adapter, options):
    with service(by_first_pixel) as running:
        asked = asked_of(running, adapter, options)
        ranked = asked_of(running, adapter, options, ranking=True)
    assert [(each.labels, each.error) for each in asked] == [((NAMES[n],), "") for n in range(10)]
    for n, each in enumerate(ranked):
        shown = 5 if adapter == "huggingface" and "top_k" not in options else 10
        assert each.labels == order_from(n)[:shown]


@pytest.mark.parametrize(
    "options",
    [{}, {"version": "Canary"}, {"media_type": "application/x-image"}, {"encoding": "jpeg"}, {"encoding": "nested"}],
)
def test_a_container_that_answers_with_scores_is_understood(options):
    with SageMaker(by_first_pixel) as running:
        asked = asked_of(running, "sagemaker", options, by="index")
    assert [(each.labels, each.error) for each in asked] == [((str(n),), "") for n in range(10)]


def test_a_model_with_several_labels_at_once_is_read_by_its_confidences():
    with Roboflow(by_first_pixel) as running:
        running.is_multi_label = True
        asked = asked_of(running, "roboflow", {}, ranking=True)
    assert [each.labels for each in asked] == [order_from(n) for n in range(10)]


def test_a_model_that_is_loading_is_waited_for():
    with HuggingFace(by_first_pixel) as running:
        running.loading = 2
        asked = asked_of(running, "huggingface", {}, count=1, manner=Manner(attempts=3, backoff_seconds=0.01))
    assert [(each.labels, each.error, each.attempt) for each in asked] == [((NAMES[0],), "", 3)]


@pytest.mark.parametrize(
    ("service", "adapter", "options", "error"),
    [
        (AzureML, "azure_ml", {"version": "purple"}, "status_404"),
        (SageMaker, "sagemaker", {"version": "purple"}, "status_400"),
        (Replicate, "replicate", {"version": VERSION[::-1]}, "status_422"),
        (Replicate, "replicate", {"model": "owner/other"}, "status_404"),
    ],
)
def test_a_model_that_is_not_there_is_a_named_error(service, adapter, options, error):
    with service(by_first_pixel) as running:
        asked = asked_of(running, adapter, options, count=1)
    assert [(each.labels, each.error) for each in asked] == [((), error)]


def test_a_prediction_that_is_finished_at_once_is_understood():
    with Replicate(by_first_pixel) as running:
        running.looks = 0
        asked = asked_of(running, "replicate", {"version": VERSION})
    assert [(each.labels, each.error) for each in asked] == [((NAMES[n],), "") for n in range(10)]
