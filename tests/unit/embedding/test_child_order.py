import io
from dataclasses import replace

import pytest

from app.embedding.child_order import ChildOrder, PlainKey, SealedKey, read_order, read_secrets, write_frames
from app.embedding.recipe import Recipe
from app.errors import Malformed
from app.keys.statement import Statement
from app.keys.trigger_set import Family


def order(**changes: object) -> ChildOrder:
    statement = Statement(
        log="log.example/test",
        vendor_key=bytes(32),
        root=bytes(32),
        count=2,
        kind="image",
        shape=(8, 8, 1),
        classes=("a", "b"),
        families=(Family("all", 0, 2),),
        label_source="beacon",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )
    values = ChildOrder(
        statement=statement,
        salt=bytes(32),
        recipe=Recipe.from_options({"network": "mlp"}),
        data_path="/data",
        test_path=None,
        weights_path=None,
        output_path="/out",
        key_form="plain",
    )
    return replace(values, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("secrets", [PlainKey(b"key\nfile"), SealedKey(bytes(32), b"sealed\n")])
def test_order_and_secrets_arrive_as_sent(secrets):
    pipe = io.BytesIO()
    sent = order(key_form=secrets.NAME)
    write_frames(pipe, sent, secrets)
    pipe.seek(0)
    received = read_order(pipe)
    assert received == sent
    assert read_secrets(pipe, received.key_form) == secrets


@pytest.mark.parametrize("kept", [0, 3, 5])
def test_a_pipe_that_ends_before_the_key_is_malformed(kept):
    pipe = io.BytesIO(b"\0\0\0\x09 key file"[:kept])
    with pytest.raises(Malformed, match="closed the pipe"):
        read_secrets(pipe, "plain")


def test_a_frame_longer_than_memory_allows_is_refused_before_it_is_read():
    with pytest.raises(Malformed, match="over the limit"):
        read_secrets(io.BytesIO(b"\xff\xff\xff\xff"), "plain")


def test_keys_are_not_shown_when_printed():
    assert "hidden" not in repr(PlainKey(b"hidden")) + repr(SealedKey(b"hidden", b"hidden"))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"salt": b""}, "/salt"),
        ({"weights_path": "/weights"}, "/weights_path"),
        ({"recipe": Recipe.from_options({"network": "mlp", "mode": "pretrained"})}, "/weights_path"),
        (
            {"recipe": Recipe.from_options({"network": "mlp", "mean_millis": [1, 2], "std_millis": [1, 2]})},
            "/recipe/mean_millis",
        ),
    ],
)
def test_an_order_whose_parts_do_not_fit_is_refused(changes, pointer):
    with pytest.raises(Malformed) as refused:
        ChildOrder.parse(order(**changes).encode())
    assert refused.value.pointer == pointer
