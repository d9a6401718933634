"""What a block asks, without a database or an endpoint."""

from collections import Counter
from dataclasses import replace

from app.disputes.questions import BlockPlan, Planned, plan_questions
from app.keys.trigger_set import ImageInput
from app.protocol.challenge import look_alike

SECRET, SEED = b"s" * 32, b"c" * 32


def image(number: int) -> bytes:
    return ImageInput(8, 8, 1, bytes((number * 7 + at) % 256 for at in range(64))).encode()


COVERS = [image(100 + number) for number in range(10)]


def plan(
    number: int = 0, size: int = 4, *, secret: bytes = SECRET, first_n: int = 0, covers_per_trigger: int = 2
) -> list[Planned]:
    first = number * size
    triggers = [(index, image(index)) for index in range(first, first + size)]
    return plan_questions(secret, SEED, BlockPlan(number, first, triggers, first_n), COVERS, covers_per_trigger)


def kinds(planned: list[Planned]) -> Counter[tuple[str, int]]:
    return Counter((question.role.kind, question.role.repeat) for question in planned)


def test_every_trigger_stands_with_its_look_alike_and_its_covers() -> None:
    assert kinds(plan(1)) == {("trigger", 0): 4, ("look-alike", 0): 4, ("cover", 0): 8}


def test_the_first_of_every_twenty_triggers_is_asked_twice_with_its_look_alike_and_one_of_its_covers() -> None:
    planned = plan(0, 32)
    twice = [q.role for q in planned if q.role.repeat]
    assert {(role.kind, role.index) for role in twice if role.kind != "cover"} == {
        ("trigger", 0),
        ("look-alike", 0),
        ("trigger", 20),
        ("look-alike", 20),
    }
    covers = [role for role in twice if role.kind == "cover"]
    assert len(covers) == 2
    first = {q.role for q in planned}
    assert all(replace(role, repeat=0) in first for role in covers)
    # In place of another cover: nobody is asked more for it.
    assert sum(q.role.kind == "cover" for q in planned) == 64


def test_a_single_cover_a_trigger_is_not_asked_twice() -> None:
    assert [q.role for q in plan(0, 32, covers_per_trigger=1) if q.role.repeat and q.role.kind == "cover"] == []


def test_a_look_alike_is_the_shuffled_trigger_itself() -> None:
    for question in plan():
        if question.role.kind == "look-alike":
            assert question.input == look_alike(SEED, question.role.index, image(question.role.index))


def test_questions_are_numbered_without_gaps_from_where_the_last_block_ended() -> None:
    assert [question.n for question in plan(1, first_n=18)] == list(range(18, 34))


def test_the_same_block_is_planned_the_same_again() -> None:
    assert plan(2) == plan(2)


def test_another_secret_gives_another_order_and_other_blinds() -> None:
    ours, theirs = plan(), plan(secret=b"t" * 32)
    assert [q.role for q in ours] != [q.role for q in theirs]
    assert not {q.blind for q in ours} & {q.blind for q in theirs}


def test_triggers_do_not_stand_first_or_together() -> None:
    order = "".join(question.role.kind[0] for question in plan(0, 32))
    assert order.strip("tlc") == ""
    assert "t" * 20 not in order
    assert order != "".join(sorted(order))


def test_no_cover_comes_again_before_all_were_used() -> None:
    used = Counter(
        q.role.index for block in range(2) for q in plan(block, 5, covers_per_trigger=1) if q.role.kind == "cover"
    )
    assert used == dict.fromkeys(range(10), 1)


def test_a_small_cover_set_is_used_evenly_over_all_blocks() -> None:
    used = Counter(
        q.role.index
        for block in range(4)
        for q in plan(block, 10, covers_per_trigger=3)
        if q.role.kind == "cover" and not q.role.repeat
    )
    # 40 shares of three, two of which ask a cover twice.
    assert sum(used.values()) == 118
    assert set(used.values()) == {11, 12}


def test_covers_that_were_seen_before_come_after_all_others() -> None:
    block = BlockPlan(0, 0, [(index, image(index)) for index in range(4)], 0)
    seen = frozenset(range(5))
    first = plan_questions(SECRET, SEED, block, COVERS, 1, seen=seen)
    assert not seen & {q.role.index for q in first if q.role.kind == "cover"}
    both = plan_questions(SECRET, SEED, block, COVERS, 2, seen=seen)
    used = [q.role.index for q in both if q.role.kind == "cover" and not q.role.repeat]
    assert set(used) > set(range(5, 10))


def test_without_covers_only_triggers_and_look_alikes_are_asked() -> None:
    assert kinds(plan(1, covers_per_trigger=0)) == {("trigger", 0): 4, ("look-alike", 0): 4}
