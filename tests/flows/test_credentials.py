"""What an endpoint wants to see before it answers: given by the vendor, shown to nobody, and in no record."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.cli.client import file_dispute
from app.db.engine import transaction
from app.db.tables import Base
from app.errors import Unavailable
from tests.conftest import Database
from tests.flows.claimant import Claimant, Service, bundle_of, image, innocent, refused, sign_up
from tests.flows.running_api import running_service
from tests.simulators.suspect import SuspectSimulator

KEY = "Bearer s3cr3t-of-the-vendor"
CREDENTIALS = {"kind": "headers", "headers": {"Authorization": KEY}}


def body_for(suspect: SuspectSimulator, **more: Any) -> dict[str, Any]:
    return {"name": "suspect", "endpoint": suspect.url, "interface": suspect.interface.to_json(), **more}


def everything_stored(database: Database) -> str:
    """Give every row of every table as text."""
    with transaction(database.owner) as session:
        rows = [
            str(row)
            for table in Base.metadata.sorted_tables
            for row in session.execute(text(f"SELECT {table.name}::text FROM {table.name}"))
        ]
        jobs = [str(row) for row in session.execute(text("SELECT procrastinate_jobs::text FROM procrastinate_jobs"))]
    return "\n".join(rows + jobs)


def is_shown(secret: str, where: str) -> bool:
    return secret in where or secret.encode().hex() in where


def test_a_suspect_that_wants_a_key_is_disputed_and_the_key_is_nowhere(service: Service) -> None:
    claimant = sign_up(service, "holder of a key")
    with SuspectSimulator(claimant.stolen(), key=KEY) as suspect:
        made = claimant.client.post("/v1/suspects", body_for(suspect, credentials=CREDENTIALS))
        assert made["credentials"]["header_names"] == ["authorization"]
        record = claimant.record(suspect)
        filed = file_with(claimant, made["id"], record)
        decided = claimant.answer_until_decided(filed)
        assert {seen.headers.get("authorization") for seen in suspect.requests} == {KEY}
    assert decided["verdict"] == "CONFIRMED"
    in_bundle = "\n".join(data.decode("latin-1") for data in bundle_of(claimant, decided).values())
    answers = "\n".join(
        httpx2.get(service.url + path, headers=dict(claimant.client._http.headers)).text
        for path in ("/v1/suspects", f"/v1/suspects/{made['id']}", "/v1/disputes", f"/v1/disputes/{filed}")
    )
    logged = "".join(path.read_text() for path in service.folder.glob("*.log"))
    for place in (in_bundle, answers, logged, everything_stored(service.database), str(made)):
        assert not is_shown("s3cr3t", place)
    for path in service.folder.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes()


def file_with(claimant: Claimant, suspect_id: str, record: Any) -> str:
    return str(file_dispute(claimant.client, suspect_id, record, claimant.private_key, claimant.covers)["id"])


@pytest.fixture(scope="module")
def suspect() -> Iterator[SuspectSimulator]:
    with SuspectSimulator(innocent, key=KEY) as running:
        yield running


def test_credentials_are_given_changed_shown_by_name_and_forgotten(owner: Claimant, suspect: SuspectSimulator) -> None:
    made = owner.client.post("/v1/suspects", body_for(suspect))
    path = f"/v1/suspects/{made['id']}"
    assert made["credentials"] is None
    test = {"registration_id": owner.registration_id, **a_test_input()}
    assert owner.client.post(f"{path}/test", test)["error"] == "status_401"
    put(owner, path, CREDENTIALS)
    shown = owner.client.get(path)["credentials"]
    assert (shown["kind"], shown["header_names"]) == ("headers", ["authorization"])
    assert owner.client.post(f"{path}/test", test)["error"] == ""
    put(owner, path, {"kind": "headers", "headers": {"authorization": "Bearer another", "x-api-key": "k"}})
    listed = {item["id"]: item for item in owner.client.items("/v1/suspects")}
    assert listed[made["id"]]["credentials"]["header_names"] == ["authorization", "x-api-key"]
    assert owner.client.post(f"{path}/test", test)["error"] == "status_401"
    for _ in range(2):
        owner.client._call("DELETE", f"{path}/credentials")
        assert owner.client.get(path)["credentials"] is None
    put(owner, path, CREDENTIALS)
    owner.client._call("DELETE", path)
    assert refused(lambda: owner.client.get(path)).status == 404


def put(owner: Claimant, path: str, credentials: dict[str, Any]) -> Any:
    return owner.client._call("PUT", f"{path}/credentials", json={"credentials": credentials})


def a_test_input() -> dict[str, str]:
    return {"input": base64.b64encode(image("ordinary")).decode()}


def test_credentials_that_are_refused_are_not_repeated_and_leave_nothing(
    owner: Claimant, suspect: SuspectSimulator, service: Service
) -> None:
    before = owner.client.get("/v1/suspects?limit=200")["items"]
    for wrong, status in (
        ({"kind": "headers", "headers": {"Host": KEY}}, 422),
        ({"kind": "headers", "headers": {"Authorization": KEY + "\r\n"}}, 422),
        ({"kind": KEY}, 422),
        ({"kind": "sigv4", "secret_access_key": KEY}, 422),
        (KEY, 422),
    ):
        answer = httpx2.post(
            f"{service.url}/v1/suspects",
            headers=dict(owner.client._http.headers),
            json=body_for(suspect, credentials=wrong),
        )
        assert answer.status_code == status
        assert "s3cr3t" not in answer.text
        assert answer.json()["errors"][0]["pointer"].startswith("/credentials")
    assert owner.client.get("/v1/suspects?limit=200")["items"] == before


def test_nobody_else_changes_or_forgets_credentials(
    owner: Claimant, suspect: SuspectSimulator, service: Service
) -> None:
    made = owner.client.post("/v1/suspects", body_for(suspect, credentials=CREDENTIALS))
    path = f"{service.url}/v1/suspects/{made['id']}/credentials"
    other = sign_up(service, "curious about keys")
    theirs = dict(other.client._http.headers)
    body = {"credentials": {"kind": "headers", "headers": {"authorization": "mine"}}}
    assert [httpx2.put(path, json=body).status_code, httpx2.delete(path).status_code] == [401, 401]
    assert httpx2.put(path, json=body, headers=theirs).status_code == 404
    assert httpx2.delete(path, headers=theirs).status_code == 404
    assert owner.client.get(f"/v1/suspects/{made['id']}")["credentials"] == made["credentials"]


def test_an_address_changed_in_the_database_gets_nobodys_key(
    owner: Claimant, suspect: SuspectSimulator, service: Service
) -> None:
    made = owner.client.post("/v1/suspects", body_for(suspect, credentials=CREDENTIALS))
    with SuspectSimulator(innocent) as thief:
        with transaction(service.database.service) as session:
            session.execute(
                text("UPDATE suspects SET endpoint = :url WHERE id = :id"), {"url": thief.url, "id": made["id"]}
            )
        test = {"registration_id": owner.registration_id, **a_test_input()}
        with pytest.raises(Unavailable, match="sealed for something else"):
            owner.client.post(f"/v1/suspects/{made['id']}/test", test)
        assert not thief.requests


def test_a_service_without_a_key_for_secrets_takes_none(database: Database, tmp_path: Path) -> None:
    networks = {"allowed_networks": ["127.0.0.0/8"], "allow_http": True}
    with running_service(database, tmp_path, **networks) as without, SuspectSimulator(innocent) as suspect:
        api_key = without.sign_up()["api_key"]
        with without.client(api_key) as client:
            assert client.post("/v1/suspects", json=body_for(suspect)).status_code == 201
            answer = client.post("/v1/suspects", json=body_for(suspect, credentials=CREDENTIALS))
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_refused")
    assert "TRAPSTREET_SECRETS_KEY_FILE" in answer.json()["detail"]


def test_what_a_suspect_writes_is_shown_to_its_vendor_alone_and_only_its_beginning(
    owner: Claimant, service: Service
) -> None:
    mark = "m4rk-of-the-suspect"
    for fault in ("not_json", "redirect", "status_500", "cookie"):
        with SuspectSimulator(innocent, fault=fault, location=f"/{mark}") as suspect:
            suspect.error_body = f"<html>{mark}{' ' * 500}{mark}</html>".encode()
            made = owner.client.post("/v1/suspects", body_for(suspect))
            answer = httpx2.post(
                f"{service.url}/v1/suspects/{made['id']}/test",
                headers=dict(owner.client._http.headers),
                json={"registration_id": owner.registration_id, **a_test_input()},
            )
            assert len(suspect.requests) == 1
        assert answer.status_code == 200
        told = answer.json()
        assert told.pop("response_start").count(mark) <= 1
        assert mark not in json.dumps(told) + str(answer.headers)
    logged = "".join(path.read_text() for path in service.folder.glob("*.log"))
    assert mark not in logged
