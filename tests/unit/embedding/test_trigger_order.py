import pytest

from app.embedding.trigger_order import FamilyOrder, TriggerOrder
from app.errors import Malformed

NOISE = FamilyOrder("noise", 4)


def test_an_order_reads_back_as_it_was_written():
    order = TriggerOrder(
        (8, 9, 3),
        (NOISE,),
        images_path="/own.zip",
        folders=("mine",),
        data_path="/task.zip",
        classes=("cat", "dog"),
        std_millis=(247, 243, 261),
        seed=bytes(range(16)),
        apart=False,
    )
    assert TriggerOrder.parse(order.encode()) == order


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        (TriggerOrder((8, 8, 2), (NOISE,)), "/shape"),
        (TriggerOrder((8, 8, 1)), "/families"),
        (TriggerOrder((8, 8, 1), (NOISE, NOISE)), "/families"),
        (TriggerOrder((8, 8, 1), (NOISE,), images_path="/own.zip", folders=("noise",)), "/families"),
        (TriggerOrder((8, 8, 1), (FamilyOrder("noise", 0),)), "/families/0/count"),
        (TriggerOrder((8, 8, 3), (NOISE,), std_millis=(1, 2)), "/std_millis"),
        (TriggerOrder((8, 8, 3), (NOISE,), std_millis=(200,), model_path="/weights"), "/std_millis"),
    ],
)
def test_an_order_whose_parts_do_not_fit_is_refused_where_it_is_wrong(order, pointer):
    with pytest.raises(Malformed) as refused:
        TriggerOrder.parse(order.encode())
    assert refused.value.pointer == pointer
