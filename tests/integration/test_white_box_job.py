"""White-box checks as the database sees them: which head the log admits, and what a worker writes once."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.canonical import time_text
from app.db.engine import transaction
from app.db.tables import VendorRow, WhiteBoxCheckRow
from app.embedding.white_box.check_order import CheckOrder, ask_admission, find_model_entries
from app.embedding.white_box.job import check_white_box
from app.errors import Malformed, NotFound, PolicyRefused
from app.protocol.records import ModelEntry
from app.registry.models import commit_model
from app.signature import public_key_of, sign
from tests.conftest import Database
from tests.integration.order_desk import NOW, QUEUE, VENDOR_SEED, Desk, open_desk

HEAD, SUSPECT = b"\x01" * 32, b"\x02" * 32
SINCE = time_text(NOW - timedelta(seconds=1))


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk[WhiteBoxCheckRow]:
    order = CheckOrder(QUEUE, bytes(32), None, None, (), 64, "auto")
    return open_desk(database, tmp_path, WhiteBoxCheckRow, order)


def commit(desk: Desk[WhiteBoxCheckRow], digest: bytes, *, days_before: int = 10) -> int:
    signature = sign(VENDOR_SEED, ModelEntry.signed_bytes(public_key_of(VENDOR_SEED), digest))
    with transaction(desk.database.service) as session:
        row = commit_model(
            session,
            desk.bench.identity,
            session.get_one(VendorRow, desk.vendor_id),
            digest,
            signature=signature,
            randomness=os.urandom(10),
            now=NOW - timedelta(days=days_before),
        )
        return row.entry_index


def ask(desk: Desk[WhiteBoxCheckRow], since: str | None = None) -> Any:
    with transaction(desk.database.service) as session:
        return ask_admission(session, HEAD, SUSPECT, since, NOW)


def test_a_head_is_admitted_by_its_own_entry_and_what_dates_the_suspect(desk):
    entry = commit(desk, HEAD)
    with pytest.raises(PolicyRefused, match="nothing shows"):
        ask(desk)
    suspect = commit(desk, SUSPECT)
    admission = ask(desk)
    assert (admission.head_entry, admission.suspect_source) == (entry, "log")
    with transaction(desk.database.service) as session:
        assert [logged.index for logged in find_model_entries(session, SUSPECT)] == [suspect]


def test_an_entry_of_the_suspect_that_nobody_names_refuses_the_head_too(desk):
    commit(desk, SUSPECT)
    commit(desk, HEAD)
    with pytest.raises(PolicyRefused, match="before the head") as refused:
        ask(desk, SINCE)
    assert refused.value.pointer == "/head"


def test_a_head_that_nobody_committed_to_is_refused_whatever_is_said_of_the_suspect(desk):
    with pytest.raises(PolicyRefused, match="no model entry"):
        ask(desk, SINCE)


@pytest.mark.parametrize("since", ["soon", "2026-01-31", time_text(NOW + timedelta(seconds=1))])
def test_a_date_that_is_none_or_yet_to_come_is_refused(desk, since):
    commit(desk, HEAD)
    with pytest.raises(Malformed) as refused:
        ask(desk, since)
    assert refused.value.pointer == "/suspect_since"


def test_a_report_is_written_once_and_only_by_who_holds_the_job(desk):
    def finish(_session: Any, row: WhiteBoxCheckRow) -> None:
        row.report = {"root": ""}

    first = desk.attempt()
    assert desk.take(first) is not None
    desk.hand_to_another()
    desk.mine(first).deliver(finish)
    assert (desk.row().state, desk.row().report) == ("running", None)
    second = desk.attempt(number=1)
    desk.take(second)
    desk.mine(second).deliver(finish)
    assert (desk.row().state, desk.row().report, desk.row().sealed_key) == ("done", {"root": ""}, b"")
    assert desk.take(second) is None


def test_a_check_that_cannot_be_made_ends_with_its_reason_and_without_its_key(desk):
    check_white_box(desk.bench, desk.attempt(), {"order_id": str(desk.order_id)})
    row = desk.row()
    assert (row.state, row.error["code"], row.sealed_key) == ("failed", NotFound.code, b"")
