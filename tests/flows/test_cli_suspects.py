"""The commands of suspects and interfaces, against a running service."""

import base64
import json

from typer.testing import CliRunner

from app.cli.commands import main
from app.protocol.interface import Interface, InterfaceOrigin
from app.signature import public_key_of, verify_signature
from tests.flows.claimant import ARBITER, Service, image, innocent, refused, sign_up
from tests.simulators.suspect import SuspectSimulator

ASKED_SO = ["--adapter", "kserve_v1", "--options", '{"model": "digits"}']


def run(*words, status=0):
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == status, result.output
    return result


def private_key(folder, key, name="vendor.key"):
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(key.hex())
    return path


def test_suspects_are_listed_with_header_names_and_a_vendor_without_any_is_told_what_adds_them(service: Service):
    claimant = sign_up(service, "teller of suspects")
    here = ["--url", service.url, "--api-key", claimant.client._http.headers["authorization"].removeprefix("Bearer ")]
    assert "no suspects yet" in run("suspect", "list", *here).output
    with SuspectSimulator(innocent) as suspect:
        body = {"name": "[red]rival", "endpoint": suspect.url, "interface": suspect.interface.to_json()}
        credentials = {"kind": "headers", "headers": {"Authorization": "Bearer hush"}}
        made = claimant.client.post("/v1/suspects", body | {"credentials": credentials})
    listed = json.loads(run("suspect", "list", *here, "--json").output)
    assert [each["id"] for each in listed] == [made["id"]]
    shown = run("suspect", "list", *here).output
    assert "[red]rival" in shown
    assert "hush" not in shown


def test_an_arbiter_signs_offline_and_the_filing_is_free(service: Service, tmp_path):
    claimant = sign_up(service, "vouched by command")
    signed = run("suspect", "countersign", "--key", private_key(tmp_path, ARBITER), *ASKED_SO).output
    value = json.loads(signed)
    origin, interface = InterfaceOrigin.from_json(value["origin"]), Interface.from_json(value["interface"])
    assert origin.key == public_key_of(ARBITER)
    verify_signature(origin.key, origin.signature, interface.encode())
    (tmp_path / "signed.json").write_text(signed)
    filed = file(claimant, service, tmp_path, "first", tmp_path / "signed.json")
    assert "costs 0 bits" in filed.stderr
    assert json.loads(filed.stdout)["state"] == "filed"


def test_an_interface_is_logged_by_command_and_too_late_for_an_older_registration(service: Service, tmp_path):
    claimant = sign_up(service, "logger by command")
    key = private_key(tmp_path, claimant.private_key)
    here = ["--url", service.url, "--api-key", claimant.client._http.headers["authorization"].removeprefix("Bearer ")]
    logged = run("suspect", "log-interface", *ASKED_SO, "--vendor-key", key, *here).output
    entry = json.loads(logged)["origin"]["entry"]
    assert [model["entry_index"] for model in claimant.client.items("/v1/models")] == [entry]
    (tmp_path / "logged.json").write_text(logged)
    refused_filing = file(claimant, service, tmp_path, "first", tmp_path / "logged.json", status=2)
    assert "not logged before the registration's beacon" in refused_filing.output
    again = run("suspect", "log-interface", *ASKED_SO, "--vendor-key", key, *here, status=2)
    assert f"entry {entry}" in again.output


def test_what_is_no_fixed_interface_is_refused_with_what_prints_one(service: Service, tmp_path):
    claimant = sign_up(service, "mistaken by command")
    (tmp_path / "wrong.json").write_text('{"by": "index"}')
    assert "suspect countersign" in file(claimant, service, tmp_path, "first", tmp_path / "wrong.json", status=2).output


def file(claimant, service, folder, family, interface, status=0):
    vendor_key = folder / "vendor.key"
    vendor_key.unlink(missing_ok=True)
    private_key(folder, claimant.private_key)
    here = ["--url", service.url, "--api-key", claimant.client._http.headers["authorization"].removeprefix("Bearer ")]
    words = ["--family", family, "--endpoint", "http://127.0.0.1:9", "--vendor-key", vendor_key]
    more = ["--interface", interface, "--covers-per-trigger", "0", "--json"]
    return run("dispute", claimant.registration_id, *words, *more, *here, status=status)


def test_a_test_shows_how_the_answer_begins_without_the_key_and_sends_no_key_over_http_to_others(service: Service):
    claimant = sign_up(service, "tester with a key")
    with SuspectSimulator(innocent, key="Bearer hush-hush") as suspect:
        body = {"name": "echo", "endpoint": suspect.url, "interface": suspect.interface.to_json()}
        credentials = {"kind": "headers", "headers": {"Authorization": "Bearer hush-hushed"}}
        suspect_id = claimant.client.post("/v1/suspects", body | {"credentials": credentials})["id"]
        elsewhere = body | {"endpoint": "http://models.example.org", "credentials": credentials}
        other_id = claimant.client.post("/v1/suspects", elsewhere)["id"]
        asked = {"registration_id": claimant.registration_id, "input": _input()}
        test = claimant.client.post(f"/v1/suspects/{suspect_id}/test", asked)
        problem = refused(lambda: claimant.client.post(f"/v1/suspects/{other_id}/test", asked))
    assert test["error"] == "status_401"
    assert test["response_start"] == '{"error":"who are you?"}'
    assert problem.status == 422
    assert "allow_http" in problem.message


def _input():
    return base64.b64encode(image("ordinary")).decode()
