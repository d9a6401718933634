"""From nothing to a registered watermark in a browser that keeps its keys."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from app.canonical import sha256
from app.keys.commitment import MarkingKey
from app.keys.cover_set import encode_cover_set
from app.keys.key_file import encode_key_file
from app.keys.labels import draw_labels, salt_of
from app.keys.statement import parse_statement
from app.keys.trigger_set import ImageInput, parse_input
from app.merkle.receipt import parse_receipt, verify_receipt
from app.people.persons import AUDITOR
from app.protocol.assessment import beacon_value
from app.protocol.records import parse_entry
from tests import forked
from tests.flows.claimant import ORIGIN, Claimant, Service, sign_up
from tests.portal.conftest import Tab, opened, origin_of, sign_in, vendor_id_of
from tests.portal.registering import CLASSES, PASSPHRASE, become_vendor, listening, make_triggers, read, ready


def picture(path: Path, shade: int) -> Path:
    """Write a colour picture of the right size whose grey is known."""
    image = Image.new("RGB", (8, 8))
    image.putdata([((shade + 3 * at) % 256, (5 * at) % 256, (shade * at) % 256) for at in range(64)])
    image.save(path)
    return path


def grey(path: Path) -> bytes:
    return ImageInput(8, 8, 1, Image.open(io.BytesIO(path.read_bytes())).convert("L").tobytes()).encode()


def test_a_watermark_is_registered_and_no_secret_leaves_the_browser(maker: Tab, service: Service, tmp_path: Path):
    page = maker.page
    own = [picture(tmp_path / f"own-{shade}.png", shade) for shade in (7, 90)]
    covers = tmp_path / "covers.json"
    cover_inputs = [ImageInput(8, 8, 1, bytes([shade] * 64)).encode() for shade in range(3)]
    covers.write_bytes(encode_cover_set(cover_inputs, [0, 1, 2]))
    with listening(page) as sent:
        private_key = become_vendor(maker, tmp_path, "Portal Vision Ltd")
        maker.go("/registrations")
        page.get_by_role("button", name="Register a watermark").click()
        key = make_triggers(page, tmp_path, own, PASSPHRASE)
        page.get_by_label("I have").check()
        page.get_by_label("Class names").fill(CLASSES)
        page.get_by_label("Too few will do").check()
        page.get_by_label("Labelled covers").set_input_files(covers)
        page.get_by_label("Your vendor key file").set_input_files(tmp_path / "vendor.key")
        maker.check()
        maker.check_phone()
        page.get_by_role("button", name="Sign and register").click()
        page.get_by_role("heading", name="Watermark of 13 triggers").wait_for()
    assert key.inputs[-2:] == tuple(map(grey, own))
    assert sent.leaked({"root": key.root()}) == ["root"]
    assert sent.leaked(secrets_of(key, private_key, tmp_path)) == []
    assert sent.posted == [
        ("/v1/vendors/challenges", set()),
        ("/vendors", {"challenge", "contact", "name", "public_key", "signature"}),
        ("/v1/registrations", {"statement", "signature"}),
    ]
    labels_are_the_command_lines(maker, service, key, tmp_path)


def secrets_of(key: MarkingKey, private_key: bytes, folder: Path) -> dict[str, bytes]:
    """Name all that must stay: master, keys, inputs and their pixels, the key file plain and sealed, the passphrase."""
    sealed = (folder / "marking-key.json").read_bytes()
    secrets = {
        "master": key.master,
        "private key": private_key,
        "passphrase": PASSPHRASE.encode(),
        "plain file": encode_key_file(key),
        "sealed file": sealed,
        "sealed text": base64.b64decode(json.loads(sealed)["ciphertext"]),
    }
    for at, data in enumerate(key.inputs):
        pixels = parse_input(data)
        assert isinstance(pixels, ImageInput)
        secrets |= {f"input {at}": data, f"pixels {at}": pixels.pixels, f"label key {at}": key.label_key(at)}
    return secrets


@pytest.mark.parametrize(
    "leak",
    [
        "fetch('/', {method: 'POST', body: Uint8Array.from(given)})",
        "fetch('/', {method: 'POST', body: given.map((byte) => byte.toString(16).padStart(2, '0')).join('')})",
        "fetch('/', {headers: {'X-Told': btoa(String.fromCharCode(...given))}})",
        "fetch('/?' + btoa(String.fromCharCode(...given)).replaceAll('+', '-').replaceAll('/', '_'))",
        "fetch('/', {method: 'POST', body: JSON.stringify({told: given})})",
    ],
)
def test_the_listener_hears_a_secret_in_every_form(tab: Tab, leak: str):
    secret = bytes(range(224, 256)) + bytes(range(31))
    tab.go("/")
    with listening(tab.page) as sent:
        tab.page.evaluate(f"async (given) => {{ await {leak}; }}", list(secret))
    assert sent.leaked({"secret": secret, "other": secret[::-1]}) == ["secret"]


def labels_are_the_command_lines(tab: Tab, service: Service, key: MarkingKey, folder: Path) -> None:
    page = tab.page
    page.get_by_role("heading", name="Labels").wait_for()
    tab.check()
    tab.check_phone()
    page.get_by_label("Marking key file").set_input_files(folder / "marking-key.json")
    page.get_by_label("Passphrase, if").fill(PASSPHRASE)
    page.get_by_role("button", name="Compute the labels").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the labels").click()
    saved.value.save_as(folder / "labels.json")
    with page.expect_download() as receipt:
        page.get_by_role("button", name="Receipt", exact=True).click()
    receipt.value.save_as(folder / "receipt.txt")
    registration_id = page.url.rpartition("/")[2]
    found = read(page, f"/v1/registrations/{registration_id}")
    statement = parse_statement(found["statement"].encode())
    entry = page.request.get(f"{tab.origin}/v1/log/entries/{found['entry_index']}").body()
    receipt_of = parse_receipt((folder / "receipt.txt").read_bytes())
    assert receipt_of.index == found["entry_index"]
    verify_receipt(receipt_of, entry, service.log_key(), ORIGIN)
    beacon = parse_entry(read(page, f"/v1/registrations/{registration_id}/beacon")["entry"].encode())
    salt = salt_of(beacon_value(beacon), statement.root, sha256(entry))
    assert json.loads((folder / "labels.json").read_text()) == draw_labels(key, salt, 3)
    assert [family.name for family in statement.families] == ["abstract", "noise", "own"]
    assert statement.covers is not None


def test_what_is_wrong_is_said_and_what_was_typed_stays(maker: Tab, service: Service, tmp_path: Path):
    become_vendor(maker, tmp_path, "Careless Ltd")
    page = maker.go("/registrations/new")
    twins = [picture(tmp_path / f"twin-{at}.png", 50) for at in (1, 2)]
    problem = page.locator("#problem")
    for label, value in [("Height", "8"), ("Width", "8"), ("Abstract", "0"), ("Noise", "0")]:
        page.get_by_label(label).fill(value)
    make = page.get_by_role("button", name="Make the triggers")
    make.click()
    problem.get_by_text("choose how many triggers").wait_for()
    page.get_by_label("Your own pictures").set_input_files(twins)
    make.click()
    problem.get_by_text("twin-1.png and twin-2.png (0.0 %)").wait_for()
    page.get_by_label("Passphrase", exact=True).fill("one")
    make.click()
    problem.get_by_text("the two passphrases differ").wait_for()
    page.get_by_label("Passphrase", exact=True).fill("")
    page.get_by_label("Your own pictures").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no"})
    make.click()
    problem.get_by_text("a.png is no picture").wait_for()
    page.get_by_label("Your own pictures").set_input_files([])
    page.get_by_label("Noise").fill("4")
    with page.expect_download():
        make.click()
    page.get_by_label("I have").check()
    page.get_by_label("Class names").fill("one\ntwo")
    page.get_by_label("Your vendor key file").set_input_files(tmp_path / "vendor.key")
    with listening(page) as sent:
        page.get_by_role("button", name="Sign and register").click()
        problem.get_by_text("noise (4 triggers): a dispute asks one family, and with 2 classes").wait_for()
    assert sent.posted == []
    page.get_by_label("Too few will do").check()
    other = tmp_path / "other.key"
    other.write_text("11" * 32)
    refusals = [
        (twins[0], "one\ntwo", "no vendor key"),
        (other, "one\ntwo", "not the vendor's present key"),
        (tmp_path / "vendor.key", "one\nONE", "stands twice"),
    ]
    for file, names, said in refusals:
        page.get_by_label("Class names").fill(names)
        page.get_by_label("Your vendor key file").set_input_files(file)
        page.get_by_role("button", name="Sign and register").click()
        problem.get_by_text(said).wait_for()
    assert page.get_by_label("Class names").input_value() == "one\nONE"


def test_labels_are_refused_for_another_key_and_a_file_of_the_command_line_opens(
    tab: Tab, service: Service, vendor: Claimant, tmp_path: Path
):
    sign_in(tab, service, vendor_id_of(vendor), role=AUDITOR)
    page = tab.go(f"/registrations/{vendor.registration_id}")
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(encode_key_file(MarkingKey(bytes(32), vendor.key.inputs)))
    page.get_by_label("Marking key file").set_input_files(wrong)
    page.get_by_role("button", name="Compute the labels").click()
    page.locator("#problem").get_by_text("does not open the registered root").wait_for()
    right = tmp_path / "right.json"
    right.write_bytes(encode_key_file(vendor.key))
    page.get_by_label("Marking key file").set_input_files(right)
    page.get_by_role("button", name="Compute the labels").click()
    page.get_by_role("button", name="Save the labels").wait_for()
    tab.check()
    tab.check_phone()
    rows_show_each_trigger(page, vendor)
    counts = [int(cell) for cell in page.locator("#drawn td:nth-child(2)").all_inner_texts()]
    drawn = list(vendor.labels.values())
    assert counts == [drawn.count(label) for label in range(10)]


def rows_show_each_trigger(page: Page, vendor: Claimant) -> None:
    """Hold number, picture and label of the first two pages of triggers to the key's."""
    statement = json.loads(page.locator("#facts").inner_text())["statement"]
    names = statement["classes"]
    for start in (0, 50):
        page.get_by_text(f"Triggers {start} to {start + 49} of {len(vendor.key.inputs)}").wait_for()
        rows = page.locator("#each tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        assert rows == [[str(at), "", names[vendor.labels[vendor.key.inputs[at]]]] for at in range(start, start + 50)]
        shown = page.get_by_label(f"trigger {start + 3}", exact=True).evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        )
        expected = parse_input(vendor.key.inputs[start + 3])
        assert isinstance(expected, ImageInput)
        assert shown[::4] == list(expected.pixels[:: expected.channels])
        page.get_by_role("button", name="Later").click()


