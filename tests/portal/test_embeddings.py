"""Trainings, reports and white-box checks in a browser: sealed there, done by a real worker, watched, taken over."""

import base64
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Browser

from app.embedding.recipe import Recipe
from app.gpu_worker import load_queue_key
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.people.persons import AUDITOR
from app.portal.rendering import static_url
from tests.flows.embedding_house import ENDLESS, House, Vendor, open_house, sign_up
from tests.forked import Forked
from tests.portal.conftest import Tab, opened, sign_in
from tests.training.examples import TINY, image_members, shapes_to_learn, write_tensors, write_zip

USUAL = Recipe("resnet18").to_json()

# Of a folder and a file: a name that a page must not run.
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def house(servers: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers("embedded"), tmp_path_factory.mktemp("house"), "embed.cpu") as made:
        yield made


@pytest.fixture(scope="module")
def owner(house: House, tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return sign_up(house, tmp_path_factory.mktemp("owner"), "portal trainer")


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Forked]:
    process = house.start(house.queue)
    yield process
    process.terminate()
    process.wait()


@pytest.fixture
def tab(browser: Browser, house: House, owner: Vendor) -> Iterator[Tab]:
    """The browser of an owner of the vendor."""
    with opened(browser, house.url.replace("127.0.0.1", "localhost"), accept_downloads=True) as tab:
        sign_in(tab, house, UUID(owner.client.get("/v1/vendors/me")["id"]))
        yield tab


