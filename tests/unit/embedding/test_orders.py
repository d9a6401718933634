import json

import pytest

from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.orders import MAX_SEALED_KEY_BYTES, check_sealed_key
from app.errors import Malformed, TooLarge

DIGEST = "ab" * 32


def request(**changes: object) -> dict:
    return {
        "queue": "embed.cpu",
        "recipe": {"network": "mlp"},
        "train_data": DIGEST,
        "test_data": None,
        "model": None,
        **changes,
    }


def test_an_order_survives_the_database():
    order = EmbeddingOrder.from_request(request(test_data="cd" * 32))
    assert EmbeddingOrder.from_json(json.loads(json.dumps(order.to_json()))) == order
    assert order.recipe.epochs == 60


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"queue": "probe"}, "/queue"),
        ({"train_data": DIGEST[2:]}, "/train_data"),
        ({"train_data": None}, "/train_data"),
        ({"model": DIGEST}, "/model"),
        ({"recipe": {"network": "mlp", "mode": "pretrained"}}, "/model"),
        ({"recipe": {"network": "mlp", "device": "cuda"}}, "/recipe/device"),
        ({"recipe": {"network": "vgg"}}, "/recipe/network"),
        ({"recipe": {"network": "mlp", "epochs": 0}}, "/recipe/epochs"),
        ({"recipe": {"network": "mlp", "speed": 1}}, "/recipe/speed"),
    ],
)
def test_a_wrong_order_is_refused_with_a_pointer(changes, pointer):
    with pytest.raises(Malformed) as refused:
        EmbeddingOrder.from_request(request(**changes))
    assert refused.value.pointer == pointer


def test_a_gpu_order_may_demand_cuda_and_start_from_weights():
    recipe = {"network": "mlp", "mode": "pretrained", "device": "cuda"}
    order = EmbeddingOrder.from_request(request(queue="embed.gpu", recipe=recipe, model=DIGEST))
    assert order.model == bytes.fromhex(DIGEST)


def test_a_sealed_key_has_a_size():
    check_sealed_key(b"x")
    check_sealed_key(bytes(MAX_SEALED_KEY_BYTES))
    with pytest.raises(Malformed):
        check_sealed_key(b"")
    with pytest.raises(TooLarge):
        check_sealed_key(bytes(MAX_SEALED_KEY_BYTES + 1))
