"""What the agent refuses: a lying service between it and the real one, for everything that it must not believe.

Two disputes stand still meanwhile, one that waits for its first inputs and one that waits for labels: whatever the agent
is told of them, nothing of a key may leave.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli.agent import Agent
from app.cli.client import ApiClient, ApiProblem
from app.errors import Unavailable
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.merkle.checkpoint import verifier_key_text
from app.signature import public_key_of
from tests.flows.claimant import ORIGIN, Claimant, Service, innocent, sign_up
from tests.simulators.lying_service import Lie, LyingService, truth
from tests.simulators.suspect import SuspectSimulator

Dispute = dict[str, Any]
Change = Callable[[Dispute], None]

BLOCK_SIZE = 16


@dataclass
class Scene:
    """A dispute that waits for its claimant, and the liar in front of the service."""

    claimant: Claimant
    proxy: LyingService
    dispute_id: str

    @property
    def told(self) -> Dispute:
        return self.claimant.read(self.dispute_id)

    def agent(self, events: list[dict[str, Any]], log_key: str = "", registration: int | None = None) -> Agent:
        client = self.claimant.service.clients.enter_context(
            ApiClient(self.proxy.url, self.claimant.client.api_key, log_key)
        )
        return Agent(client, self.claimant.key, events.append, registration=registration)

    def changed(self, change: Change) -> Lie:
        """Lie about the dispute."""

        def lie(path: str, body: bytes) -> bytes:
            if path != f"/v1/disputes/{self.dispute_id}":
                return body
            shown = json.loads(body)
            change(shown)
            assert shown != json.loads(body)
            return json.dumps(shown).encode()

        return lie

    def refuses(self, lie: Lie, *, log_key: str = "", agent: Agent | None = None) -> str:
        """See that an agent opens nothing and says once why; give what it said."""
        events: list[dict[str, Any]] = []
        before = self.told
        if agent is None:
            agent = self.agent(events, log_key)
        else:
            agent._on_event = events.append
        self.proxy.sent.clear()
        self.proxy.lie = lie
        try:
            assert (agent.answer_all(), agent.answer_all()) == (0, 0)
        finally:
            self.proxy.lie = truth
        assert self.proxy.sent == []
        assert [(event["event"], event["dispute"]) for event in events] == [("refused", self.dispute_id)]
        assert self.told == before
        return str(events[0]["reason"])


@pytest.fixture(scope="module")
def proxy(service: Service) -> Iterator[LyingService]:
    with LyingService(service.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def unopened(service: Service, proxy: LyingService) -> Iterator[Scene]:
    """Nothing is opened, the inputs of block 0 are asked for."""
    claimant = sign_up(service, "closed")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect, covers_per_trigger=0)
        claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
        yield Scene(claimant, proxy, dispute_id)


@dataclass
class HalfWay(Scene):
    """The same with block 0 finished and block 1 asked, before an agent that has answered so far."""

    believing: Agent
    first: list[int]
    heads: list[int]


@pytest.fixture(scope="module")
def half_way(service: Service, proxy: LyingService) -> Iterator[HalfWay]:
    """The labels of block 1 and the inputs of block 2 are asked for."""
    claimant = sign_up(service, "half way")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, covers_per_trigger=0)
        scene = HalfWay(claimant, proxy, dispute_id, claimant.agent, [], [])
        scene.believing = scene.agent(claimant.events)
        claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
        assert scene.believing.answer_all() == 1
        for block in (0, 1):
            shown = claimant.wait(dispute_id, lambda found: found["needs"]["labels"], "a head in the log")
            assert shown["needs"]["labels"]["block"] == block
            scene.heads.append(shown["needs"]["labels"]["entry_index"])
            if block == 0:
                scene.first = asked_for(shown, "labels")
                assert scene.believing.answer_all() == 2
        assert shown["needs"]["inputs"]["block"] == 2
        yield scene


def flipped(text: str) -> str:
    """Change the last digit of some hex."""
    return text[:-1] + format(int(text[-1], 16) ^ 1, "x")


def in_record(**changes: Any) -> Change:
    def change(shown: Dispute) -> None:
        record = json.loads(shown["record"])
        policy = record["policy"] | {name: value for name, value in changes.items() if name in record["policy"]}
        record |= {"policy": policy, **{name: value for name, value in changes.items() if name not in policy}}
        shown["record"] = json.dumps(record, sort_keys=True, separators=(",", ":"))

    return change


def put(name: str, value: Callable[[Dispute], Any]) -> Change:
    def change(shown: Dispute) -> None:
        shown[name] = value(shown)

    return change


def in_need(what: str, **values: Callable[[Dispute], Any]) -> Change:
    def change(shown: Dispute) -> None:
        shown["needs"][what] |= {name: value(shown) for name, value in values.items()}

    return change


def asked_for(shown: Dispute, what: str = "inputs") -> list[int]:
    return list(shown["needs"][what]["indices"])


# --- before an input is opened ----------------------------------------------------------------------------------------

LIES_ABOUT_A_FILING: dict[str, tuple[Change, str]] = {
    "another endpoint": (in_record(endpoint="http://127.0.0.1:1/"), "signature"),
    "another block size": (in_record(block_size=BLOCK_SIZE + 1), "signature"),
    "a record that is not canonical": (put("record", lambda shown: shown["record"] + " "), "canonical"),
    "a record that is none": (put("record", lambda shown: "{}"), "missing"),
    "a signature": (put("signature", lambda shown: flipped(shown["signature"])), "signature"),
    "a blind": (put("blind", lambda shown: flipped(shown["blind"])), "hides another record"),
    "a blind that is none": (put("blind", lambda shown: "no hex"), "hex"),
    "another entry's beacon": (put("beacon_index", lambda shown: shown["filing_index"] - 1), "is not the beacon"),
    "no beacon at all": (put("beacon_index", lambda shown: shown["filing_index"]), "is no BeaconEntry"),
    "a beacon that is not drawn": (put("beacon_index", lambda shown: None), "integer"),
    "no filing at all": (put("filing_index", lambda shown: shown["beacon_index"]), "is no FilingEntry"),
    "an entry that there is not": (put("filing_index", lambda shown: 10**6), "has no entry"),
    "other triggers": (
        in_need("inputs", indices=lambda shown: [*asked_for(shown)[:-1], min({*range(192)} - {*asked_for(shown)})]),
        "not block 0",
    ),
    "another order": (in_need("inputs", indices=lambda shown: asked_for(shown)[::-1]), "not block 0"),
    "a trigger fewer": (in_need("inputs", indices=lambda shown: asked_for(shown)[1:]), "not block 0"),
    "a trigger twice": (in_need("inputs", indices=lambda shown: asked_for(shown)[:1] * BLOCK_SIZE), "not block 0"),
    "no trigger, of a block beyond the last": (
        in_need("inputs", block=lambda shown: 12, indices=lambda shown: []),
        "1 to 256",
    ),
    "a block ahead": (in_need("inputs", block=lambda shown: 1), "not block 1"),
    "a block before the first": (in_need("inputs", block=lambda shown: -1), "between"),
}


@pytest.mark.parametrize("name", LIES_ABOUT_A_FILING)
def test_no_input_is_opened_for_a_filing_that_the_log_does_not_prove(unopened: Scene, name: str) -> None:
    change, reason = LIES_ABOUT_A_FILING[name]
    assert reason in unopened.refuses(unopened.changed(change))


def test_no_input_is_opened_for_the_filing_of_another(unopened: Scene, half_way: HalfWay) -> None:
    theirs = half_way.told
    change = put("filing_index", lambda _shown: theirs["filing_index"])
    assert "hides another record" in unopened.refuses(unopened.changed(change))


@pytest.mark.parametrize("what", ["", "/receipt"])
@pytest.mark.parametrize("entry", ["registration", "filing", "beacon"])
def test_no_input_is_opened_by_an_entry_that_is_not_proven(unopened: Scene, entry: str, what: str) -> None:
    index = {
        "registration": unopened.claimant.registration,
        "filing": unopened.told["filing_index"],
        "beacon": unopened.told["beacon_index"],
    }[entry]
    for place in (0.3, 0.6, 0.9):

        def lie(path: str, body: bytes, place: float = place) -> bytes:
            if path != f"/v1/log/entries/{index}{what}":
                return body
            at = int(len(body) * place)
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

        assert unopened.refuses(lie)


def test_no_input_is_opened_under_another_logs_key(unopened: Scene) -> None:
    stranger = verifier_key_text(ORIGIN, public_key_of(b"\x09" * 32))
    assert unopened.refuses(truth, log_key=stranger)


def test_no_input_is_opened_by_a_log_that_names_another_key_than_it_signs_with(unopened: Scene) -> None:
    def lie(path: str, body: bytes) -> bytes:
        return verifier_key_text(ORIGIN, public_key_of(b"\x09" * 32)).encode() if path == "/v1/log/key" else body

    assert unopened.refuses(lie)


def test_no_input_is_opened_for_another_registration_than_the_one_to_answer_for(unopened: Scene) -> None:
    ours = unopened.claimant.registration
    bound = unopened.agent([], registration=ours + 1)
    assert "not of" in unopened.refuses(truth, agent=bound)
    assert bound.registrations() == []
    assert unopened.agent([], registration=ours).registrations() == unopened.agent([]).registrations() == [ours]


# --- before a label key is opened -------------------------------------------------------------------------------------


def of_block(block: int) -> Callable[[Dispute, HalfWay], None]:
    """Ask for the labels of the block whose inputs are asked for, under the head that is there."""

    def change(shown: Dispute, _scene: HalfWay) -> None:
        assert shown["needs"]["inputs"]["block"] == block
        shown["needs"]["labels"] |= {"block": block, "indices": asked_for(shown)}

    return change


def under_entry(choose: Callable[[Dispute, HalfWay], int]) -> Callable[[Dispute, HalfWay], None]:
    def change(shown: Dispute, scene: HalfWay) -> None:
        shown["needs"]["labels"]["entry_index"] = choose(shown, scene)

    return change


def with_triggers_ahead(shown: Dispute, _scene: HalfWay) -> None:
    ahead = asked_for(shown)[:1]
    shown["needs"]["labels"]["indices"] = [*asked_for(shown, "labels")[1:], *ahead]


def as_one_larger_block(shown: Dispute, scene: HalfWay) -> None:
    """Call blocks 0 to 2 one block, over which the head of block 0 then seems to stand."""
    in_record(block_size=3 * BLOCK_SIZE)(shown)
    indices = [*scene.first, *asked_for(shown, "labels"), *asked_for(shown)]
    shown["needs"]["labels"] |= {"block": 0, "indices": indices, "entry_index": scene.heads[0]}


LIES_ABOUT_A_HEAD = {
    "the head of another block": (under_entry(lambda _shown, scene: scene.heads[0]), "is not the head of block 1"),
    "the filing's beacon": (under_entry(lambda shown, _scene: shown["beacon_index"]), "is no BlockEntry"),
    "an entry that there is not": (under_entry(lambda _shown, _scene: 10**6), "has no entry"),
    "a block that was not asked": (of_block(2), "is not the head of block 2"),
    "a trigger of a block that was not asked": (with_triggers_ahead, "not block 1"),
    "a block of another size": (as_one_larger_block, "signature"),
}


@pytest.mark.parametrize("is_new", [True, False], ids=["a new agent", "one that has answered before"])
@pytest.mark.parametrize("name", LIES_ABOUT_A_HEAD)
def test_no_label_is_opened_before_the_head_of_its_block(half_way: HalfWay, name: str, *, is_new: bool) -> None:
    change, reason = LIES_ABOUT_A_HEAD[name]
    lie = half_way.changed(lambda shown: change(shown, half_way))
    half_way.believing._refused.clear()
    assert reason in half_way.refuses(lie, agent=None if is_new else half_way.believing)


def test_no_label_is_opened_under_a_head_that_is_not_proven(half_way: HalfWay) -> None:
    def lie(path: str, body: bytes) -> bytes:
        return body.replace(b'"block":0', b'"block":1') if path == f"/v1/log/entries/{half_way.heads[0]}" else body

    under_the_older = half_way.changed(lambda shown: shown["needs"]["labels"].update(entry_index=half_way.heads[0]))
    assert half_way.refuses(lambda path, body: lie(path, under_the_older(path, body)))


# --- one dispute and the others ---------------------------------------------------------------------------------------


def test_a_dispute_that_is_refused_or_moved_on_holds_up_no_other(service: Service, proxy: LyingService) -> None:
    claimant = sign_up(service, "divided")
    with SuspectSimulator(innocent) as suspect:
        first = claimant.file(suspect, covers_per_trigger=0)
        second = claimant.file(suspect, family="second", max_triggers=32, covers_per_trigger=0)
        for dispute_id in (first, second):
            claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
        events: list[dict[str, Any]] = []
        scene = Scene(claimant, proxy, first)
        agent = scene.agent(events)
        try:
            for status, raised in ((401, ApiProblem), (403, ApiProblem), (503, Unavailable)):
                proxy.status = lambda path, status=status: status if first in path else None
                with pytest.raises(raised):
                    agent.answer_all()
            assert claimant.read(second)["blocks_opened"] == 0
            proxy.status = lambda path: 404 if first in path else None
            assert agent.answer_all() == 1
            assert [(event["event"], event["dispute"]) for event in events] == [("refused", first), ("opened", second)]
            # Another agent was quicker: nothing to say, and nothing to hold up.
            proxy.status = lambda path: 409 if path == f"/v1/disputes/{first}" else None
            agent.answer_all()
            assert [event for event in events[2:] if event["dispute"] == first] == []
        finally:
            proxy.status = lambda path: None
        assert claimant.read(first)["blocks_opened"] == 0
        assert agent.answer_all() >= 1
        assert claimant.read(first)["blocks_opened"] == 1


# --- the command ------------------------------------------------------------------------------------------------------


def first_words(claimant: Claimant, key: MarkingKey, folder: Path, *options: str) -> str:
    """Start the command and give the first line that it says."""
    key_file = folder / "marking.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(encode_key_file(key))
    url, api_key = claimant.service.url, claimant.client.api_key
    words = ["agent", str(key_file), "--url", url, "--api-key", api_key, "--with-parent", *options]
    agent = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
    )
    assert agent.stdout
    try:
        return agent.stdout.readline().decode()
    finally:
        agent.terminate()
        agent.communicate()


def test_the_command_says_for_which_registration_it_answers_and_if_there_is_none(
    owner: Claimant, tmp_path: Path
) -> None:
    root = owner.key.root().hex()
    ready = json.loads(first_words(owner, owner.key, tmp_path, "--json"))
    assert ready == {"event": "ready", "root": root, "registrations": [owner.registration]}
    unknown = MarkingKey(b"\x01" * 32, owner.key.inputs[:4])
    said = first_words(owner, unknown, tmp_path)
    assert unknown.root().hex() in said
    assert "has not registered" in said
    assert "has not registered" in first_words(owner, owner.key, tmp_path, "--registration", "0")
