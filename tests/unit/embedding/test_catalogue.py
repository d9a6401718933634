import json
from pathlib import Path

import pytest

from app.embedding.attacks.catalogue import FULL_SUITE, QUICK_SUITE, STEPS, fits, parse_attack, suite
from app.embedding.survival.order import SurvivalSettings
from app.errors import Malformed


@pytest.mark.parametrize("name", sorted({*FULL_SUITE, *QUICK_SUITE, *STEPS}))
def test_every_attack_that_is_named_can_be_read(name):
    assert "+".join(step.name for step in parse_attack(name)) == name


def test_a_suite_names_no_attack_twice():
    assert len(set(FULL_SUITE)) == len(FULL_SUITE)
    assert len(set(QUICK_SUITE)) == len(QUICK_SUITE)


def test_the_full_suite_holds_what_a_survival_report_promises():
    rates = {f"{kind}-{rate}" for kind in ("ftll", "ftal", "rtll", "rtal") for rate in ("1e-4", "1e-3", "1e-2")}
    others = {"pirate", "transfer", "int8", "int4", "extract-hard", "extract-soft", "distill"}
    shares = {f"prune-{share}" for share in (30, 50, 70, 90)}
    in_front = {"jpeg-90", "jpeg-50", "noise-8", "resize-50"}
    assert rates | others | shares | in_front <= set(FULL_SUITE)
    assert [name for name in FULL_SUITE if "+" in name]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no attack ''"),
        ("ftal", "no attack 'ftal'"),
        ("int8+", "no attack ''"),
        ("jpeg-70+int8", "stands after"),
        ("transfer+int8", "stands alone"),
        ("int8+int8+int8+int8+int8", "at most 4 steps"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(name, why):
    with pytest.raises(Malformed, match=why):
        parse_attack(name)


def test_a_suite_leaves_out_what_the_inputs_or_the_data_do_not_allow():
    assert "transfer" not in suite("image", quick=False, has_transfer=False)
    assert "transfer" in suite("image", quick=False, has_transfer=True)
    assert all(fits(name, "tensor") for name in suite("tensor", quick=False, has_transfer=True))
    assert {name for name in FULL_SUITE if not fits(name, "tensor")} >= {"jpeg-70", "median", "ftal-1e-3+jpeg-70"}
    assert len(suite("image", quick=True, has_transfer=True)) < len(suite("image", quick=False, has_transfer=True)) / 2


PAGE = (Path(__file__).parents[3] / "docs" / "survival.md").read_text()


@pytest.mark.parametrize("name", STEPS)
def test_every_attack_stands_in_the_documentation(name):
    kind, dash, number = name.partition("-")
    row = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{kind}" in line)
    assert f"`{name}`" in row or (f"`{kind}{dash}`" in row and f"`{number}`" in row)


DEFAULTS = {k: v for k, v in SurvivalSettings(("int8",)).to_json().items() if k not in ("type", "attacks")}


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_setting_stands_in_the_documentation_with_its_default(name):
    value = DEFAULTS[name]
    default = f"`{value}`" if isinstance(value, str) else json.dumps(value)
    assert f"`{name}` ({default}" in " ".join(PAGE.split())
