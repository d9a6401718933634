import json
from typing import Any

import pytest

from app.embedding.white_box.check import Admission
from app.embedding.white_box.check_order import CheckOrder
from app.errors import Malformed
from tests.unit.embedding.survival.test_report_order import statement

DIGEST = "ab" * 32
TIME = "2026-01-31T12:00:00Z"
ADMISSION = Admission(bytes(32), 4, TIME, TIME, "log").to_json()
CONTROLS = [{"name": "unmarked", "sha256": "01" * 32}, {"name": "backbone", "sha256": "02" * 32}]


def order_of(**changes: Any) -> CheckOrder:
    values = {
        "queue": "embed.cpu",
        "suspect": DIGEST,
        "head": None,
        "program": None,
        "admission": None,
        "controls": [],
        "bits": 64,
        "device": "auto",
    }
    return CheckOrder.from_json({**values, **changes})


def test_an_order_survives_the_database():
    order = order_of(head=DIGEST, admission=ADMISSION, controls=CONTROLS)
    assert CheckOrder.from_json(json.loads(json.dumps(order.to_json()))) == order


def test_the_child_is_told_where_each_control_lies():
    order = order_of(head=DIGEST, admission=ADMISSION, controls=CONTROLS)
    assert list(order.artifacts()) == ["suspect", "head", "program", "controls/0/sha256", "controls/1/sha256"]
    paths = {name: f"/files/{number}" for number, name in enumerate(order.artifacts())}
    told = order.child_order(statement(), bytes(32), paths, "/files/output")
    assert [(control.name, control.path) for control in told.controls] == [
        ("unmarked", "/files/3"),
        ("backbone", "/files/4"),
    ]
    assert (told.suspect_path, told.head_path, told.program_path) == ("/files/0", "/files/1", None)
    told = order_of(program=DIGEST).child_order(statement(), bytes(32), paths, "/files/output")
    assert told.program_path == "/files/2"


def test_a_suspects_own_head_needs_neither_date_nor_control():
    order_of().check_registered(statement())
    order_of().check_registered(statement(label_source="vendor"))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"head": DIGEST, "admission": ADMISSION}, "/controls"),
        ({"head": DIGEST, "controls": CONTROLS}, "/admission"),
        ({"admission": ADMISSION, "controls": CONTROLS}, "/admission"),
    ],
)
def test_a_head_without_its_date_or_a_control_is_refused(changes, pointer):
    with pytest.raises(Malformed) as refused:
        order_of(**changes).check_registered(statement())
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"device": "cuda"}, "/device"),
        ({"bits": 65}, "/bits"),
        ({"suspect": None}, "/suspect"),
        ({"controls": [{"name": "", "sha256": DIGEST}]}, "/controls/0/name"),
        ({"queue": "probe"}, "/queue"),
    ],
)
def test_a_wrong_order_is_refused_with_a_pointer(changes, pointer):
    with pytest.raises(Malformed) as refused:
        order_of(**changes)
    assert refused.value.pointer == pointer
