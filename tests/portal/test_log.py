"""The log in a browser, without an account and without scripts, and what its pages say to do, done."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from app.cli.client import register_statement
from app.keys.commitment import MarkingKey
from app.keys.trigger_set import Family
from app.merkle.checkpoint import parse_checkpoint
from app.merkle.tree import verify_consistency
from app.portal.rendering import STATIC
from tests.flows.claimant import Claimant, Service, sign_up
from tests.portal.conftest import Tab, needs_browser

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp"


def fetch(service: Service, path: str) -> httpx2.Response:
    with httpx2.Client(base_url=service.url, trust_env=False) as client:
        return client.get(path)


@pytest.fixture(scope="module")
def registered(service: Service) -> Claimant:
    return sign_up(service, "log vendor")


@needs_browser
def test_whoever_comes_reads_entries_and_their_proofs(plain_tab: Tab, service: Service, registered: Claimant):
    page = plain_tab.go("/log")
    size = int(page.get_by_role("heading", level=2).inner_text().split()[0])
    indices = [int(text) for text in page.locator("tbody th").all_inner_texts()]
    assert indices == list(reversed(range(max(0, size - 50), size)))
    plain_tab.check_phone()

    page = plain_tab.go(f"/log/{registered.registration}")
    said = page.inner_text("main")
    assert "Registration of a watermark" in said
    assert registered.statement.root.hex() in said
    assert (
        hashlib.sha256(b"\0" + fetch(service, f"/v1/log/entries/{registered.registration}").content).hexdigest() in said
    )
    assert fetch(service, "/v1/log/key").text.strip() in said
    plain_tab.check_phone()
    page.get_by_role("link", name=f"Entry {registered.registration + 1}", exact=True).click()
    page.get_by_role("heading", name=f"Entry {registered.registration + 1}: ").wait_for()


def test_the_lines_on_an_entrys_page_verify_its_receipt_with_openssl(
    service: Service, registered: Claimant, tmp_path: Path
):
    page = fetch(service, f"/log/{registered.registration}").text
    lines = page.split("curl -fo entry")[1].split("</code></pre>")[0].splitlines()
    lines[0] = "curl -fo entry" + lines[0]
    fetched = [line for line in lines if line.startswith("curl")]
    assert len(fetched) == 4
    for line in fetched:
        _, _, name, address = line.split()
        path = "/" + address.split("/", 3)[3]
        (tmp_path / name).write_bytes(fetch(service, path).content)
    rest = "\n".join(line for line in lines if not line.startswith("curl"))
    done = subprocess.run(["bash", "-euc", rest], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert hashlib.sha256(service.log_key()).hexdigest() in done.stdout
    assert f"entry {registered.registration} of " in done.stdout
    entry = tmp_path / f"entry-{registered.registration}.json"
    entry.write_bytes(entry.read_bytes().replace(b'"count":224', b'"count":225'))
    assert subprocess.run(["bash", "-euc", rest], cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_the_script_that_is_handed_out_is_the_one_of_the_docs():
    docs = Path(__file__).parents[2] / "docs" / "verify-receipt.sh"
    assert (STATIC / "verify-receipt.sh").read_bytes() == docs.read_bytes()


@needs_browser
def test_a_checkpoint_that_was_kept_is_proven_to_be_the_logs_beginning(
    plain_tab: Tab, service: Service, registered: Claimant
):
    page = plain_tab.go("/log/checkpoint")
    size = parse_checkpoint(fetch(service, "/v1/log/checkpoint").content)[0].size
    page.get_by_label("Size in the checkpoint").fill("3")
    page.get_by_role("button", name="Prove it").click()
    hashes = [bytes.fromhex(text) for text in page.locator("main ol code").all_inner_texts()]
    old = parse_checkpoint(
        page.request.get(f"{plain_tab.origin}/log/checkpoint?size=3").text().split("<code>")[1].split("</code>")[0]
    )
    new = parse_checkpoint(page.locator("pre code").inner_text())
    assert new[0].size == size
    verify_consistency(3, old[0].root, new[0].size, new[0].root, hashes)
    plain_tab.check_phone()
    page.get_by_label("Size in the checkpoint").fill("99999999")
    page.get_by_role("button", name="Prove it").click()
    assert page.get_by_label("Size in the checkpoint").input_value() == "99999999"
    assert "older" not in page.locator("#from-hint").inner_text()


@needs_browser
def test_pages_of_the_log_hold_to_the_rules_for_everybody(tab: Tab, service: Service, registered: Claimant):
    for path in (
        "/log",
        "/log?before=2",
        f"/log/{registered.registration}",
        "/log/checkpoint",
        "/log/checkpoint?from=1",
    ):
        tab.go(path)
        tab.check()
        tab.check_phone()


def test_what_is_hidden_in_a_filing_is_explained_and_shown_nowhere(service: Service):
    kinds = {row["index"]: row["kind"] for row in fetch(service, "/v1/log/entries?limit=100").json()["items"]}
    for index, kind in kinds.items():
        if kind == "filing":
            page = fetch(service, f"/log/{index}").text
            assert "must not warn the endpoint" in page


def test_hostile_names_stand_as_text_and_unseen_characters_as_escapes(service: Service, registered: Claimant):
    key = MarkingKey(hashlib.sha256(b"log hostile").digest(), registered.key.inputs)
    families = (Family(HOSTILE, 0, key.count),)
    statement = replace(registered.statement, root=key.root(), classes=("one", HOSTILE), families=families)
    index = register_statement(registered.client, statement, registered.private_key)["entry_index"]
    page = fetch(service, f"/log/{index}").text
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202egnp" in page


@pytest.mark.parametrize(
    "path",
    [
        "/log/-1",
        "/log/007",
        "/log/99999999",
        "/log/x",
        "/log?before=-1",
        "/log?before=x",
        "/log/checkpoint?size=9999999",
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(service: Service, registered: Claimant, path: str):
    answer = fetch(service, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