@pytest.fixture(scope="module")
def files(owner: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file, a wrong one, and data to learn."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "key.json").write_bytes(encode_key_file(owner.key))
    (folder / "wrong.json").write_bytes(encode_key_file(MarkingKey(bytes(32), owner.key.inputs)))
    write_tensors(folder / "train.safetensors", *shapes_to_learn(90, 1))
    write_tensors(folder / "test.safetensors", *shapes_to_learn(30, 2))
    write_zip(folder / "names.zip", [(f"{HOSTILE}/1.png", data) for _, data in image_members(1)])
    return folder


@pytest.fixture(scope="module")
def marked(owner: Vendor, worker: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The digest of a marked network, which the log holds first, and the file of one that it holds later."""
    digests = []
    for seed in (1, 2):
        order = owner.place({**TINY, "compare_plain": False, "seed": seed})
        digests.append(owner.wait_for(order, "done")["artifact_sha256"])
    later = tmp_path_factory.mktemp("marked") / HOSTILE
    later.write_bytes(owner.client.download(f"/v1/artifacts/{digests[1]}"))
    return digests[0], later


def fill(tab: Tab, files: Path, key: str = "key.json", more: str = "{}") -> None:
    page = tab.page
    page.get_by_label("Marking key file").set_input_files(files / key)
    page.get_by_label("Training data").set_input_files(files / "train.safetensors")
    page.get_by_label("Test data").set_input_files(files / "test.safetensors")
    page.get_by_label("Network", exact=True).fill("mlp")
    page.get_by_label("Method").select_option("append")
    page.get_by_label("Epochs", exact=True).fill("25")
    page.get_by_label("Triggers a batch").fill("6")
    page.get_by_label("Further options").fill(more)


def test_what_the_browser_seals_the_queues_workers_open(tab: Tab, house: House):
    queue = load_queue_key(house.folder / "data" / "queue-keys", house.queue)
    body = """async ({sealing, protocol, key, text}) => {
        const [{seal}, {base64, fromHex, utf8}] = await Promise.all([import(sealing), import(protocol)]);
        return base64(await seal(fromHex(key), utf8(text), fromHex("07".repeat(32))));
    }"""
    given = {"sealing": static_url("sealing.js"), "protocol": static_url("protocol.js"), "key": queue.public.hex()}
    for text in ("", "a secret", "x" * 100_000):
        sealed = base64.b64decode(tab.page.evaluate(body, {**given, "text": text}))
        assert queue.unseal(sealed, b"\x07" * 32) == text.encode()
    refused = """async ({sealing, protocol, key}) => {
        const [{seal}, {fromHex, utf8}] = await Promise.all([import(sealing), import(protocol)]);
        return seal(fromHex(key), utf8("a secret"), new Uint8Array(32)).then(() => "sealed", (error) => error.message);
    }"""
    for key in (bytes(64), queue.public[:63], queue.public + b"\0", b""):
        said = tab.page.evaluate(refused, {**given, "key": key.hex()})
        assert said == "this is no queue's public key: nothing sealed to it would be secret"


def test_the_form_says_the_recipe_that_the_worker_gets(tab: Tab, owner: Vendor, files: Path):
    page = tab.go(f"/embeddings/new?registration={owner.registration_id}")
    page.get_by_text("More of the recipe").click()
    tab.check()
    fill(tab, files)
    page.get_by_label("Seeds compared").fill("0")
    page.get_by_label("Learning rate").fill("0.0123")
    page.get_by_label("Schedule").select_option("cosine")
    page.get_by_label("Mirror pictures").check()
    page.get_by_label("Shift pictures by").fill("2")
    page.get_by_label("Batch", exact=True).fill("1")
    page.get_by_text("More of the recipe").click()
    place = page.get_by_role("button", name="Seal the key")
    place.click()
    # What is wrong lay in a part that was closed.
    page.get_by_label("Batch", exact=True).fill("16")
    place.click()
    page.wait_for_url(re.compile(r"/embeddings/[0-9a-f]{8}-"))
    order = owner.client.get(f"/v1/embeddings/{page.url.rpartition('/')[2]}")
    owner.cancel(order)
    said = {name: value for name, value in order["recipe"].items() if value != USUAL.get(name)}
    assert said == {
        "network": "mlp",
        "method": "append",
        "epochs": 25,
        "triggers_per_batch": 6,
        "batch_size": 16,
        "learning_rate_micros": 12_300,
        "schedule": "cosine",
        "flip": True,
        "crop_padding": 2,
        "compare_plain": False,
    }


def test_a_mark_is_trained_from_the_browser_and_its_survival_reported(
    tab: Tab, owner: Vendor, files: Path, worker: object, tmp_path: Path
):
    page = tab.go(f"/embeddings/new?registration={owner.registration_id}")
    tab.check()
    tab.check_phone()
    sent: list[bytes] = []
    page.on("request", lambda request: sent.append(request.post_data_buffer or b""))
    fill(tab, files, more='{"precision": "fp32", "batch_size": 16, "schedule": "cosine", "threads": 1}')
    page.get_by_role("button", name="Seal the key").click()
    page.get_by_role("heading", name="Before and after").wait_for(timeout=90_000)
    told = b"".join(sent)
    assert owner.key.master not in told
    assert owner.key.master.hex().encode() not in told
    assert base64.b64encode(owner.key.inputs[0]) not in told
    tab.check()
    tab.check_phone()
    assert page.locator("svg.plot polyline").count() == 2
    assert "12 of 12" in page.inner_text("main")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Marked weights").click()
    digest = page.locator("dd code").first.inner_text()
    assert owner.client.get(f"/v1/embeddings/{page.url.rpartition('/')[2]}")["artifact_sha256"] == digest
    assert saved.value.path().stat().st_size > 0
    page.get_by_role("link", name="learn what the mark survives").click()
    tab.check()
    page.get_by_label("Marking key file").set_input_files(files / "key.json")
    page.get_by_role("button", name="Seal the key").click()
    page.get_by_role("button", name="The report with its plots").wait_for(timeout=120_000)
    tab.check()
    tab.check_phone()
    page.get_by_role("button", name="The report with its plots").click()
    page.locator("svg").first.wait_for()
    for path in ("/embeddings", "/survival-reports"):
        tab.go(path)
        tab.check()
        tab.check_phone()


def test_what_is_wrong_is_said_before_anything_is_uploaded(tab: Tab, owner: Vendor, files: Path):
    page = tab.go("/embeddings/new")
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/v1/artifacts" in request.url else None)
    problem = page.locator("#problem")
    fill(tab, files, key="wrong.json")
    place = page.get_by_role("button", name="Seal the key")
    place.click()
    problem.get_by_text("not the registered one").wait_for()
    fill(tab, files, key="train.safetensors")
    place.click()
    problem.get_by_text("this is no key file").wait_for()
    fill(tab, files, more="{")
    place.click()
    problem.get_by_text("further options must be JSON").wait_for()
    assert uploads == []
    fill(tab, files, more='{"epoch": 3}')
    place.click()
    problem.get_by_text("epoch").wait_for()
    assert page.get_by_label("Network", exact=True).input_value() == "mlp"


def test_a_training_that_fails_says_why_in_words_that_run_nothing(tab: Tab, owner: Vendor, files: Path, worker: object):
    page = tab.go(f"/embeddings/new?registration={owner.registration_id}")
    fill(tab, files)
    page.get_by_label("Training data").set_input_files(files / "names.zip")
    page.get_by_role("button", name="Seal the key").click()
    problem = page.get_by_role("alert").filter(has_text="Failed")
    problem.wait_for(timeout=60_000)
    assert HOSTILE in problem.inner_text()
    assert page.locator("main img").count() == 0
    tab.check()
    tab.check_phone()
    page.get_by_role("link", name="place another order").click()
    assert page.get_by_label("Watermark").input_value() == owner.registration_id


def test_a_suspects_weights_are_asked_and_what_is_no_evidence_stands_apart(
    tab: Tab, owner: Vendor, files: Path, marked: tuple[str, Path]
):
    head, later = marked
    page = tab.go("/white-box-checks")
    tab.check()
    page.get_by_role("button", name="Order a check").click()
    page.get_by_text("Try your own head too").click()
    tab.check()
    tab.check_phone()
    page.get_by_label("Marking key file").set_input_files(files / "key.json")
    page.get_by_label("Suspect's weights").set_input_files(later)
    page.get_by_label("Your head", exact=True).select_option(head)
    place = page.get_by_role("button", name="Seal the key")
    place.click()
    page.locator("#problem").get_by_text("without a control").wait_for()
    page.get_by_label("Controls").set_input_files(later)
    place.click()
    page.get_by_role("heading", name="no evidence").wait_for(timeout=60_000)
    told = page.inner_text("main")
    assert "12 of 12\t15.9\t73.0\tno" in told
    assert "This is not evidence" in told
    assert HOSTILE in told
    assert page.locator("main img").count() == 0
    tab.check()
    tab.check_phone()
    tab.go("/white-box-checks")
    tab.check()
    page.get_by_role("link", name=re.compile("UTC")).last.click()
    page.get_by_role("heading", name="What the suspect itself answers").wait_for()


def test_a_running_training_is_watched_cancelled_and_survives_its_worker(
    tab: Tab, house: House, owner: Vendor, worker: Forked
):
    order = owner.place(ENDLESS)
    owner.wait_for_progress(order)
    page = tab.go(f"/embeddings/{order['id']}")
    page.get_by_text("The marked network: epoch").wait_for()
    first = page.get_by_label("Epochs", exact=True).get_attribute("value")
    page.wait_for_function("before => document.querySelector('progress').value > before", arg=float(first or 0))
    tab.check()
    page.get_by_text("left in this run").wait_for()
    page.get_by_role("button", name="Cancel this training").click()
    page.get_by_text("the sealed key is erased").wait_for()
    order = owner.place(ENDLESS)
    owner.wait_for_progress(order)
    tab.go(f"/embeddings/{order['id']}")
    os.kill(worker.pid, signal.SIGKILL)
    house.start(house.queue)
    page.get_by_text("attempt 2").wait_for(timeout=60_000)
    owner.cancel(order)
    page.get_by_text("Cancelled").first.wait_for()


def test_others_find_nothing_and_auditors_change_nothing(tab: Tab, house: House, owner: Vendor, browser: Browser):
    order = owner.place(TINY)
    owner.cancel(order)
    check = {"registration_id": owner.registration_id, "queue": owner.queue, "suspect": owner.train_data}
    check = owner.client.post("/v1/white-box-checks", {**check, "sealed_key": owner.sealed()})
    report = owner.place_report(owner.train_data, "prune-50")
    kinds = (("embeddings", order), ("white-box-checks", check), ("survival-reports", report))
    with opened(browser, tab.origin) as other:
        sign_in(other, house, UUID(owner.client.get("/v1/vendors/me")["id"]), role=AUDITOR)
        page = other.go(f"/embeddings/{order['id']}")
        assert "Cancelled" in page.inner_text("main")
        for kind, placed in kinds:
            assert other.page.request.get(f"{other.origin}/{kind}/{placed['id']}").status == 200
            assert other.page.request.get(f"{other.origin}/{kind}/new").status == 403
            refused = other.page.request.post(
                f"{other.origin}/{kind}/{placed['id']}/cancel", headers={"Origin": other.origin}, form={}
            )
            assert refused.status == 403
    with opened(browser, tab.origin) as stranger:
        sign_in(
            stranger, house, UUID(sign_up(house, house.folder, "portal stranger").client.get("/v1/vendors/me")["id"])
        )
        for kind, placed in kinds:
            for ask, path in ((stranger.page.request.get, ""), (stranger.page.request.post, "/cancel")):
                here, nowhere = (
                    ask(f"{stranger.origin}/{kind}/{identity}{path}", headers={"Origin": stranger.origin})
                    for identity in (placed["id"], f"{'0' * 8}-0000-7000-8000-{'0' * 12}")
                )
                assert (here.status, here.body()) == (404, nowhere.body())
            page = stranger.go(f"/{kind}?after=<script>")
            page.get_by_text("this address cannot be read: change after").wait_for()
            assert "<script>" not in page.inner_text("main")
        stranger.check()
        theirs = stranger.page.request.get(f"{stranger.origin}/survival-reports/new?embedding={order['id']}")
        assert theirs.status == 404


def test_the_pages_work_without_javascript(browser: Browser, house: House, owner: Vendor):
    order = owner.place(TINY)
    owner.cancel(order)
    with opened(browser, house.url.replace("127.0.0.1", "localhost"), java_script_enabled=False) as tab:
        sign_in(tab, house, UUID(owner.client.get("/v1/vendors/me")["id"]))
        assert "Cancelled" in tab.go(f"/embeddings/{order['id']}").inner_text("main")
        assert "trapstreet embed" in tab.go("/embeddings/new").inner_text("main")
