"""What the form for a report takes over from an embedding."""

import pytest

from app.db.tables import EmbeddingRow
from app.embedding.embedding_order import EmbeddingOrder
from app.portal.pages_survival import program_of


@pytest.mark.parametrize(
    ("network", "mode", "model", "program"),
    [
        ("exported", "pretrained", "ab" * 32, "ab" * 32),
        ("mlp", "pretrained", "ab" * 32, ""),
        ("mlp", "scratch", None, ""),
    ],
)
def test_weights_of_an_exported_program_bring_it_along_and_no_others_do(network, mode, model, program):
    body = {"queue": "embed.cpu", "train_data": "cd" * 32, "test_data": None, "model": model}
    order = EmbeddingOrder.from_request({**body, "recipe": {"network": network, "mode": mode}})
    assert program_of(EmbeddingRow(order_json=order.to_json())) == program
