"""The browser's keys against the command line's: the same commitments, openings, labels and files."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from app.keys.commitment import InputOpening, LabelOpening, MarkingKey
from app.keys.key_file import encode_key_file, encode_sealed_key_file, parse_key_file
from app.keys.labels import draw_labels
from app.keys.trigger_set import ImageInput, TensorInput
from app.merkle.tree import MemoryTree, leaf_hash
from app.portal.rendering import static_url
from app.signature import public_key_of, sign
from tests.flows.claimant import Service
from tests.portal.conftest import opened, origin_of

Run = Callable[..., Any]

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "protocol-v1.json").read_text())

IMAGES = MarkingKey(bytes(range(32)), tuple(ImageInput(2, 3, 1, bytes([index] * 6)).encode() for index in range(13)))
CHOSEN = MarkingKey(
    bytes(32), tuple(TensorInput.of((2,), [index, 0.5]).encode() for index in range(5)), (4, 0, 1, 1, 2)
)
KEYS = pytest.mark.parametrize("key", [IMAGES, CHOSEN], ids=["images", "labels chosen"])


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Run a function body on a page of the portal, with `keys`, `protocol` and `merkle` at hand."""
    with opened(browser, origin_of(service)) as tab:
        tab.go("/")
        addresses = {name: static_url(f"{name}.js") for name in ("keys", "protocol", "merkle")}

        def evaluate(body: str, **given: Any) -> Any:
            given |= {"addresses": addresses}
            loading = "const load = (at) => import(at); const [keys, protocol, merkle] = await "
            loading += "Promise.all(Object.values(given.addresses).map(load));"
            return tab.page.evaluate(f"async (given) => {{ {loading} {body} }}", given)

        yield evaluate


OPEN = "const key = await keys.openKeyFile(protocol.utf8(given.file), given.passphrase ?? '');"


@KEYS
def test_commitments_and_openings_are_the_same_bytes(run: Run, key: MarkingKey):
    body = f"""{OPEN}
        const each = await Promise.all(key.inputs.map(async (_, at) => [await key.openInput(at), await key.openLabel(at)]));
        return [protocol.hex(await key.root()), each];"""
    root, openings = run(body, file=encode_key_file(key).decode())
    assert bytes.fromhex(root) == key.root()
    for index, (of_input, of_label) in enumerate(openings):
        assert InputOpening.from_json(of_input) == key.open_input(index)
        assert LabelOpening.from_json(of_label) == key.open_label(index)


def test_the_beacon_draws_the_same_labels(run: Run):
    body = (
        f"{OPEN} return Promise.all(key.inputs.map((_, at) => key.drawLabel(protocol.fromHex(given.salt), at, 1000)));"
    )
    labels = run(body, file=encode_key_file(IMAGES).decode(), salt="07" * 32)
    assert labels == draw_labels(IMAGES, b"\x07" * 32, 1000)


@KEYS
def test_a_file_made_in_the_browser_opens_here(run: Run, key: MarkingKey):
    body = f"""{OPEN}
        const decoder = new TextDecoder();
        return [decoder.decode(key.encode()), decoder.decode(await keys.sealKeyFile(key, "pässword"))];"""
    plain, sealed = run(body, file=encode_key_file(key).decode())
    assert plain.encode() == encode_key_file(key)
    assert parse_key_file(sealed.encode(), "pässword") == key


def test_a_sealed_file_made_here_opens_in_the_browser_by_its_passphrase_alone(run: Run):
    sealed = encode_sealed_key_file(IMAGES, "hush", salt=bytes(16), nonce=bytes(12)).decode()
    assert run(f"{OPEN} return protocol.hex(await key.root());", file=sealed, passphrase="hush") == IMAGES.root().hex()
    opening = "await keys.openKeyFile(protocol.utf8(given.file), given.passphrase);"
    refusal = f"try {{ {opening} }} catch (error) {{ return error.message; }}"
    assert "does not open" in run(refusal, file=sealed, passphrase="wrong")
    assert "type its passphrase" in run(refusal, file=sealed, passphrase="")
    assert "not JSON" in run(refusal, file="{", passphrase="")
    assert "not canonical" in run(refusal, file=' {"type":"x"}', passphrase="")
    assert "no marking key" in run(refusal, file='{"type":"x"}', passphrase="")


