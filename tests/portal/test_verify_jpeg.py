"""JPEG pictures in the browser's checker: the same pixels as Python's, bit for bit, or no word about them."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from app.canonical import sha256
from app.errors import Malformed, ProofError, Refused
from app.keys.trigger_set import ImageInput
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters import ADAPTERS
from app.suspects.adapters.inputs import JPEG_TOLERANCE
from app.suspects.adapters.jpeg import decode_jpeg, encode_jpeg
from tests.portal.conftest import needs_browser
from tests.portal.made_bundles import Spoken, file_of, spoken, with_evidence
from tests.portal.test_verify import check, in_browser
from tests.portal.test_verify_adapters import statement_for
from tests.unit.protocol.altered_evidence import reasked
from tests.unit.protocol.dispute_in_memory import Plan

pytestmark = needs_browser

Run = Callable[..., Any]

SIZES = [(1, 1, 1), (1, 1, 3), (8, 8, 3), (7, 9, 1), (16, 17, 3), (33, 5, 3), (28, 28, 1), (32, 32, 3)]


def noise(name: str, count: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(count)


def pictures() -> Iterable[ImageInput]:
    """Smooth, random, and as harsh as pixels can be."""
    for height, width, channels in SIZES:
        count = height * width * channels
        yield ImageInput(height, width, channels, noise(f"noise {count}", count))
        yield ImageInput(height, width, channels, bytes(255 * (byte & 1) for byte in noise(f"harsh {count}", count)))
        yield ImageInput(height, width, channels, bytes(at * 255 // count for at in range(count)))
        yield ImageInput(
            height, width, channels, bytes(255 * ((at // channels + at // width) % 2) for at in range(count))
        )


def read(data: bytes, shape: tuple[int, ...]) -> str:
    try:
        return decode_jpeg(data, shape).pixels.hex()
    except Malformed:
        return "refused"


READ = """const {decodeJpeg} = await load("verify/jpeg");
    const {NotHere, Refused} = await load("verify/canonical");
    const {fromHex, hex} = await load("protocol");
    return given.files.map(([data, shape]) => {
      try { return hex(decodeJpeg(fromHex(data), shape).pixels); }
      catch (error) {
        if (error instanceof NotHere) return "not read";
        if (error instanceof Refused) return "refused";
        throw error;
      }
    });"""


def test_pictures_that_we_write_are_decoded_to_the_same_pixels(run_script: Run):
    files = [(encode_jpeg(one), one.shape) for one in pictures()]
    found = run_script(READ, files=[(data.hex(), list(shape)) for data, shape in files])
    for (data, shape), said in zip(files, found, strict=True):
        assert said == read(data, shape), shape


def broken(data: bytes, channels: int) -> Iterable[tuple[bytes, tuple[int, int, int]]]:
    """A JPEG with bytes changed, taken out, put in, in its head and in its scan; and taken for another shape."""
    for seed in range(150):
        choice = noise(f"broken {seed}", 8)
        at = int.from_bytes(choice[:2], "big") % (len(data) if seed % 2 else 640)
        if seed % 5 == 0:
            yield data[:at] + data[at + 1 :], (16, 17, channels)
        elif seed % 5 == 1:
            yield data[:at] + choice[2:3] + data[at:], (16, 17, channels)
        else:
            yield data[:at] + bytes([data[at] ^ (1 << choice[3] % 8)]) + data[at + 1 :], (16, 17, channels)
    scan = data.index(b"\xff\xda")
    # What libjpeg passes over, and could carry a word to the endpoint.
    yield data[:-2] + b"hint" + data[-2:], (16, 17, channels)
    yield data[:scan] + b"\xff\xfe\x00\x06hint" + data[scan:], (16, 17, channels)
    yield data[:2] + data[20:], (16, 17, channels)
    yield data + b"hint", (16, 17, channels)
    for shape in ((17, 16, channels), (16, 17, 4 - channels), (8, 8, channels)):
        yield data, shape


def test_what_python_refuses_is_never_taken_and_what_it_takes_is_the_same_or_left_unread(run_script: Run):
    files = [
        one
        for channels in (1, 3)
        for one in broken(encode_jpeg(ImageInput(16, 17, channels, noise("broken", 272 * channels))), channels)
    ]
    found = run_script(READ, files=[(data.hex(), list(shape)) for data, shape in files])
    expected = [read(*one) for one in files]
    assert min(expected.count("refused"), found.count("refused"), found.count("not read")) > 20
    same = [said for said, wanted in zip(found, expected, strict=True) if said == wanted != "refused"]
    assert len(same) > 5
    for said, wanted in zip(found, expected, strict=True):
        assert said in (wanted, "not read")


FILED = [
    ("huggingface", {"encoding": "jpeg"}, {}),
    ("roboflow", {"encoding": "jpeg_base64"}, {"size": [20, 30]}),
    ("gradio", {"encoding": "jpeg_data_url"}, {}),
    ("bentoml", {"encoding": "jpeg_file"}, {}),
    ("generic_json", {"template": {"a": {"$input": "jpeg_base64"}}, "path": "@", "result": "any"}, {}),
]


def test_a_jpeg_holds_an_input_that_is_as_near_as_python_wants_it(run_script: Run):
    picture = ImageInput(10, 12, 3, noise("picture", 360))
    beside = [bytes(min(255, byte + away) for byte in picture.pixels) for away in (1, JPEG_TOLERANCE + 4)]
    wanted = [picture.encode(), *(replace(picture, pixels=pixels).encode() for pixels in beside), picture.encode()[:-1]]
    statement = statement_for(picture)
    asked, expected = [], []
    for adapter, options, preprocessing in FILED:
        filed = Interface(adapter, options, preprocessing, {"by": "index"})
        sent = ADAPTERS[adapter].encode_request(options, preprocessing, picture).body
        for near in (None, *wanted):
            asked.append([filed.to_json(), sent.hex(), None if near is None else near.hex()])
            try:
                expected.append(AdapterCodec().decode_request(filed, sent, statement, near).hex())
            except Refused:
                expected.append("refused")
    body = """const {decodeRequest} = await load("verify/adapters");
        const {Refused} = await load("verify/canonical");
        const {fromHex, hex} = await load("protocol");
        return Promise.all(given.asked.map(async ([filed, body, near]) => {
          const shown = {kind: "image", shape: [10, 12, 3]};
          try { return hex(await decodeRequest(filed, fromHex(body), shown, near && fromHex(near))); }
          catch (error) { if (error instanceof Refused) return "refused"; throw error; }
        }));"""
    assert run_script(body, asked=asked) == expected
    assert [said == wanted[0].hex() for said in expected[:5]] == [False, True, False, False, False]
    assert expected[2] == wanted[1].hex()
    assert expected[4] == "refused"


# --- bundles ------------------------------------------------------------------------------------------------------------


def with_request(played: Spoken, change: Callable[[bytes], bytes]) -> bytes:
    """A bundle whose first request carries another picture, with everything that depends on it computed anew."""
    first, *others = played.evidence.queries
    body = json.loads(first.request)
    picture = change(base64.b64decode(body["instances"][0]))
    request = json.dumps({"instances": [base64.b64encode(picture).decode()]}).encode()
    changed = replace(first, request=request, record=replace(first.record, request_sha256=sha256(request)))
    evidence = reasked(played.evidence, [changed, *others])
    return file_of(with_evidence(played, evidence), verdict="CONFIRMED", reason="evidence")


def test_a_bundle_of_jpegs_is_verified_and_an_odd_one_leaves_it_consistent_and_no_more(
    run_script: Run, monkeypatch: pytest.MonkeyPatch
):
    def picture_of(number: int, purpose: str = "input") -> bytes:
        return ImageInput(9, 8, 3, noise(f"{purpose} {number}", 216)).encode()

    filed = Interface("kserve_v1", {"model": "m", "encoding": "jpeg_base64"}, {}, {"by": "name"})
    for module in ("unit.protocol.dispute_in_memory", "portal.made_bundles"):
        monkeypatch.setattr(f"tests.{module}.input_of", picture_of)
    # What is played is kept: no other test plays so many triggers.
    played = spoken(Plan(triggers=14, block_size=14, interface=filed.encode()))
    assert in_browser(run_script, file_of(played))["outcome"] == "verified"
    odd = with_request(played, lambda data: data[:-2] + b"hint" + data[-2:])
    assert check(odd).decision.verdict == "CONFIRMED"
    found = in_browser(run_script, odd)
    assert (found["outcome"], found["isAuthenticated"]) == ("consistent", True)
    assert any("a JPEG that is written otherwise than ours" in said for said in found["notChecked"])
    another = with_request(played, lambda data: encode_jpeg(ImageInput(9, 8, 3, bytes(216))))
    with pytest.raises(ProofError) as caught:
        check(another)
    assert in_browser(run_script, another) == caught.value.message
