"""Cloud services asked through the real probe over HTTP: each simulated from its documentation, none ever live."""

import hashlib
from types import SimpleNamespace

import pytest

from app.keys.trigger_set import ImageInput
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.credentials import HeaderCredentials
from app.suspects.probe import Manner, Question, Suspect, ask
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

KEY = HeaderCredentials(kind="headers", headers={"authorization": TOKEN})
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
    suspect = Suspect(service.url, interface, 10, credentials=KEY, by_ranking=ranking)
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


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_prediction_is_looked_at_until_it_is_finished_and_only_where_we_say(looks):
    with Replicate(by_first_pixel) as running:
        running.looks = looks
        asked = asked_of(running, "replicate", {"version": VERSION})
        assert running.lured == 0
        gets = [path for method, path, _ in running.seen if method == "GET"]
    assert [(each.labels, each.error) for each in asked] == [((NAMES[n],), "") for n in range(10)]
    assert len(gets) == 10 * looks
    assert set(gets) == {f"/v1/predictions/{name}" for name in running.predictions} or not looks


@pytest.mark.parametrize("ends_as", ["failed", "canceled", "aborted"])
def test_a_prediction_that_fails_is_a_named_error(ends_as):
    with Replicate(by_first_pixel) as running:
        running.ends_as = ends_as
        asked = asked_of(running, "replicate", {"version": VERSION}, count=1)
    assert [(each.labels, each.error) for each in asked] == [((), "reported_error")]


def test_a_prediction_that_never_ends_is_unfinished():
    with Replicate(by_first_pixel) as running:
        running.looks = 10**6
        manner = Manner(attempts=1, limits=Limits(connect_seconds=1, read_seconds=1, total_seconds=1.5))
        asked = asked_of(running, "replicate", {"version": VERSION}, count=1, manner=manner)
    assert [(each.labels, each.error) for each in asked] == [((), "unfinished")]


def test_an_answer_may_repeat_the_question_that_it_belongs_to():
    with Replicate(by_first_pixel) as running:
        # Random pixels, which no PNG makes smaller: more than an answer alone could be.
        picture = ImageInput(256, 256, 1, bytes([7, *hashlib.shake_128(b"noise").digest(256 * 256 - 1)]))
        interface = Interface("replicate", {"version": VERSION}, {}, {"by": "name"})
        suspect = Suspect(running.url, interface, 10, credentials=KEY)
        asked = ask([Question(0, picture.encode())], suspect, RULES, MANNER, now)
    assert [(each.labels, each.error) for each in asked] == [((NAMES[7],), "")]
    assert len(asked[0].response) > len(asked[0].request) > 64 * 1024