def test_the_vendors_key_signs_as_it_does_here(run: Run):
    seed = bytes(range(32))
    body = """const key = await keys.openVendorKey(protocol.utf8(given.file));
        const signature = await key.sign(protocol.utf8("said"));
        return [protocol.hex(key.publicKey), protocol.hex(signature), new TextDecoder().decode(key.encode()),
                await keys.verifySignature(key.publicKey, signature, protocol.utf8("said")),
                await keys.verifySignature(key.publicKey, signature, protocol.utf8("not said"))];"""
    public, signature, file, holds, holds_for_another = run(body, file=seed.hex() + "\n")
    assert (public, signature) == (public_key_of(seed).hex(), sign(seed, b"said").hex())
    assert (file, holds, holds_for_another) == (seed.hex() + "\n", True, False)


def test_trees_of_every_size_have_the_same_roots_and_paths_and_wrong_ones_do_not_hold(run: Run):
    body = """const found = [];
        for (let size = 1; size <= 20; size += 1) {
          const leaves = await Promise.all(Array.from({length: size}, (_, at) => merkle.leafHash(Uint8Array.of(at))));
          const levels = await merkle.treeOf(leaves);
          const root = await merkle.rootOf(levels);
          const paths = await Promise.all(leaves.map((_, at) => merkle.inclusionPath(levels, at)));
          for (const [at, path] of paths.entries()) {
            await merkle.verifyInclusion(leaves[at], at, size, path, root);
            const wrong = merkle.verifyInclusion(leaves[at], (at + 1) % size, size, path, root);
            if (size > 1 && (await wrong.then(() => true, () => false))) throw new Error(`${at} of ${size} held elsewhere`);
          }
          found.push([protocol.hex(root), paths.map((path) => path.map(protocol.hex))]);
        }
        return found;"""
    for size, (root, paths) in enumerate(run(body), start=1):
        tree = MemoryTree([leaf_hash(bytes([at])) for at in range(size)])
        assert root == tree.root().hex()
        assert paths == [[each.hex() for each in tree.path(at)] for at in range(size)]


def test_inputs_of_the_protocols_vectors_have_the_same_bytes(run: Run):
    body = """return Promise.all(given.inputs.map(async ({kind, shape, values}) => {
        if (kind === "image") return protocol.hex(await protocol.sha256(keys.imageInput(shape, Uint8Array.from(values))));
        const numbers = new Uint8Array(Float32Array.from(values).buffer);
        return protocol.hex(await protocol.sha256(
          protocol.lp(protocol.tag("input"), "tensor", protocol.concat(...shape.map(protocol.u32)), numbers)));
      }));"""
    assert run(body, inputs=VECTORS["inputs"]) == [each["canonical_sha256"] for each in VECTORS["inputs"]]


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS["commitments"] if each["count"] <= 256], ids=lambda v: v["count"]
)
def test_commitments_of_the_protocols_vectors_are_reproduced(run: Run, vector: dict[str, Any]):
    image = vector["image"]
    size = image["height"] * image["width"] * image["channels"]
    seed = bytes.fromhex(image["seed"])
    pixels = [hashlib.shake_256(seed + index.to_bytes(4, "big")).hexdigest(size) for index in range(vector["count"])]
    body = """const {vector, pixels} = given;
        const shape = [vector.image.height, vector.image.width, vector.image.channels];
        const inputs = pixels.map((each) => keys.imageInput(shape, protocol.fromHex(each)));
        const key = new keys.MarkingKey(protocol.fromHex(vector.master), inputs);
        const beacon = {source: vector.beacon.source, round: vector.beacon.round,
          randomness: protocol.fromHex(vector.beacon.randomness), nonce: protocol.fromHex(vector.beacon.nonce)};
        const salt = await keys.saltOf(beacon, await key.root(), protocol.fromHex(vector.beacon.entry_hash));
        return {input_key_0: protocol.hex(await key.inputKey(0)), label_key_0: protocol.hex(await key.labelKey(0)),
          root: protocol.hex(await key.root()), salt: protocol.hex(salt),
          path_last: (await key.openInput(key.count - 1)).path,
          labels: await Promise.all(inputs.map((_, at) => key.drawLabel(salt, at, vector.classes)))};"""
    found = run(body, vector=vector, pixels=pixels)
    assert found == {name: vector[name] for name in found}
