"""The picture of a training, and its time left in words."""

import re
from xml.etree import ElementTree

import pytest

from app.portal.training_plot import HEIGHT, WIDTH, curve_plot, time_left


def point(epoch: int, loss: float, share: float, run: str = "marked") -> dict:
    return {"run": run, "epoch": epoch, "loss": loss, "trigger_accuracy": share}


def lines_of(*points: dict) -> list[list[tuple[float, float]]]:
    drawn = ElementTree.fromstring(curve_plot(points))
    found = [element.attrib["points"] for element in drawn if element.tag == "polyline"]
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]  # type: ignore[misc]


def test_before_the_first_epoch_there_is_no_picture():
    assert curve_plot([]) == ""


def test_loss_falls_and_answered_triggers_rise_from_left_to_right():
    loss, answered = lines_of(point(1, 2.0, 0.25), point(2, 1.0, 0.5), point(3, 0.5, 1.0))
    for line in (loss, answered):
        assert [x for x, _ in line] == sorted(x for x, _ in line)
    # In a picture the upper end has the smaller number.
    assert [y for _, y in loss] == sorted(y for _, y in loss)
    assert [y for _, y in answered] == sorted((y for _, y in answered), reverse=True)


def test_only_the_run_that_trains_now_is_drawn():
    loss, _ = lines_of(point(1, 9.0, 0.3, "plain"), point(2, 8.0, 0.3, "plain"), point(1, 2.0, 0.4))
    assert len(loss) == 1


@pytest.mark.parametrize("values", [(1e300, -1e300), (-5.0, -1.0), (0.0, 0.0), (1e-300, 1e300)])
def test_no_figure_of_a_child_leaves_the_picture(values):
    first, second = values
    for line in lines_of(point(0, first, 0.0), point(2**53 - 1, second, 1.0)):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)
    assert len(re.sub(r"<[^>]*>", "", curve_plot([point(1, first, 0.5)]))) < 200


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, ""),
        (1, "about 1 second"),
        (90, "about 90 seconds"),
        (120, "about 2 minutes"),
        (4 * 3_600, "about 4 hours"),
        (3 * 86_400, "about 3 days"),
    ],
)
def test_the_time_left_is_said_in_the_unit_that_people_would_use(seconds, words):
    assert time_left({"seconds_left": seconds}) == words


def test_no_time_is_said_where_the_worker_told_none():
    assert time_left({}) == ""