def test_who_may_not_register_is_told_and_strangers_find_nothing(
    tab: Tab, service: Service, vendor: Claimant, browser: Browser
):
    sign_in(tab, service, vendor_id_of(vendor), role=AUDITOR)
    page = tab.go("/registrations/new")
    page.get_by_text("you may not do this: ask an owner").wait_for()
    stranger = sign_up(service, "portal stranger", count=33)
    with opened(browser, origin_of(service)) as other:
        sign_in(other, service, vendor_id_of(stranger))
        here = other.page.request.get(f"{other.origin}/registrations/{vendor.registration_id}")
        nowhere = other.page.request.get(f"{other.origin}/registrations/{'0' * 8}-0000-7000-8000-{'0' * 12}")
        assert (here.status, here.body()) == (nowhere.status, nowhere.body()) == (404, nowhere.body())


def test_a_vendors_name_is_text_and_a_bad_one_comes_back(maker: Tab, service: Service, tmp_path: Path):
    name = "<img src=x onerror=alert(1)>"
    become_vendor(maker, tmp_path, name)
    assert maker.page.get_by_role("heading", level=1).inner_text() == name
    page = maker.go("/vendors/new")
    maker.check()
    page.get_by_label("Name of the vendor").fill("Second\u200f name")
    page.get_by_label("Contact").fill("kept@example.org")
    page.get_by_label("The key file").set_input_files(tmp_path / "vendor.key")
    page.get_by_role("button", name="Sign and register").click()
    page.get_by_text("at most 200 characters, on one line").wait_for()
    assert page.get_by_label("Contact").input_value() == "kept@example.org"
    page.get_by_label("Name of the vendor").fill("Second name")
    page.get_by_label("The key file").set_input_files(tmp_path / "vendor.key")
    page.get_by_role("button", name="Sign and register").click()
    page.get_by_text("a vendor with this public key is registered").wait_for()
    maker.check()


def test_a_key_made_in_the_browser_serves_the_command_line(maker: Tab, service: Service, tmp_path: Path):
    become_vendor(maker, tmp_path, "Both Ways Ltd")
    page = maker.go("/registrations/new")
    key = ready(page, tmp_path)
    page.get_by_role("button", name="Sign and register").click()
    page.get_by_role("heading", name="Labels").wait_for()
    registration_id = page.url.rpartition("/")[2]
    maker.go("/vendor/api-keys")
    page.get_by_role("textbox", name="Name").fill("cli")
    page.locator("input[value=read]").check()
    page.get_by_role("button", name="Make a key").click()
    api_key = page.get_by_text(re.compile("^ts_[a-z0-9]+_")).first.inner_text()
    told = forked.run(
        ["-m", "app.cli", "labels", str(tmp_path / "marking-key.json"), registration_id, "--json"],
        service.environment | {"TRAPSTREET_URL": service.url, "TRAPSTREET_API_KEY": api_key},
    )
    assert told.returncode == 0, told.stderr
    assert len(json.loads(told.stdout)["labels"]) == key.count
