import json
from typing import Any

import pytest

from app.embedding.attacks.catalogue import FULL_SUITE, QUICK_SUITE
from app.embedding.survival.order import QUICK_SETTINGS, SurvivalSettings
from app.embedding.survival.report_order import ReportOrder
from app.errors import Malformed
from app.keys.statement import Statement
from app.keys.trigger_set import Family

DIGEST = "ab" * 32


def request(**changes: Any) -> dict[str, Any]:
    return {
        "queue": "embed.cpu",
        "settings": {},
        "model": DIGEST,
        "plain_model": None,
        "program": None,
        "train_data": DIGEST,
        "test_data": None,
        "attacker_data": None,
        "transfer_data": None,
        "transfer_classes": [],
        **changes,
    }


def statement(**changes: Any) -> Statement:
    values = {
        "log": "log.example/test",
        "vendor_key": bytes(32),
        "root": bytes(32),
        "count": 4,
        "kind": "image",
        "shape": (8, 8, 1),
        "classes": ("zero", "one"),
        "families": (Family("all", 0, 4),),
        "label_source": "beacon",
        "beacon": "local",
        "covers": None,
        "unmarked_model": None,
    }
    return Statement(**{**values, **changes})


def test_an_order_survives_the_database():
    order = ReportOrder.from_request(request(test_data="cd" * 32), "quick", "image")
    assert ReportOrder.from_json(json.loads(json.dumps(order.to_json()))) == order


@pytest.mark.parametrize(
    ("suite", "kind", "transfer", "attacks"),
    [
        (None, "image", True, FULL_SUITE),
        ("full", "image", False, tuple(name for name in FULL_SUITE if name != "transfer")),
        ("quick", "image", True, QUICK_SUITE),
    ],
)
def test_a_suite_names_the_attacks(suite, kind, transfer, attacks):
    body = request(transfer_data=DIGEST if transfer else None, transfer_classes=["a", "b"] if transfer else [])
    order = ReportOrder.from_request(body, suite, kind)
    assert order.settings.attacks == attacks
    order.check_registered(statement())


def test_a_quick_suite_lowers_the_epochs_that_are_not_given():
    quick = ReportOrder.from_request(request(settings={"epochs": 7}), "quick", "image").settings
    assert (quick.epochs, quick.student_epochs) == (7, QUICK_SETTINGS["student_epochs"])
    full = ReportOrder.from_request(request(), "full", "image").settings
    usual = SurvivalSettings(attacks=full.attacks)
    assert full == usual
    assert quick.student_epochs < usual.student_epochs


def test_a_suite_for_tensors_has_nothing_that_needs_an_image():
    order = ReportOrder.from_request(request(), None, "tensor")
    assert "int8" in order.settings.attacks
    assert "jpeg-70" not in order.settings.attacks
    order.check_registered(statement(kind="tensor", shape=(6,)))


def test_a_class_b_registration_has_a_report_too():
    ReportOrder.from_request(request(), "quick", "image").check_registered(statement(label_source="vendor"))


@pytest.mark.parametrize(
    ("changes", "suite", "pointer"),
    [
        ({"settings": {"attacks": ["int8"]}}, "quick", "/suite"),
        ({"settings": {"attacks": []}}, None, "/settings/attacks"),
        ({"settings": {"attacks": ["int8", "int8"]}}, None, "/settings/attacks"),
        ({"settings": {"attacks": ["magic"]}}, None, "/settings/attacks/0"),
        ({"settings": {"attacks": ["int8"], "device": "cuda"}}, None, "/settings/device"),
        ({"settings": {"epochs": 0}}, None, "/settings/epochs"),
        ({"queue": "probe"}, None, "/queue"),
        ({"model": None}, None, "/model"),
        ({"model": DIGEST[2:]}, None, "/model"),
    ],
)
def test_a_wrong_order_is_refused_with_a_pointer(changes, suite, pointer):
    with pytest.raises(Malformed) as refused:
        ReportOrder.from_request(request(**changes), suite, "image")
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "registered", "pointer"),
    [
        ({"settings": {"attacks": ["int8", "jpeg-70"]}}, {"kind": "tensor", "shape": (6,)}, "/settings/attacks/1"),
        ({"settings": {"attacks": ["transfer"]}}, {}, "/settings/attacks/0"),
        ({"transfer_data": DIGEST}, {}, "/transfer_classes"),
        ({"transfer_classes": ["a", "b"]}, {}, "/transfer_classes"),
    ],
)
def test_an_order_that_does_not_fit_its_registration_is_refused_with_a_pointer(changes, registered, pointer):
    order = ReportOrder.from_request(request(**changes), None, "image")
    with pytest.raises(Malformed) as refused:
        order.check_registered(statement(**registered))
    assert refused.value.pointer == pointer
