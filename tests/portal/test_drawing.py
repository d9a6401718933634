"""What the browser draws, reads and finds too few, against the command line's own code and the real command."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from PIL import Image, ImageOps
from playwright.sync_api import Browser

from app.keys.key_file import parse_key_file
from app.keys.trigger_set import ImageInput
from app.portal.rendering import static_url
from app.protocol.evidence import can_reach, threshold
from tests import forked
from tests.flows.claimant import Service
from tests.portal.conftest import opened, origin_of

Run = Callable[..., Any]

NAMES = ("families", "keys", "pictures", "protocol", "randomness", "triggers")
SEED = bytes(range(32))


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Run a function body on a page of the portal, with the scripts of registering at hand."""
    with opened(browser, origin_of(service)) as tab:
        tab.go("/")
        addresses = [static_url(f"{name}.js") for name in NAMES]
        loading = f"const [{', '.join(NAMES)}] = await Promise.all(given.addresses.map((at) => import(at)));"

        def evaluate(body: str, **given: Any) -> Any:
            return tab.page.evaluate(f"async (given) => {{ {loading} {body} }}", given | {"addresses": addresses})

        yield evaluate


def stream(count: int) -> bytes:
    """Give the bytes that the seed draws."""
    return Cipher(algorithms.AES256(SEED), modes.CTR(bytes(16))).encryptor().update(bytes(count))


def test_one_seed_draws_the_same_bytes_however_they_are_cut_and_across_pieces(run: Run):
    body = """const drawn = await randomness.Randomness.from(protocol.fromHex(given.seed));
        const parts = [];
        for (const count of given.counts) parts.push(await drawn.bytes(count));
        return protocol.hex(await protocol.sha256(protocol.concat(...parts))) + protocol.hex(parts.at(-1));"""
    counts = [1, 15, 3_000_000, 17]
    told = bytes.fromhex(run(body, seed=SEED.hex(), counts=counts))
    whole = stream(sum(counts))
    assert told[-17:] == whole[-17:]
    assert told[:32] == bytes.fromhex(
        run("return protocol.hex(await protocol.sha256(protocol.fromHex(given.all)));", all=whole.hex())
    )


def test_a_set_of_triggers_is_drawn_again_from_its_seed(run: Run):
    body = """const draw = async (kind, seed) => {
          const drawn = await randomness.Randomness.from(protocol.fromHex(seed));
          const shape = [8, 8, 3];
          return (await triggers.apartFrom([], () => triggers[kind](shape, drawn), 5, shape)).map(protocol.hex);
        };
        return [await draw("abstract", given.seed), await draw("abstract", given.seed), await draw("abstract", given.other),
                await draw("noise", given.seed)];"""
    first, again, other, noise = run(body, seed=SEED.hex(), other=SEED[::-1].hex())
    assert first == again
    assert not set(first) & set(other)
    pixels = stream(5 * 192)
    assert [bytes.fromhex(each)[-192:] for each in noise] == [
        pixels[at : at + 192] for at in range(0, len(pixels), 192)
    ]


@pytest.mark.parametrize("families", [1, 3])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_too_few_are_those_that_the_command_line_finds(run: Run, families: int, classes: int):
    bound = threshold(64, 0, families, 1)
    least = run(
        "return families.leastTriggers(families.boundOf(given.count), given.classes);", count=families, classes=classes
    )
    assert can_reach(bound, least, classes)
    assert not can_reach(bound, least - 1, classes)
    words = """const check = (count) => families.checkEnough(
          Array.from({length: given.count}, (_, at) => ({name: `f${at}`, start: at * count, end: (at + 1) * count})),
          given.classes);
        return [check(given.least - 1), check(given.least), check(512)];"""
    small, scant, plenty = run(words, count=families, classes=classes, least=least)
    assert f"f0 ({least - 1} triggers)" in small["refused"]
    assert f"fewer than {least} triggers" in small["refused"]
    assert scant["refused"] == ""
    assert ("with two classes" in scant["warned"]) == (classes == 2)
    assert plenty == {"refused": "", "warned": ""}


def test_near_pairs_are_found_where_the_early_end_could_miss_them(run: Run):
    body = """const shape = [8, 8, 1];
        const flat = (value) => keys.imageInput(shape, new Uint8Array(64).fill(value));
        return triggers.nearPairs([100, 112, 125, 200].map(flat), ["a", "b", "c", "d"], given.start);"""
    # 5 % of full scale is 12.75: 12 is near, 13 is not.
    assert [pair[:2] for pair in run(body, start=0)] == [["a", "b"]]
    assert run(body, start=2) == []


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def colours(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.putdata([((37 * at) % 256, (91 * at) % 256, (53 * at) % 256) for at in range(width * height)])
    return image


def turned(**options: Any) -> bytes:
    """Give a picture whose camera notes that it is to be shown turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(colours(8, 8), exif=exif, **options)


def sixteen_bits() -> bytes:
    image = Image.new("I;16", (8, 8))
    image.putdata([1000 * at for at in range(64)])
    return encoded(image, format="PNG")


PICTURES = {
    "colour.png": encoded(colours(8, 8), format="PNG"),
    "palette.png": encoded(colours(8, 8).quantize(16), format="PNG"),
    "grey.png": encoded(colours(8, 8).convert("L"), format="PNG"),
    "photo.jpg": encoded(colours(8, 8), format="JPEG", quality=95, subsampling=0),
    "halved.jpg": encoded(colours(8, 8), format="JPEG", quality=85, subsampling=2),
}

READ = """const file = new File([protocol.fromHex(given.data)], given.name);
    try {
      return protocol.hex((await pictures.fromFiles([file], given.shape))[0]);
    } catch (error) {
      return error.message;
    }"""


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_right_size_have_the_bytes_of_the_real_command(run: Run, tmp_path: Path, channels: int):
    for name, data in PICTURES.items():
        archive, key_file = tmp_path / f"{name}.zip", tmp_path / f"{name}.key"
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr(f"mine/{name}", data)
        words = f"keygen {key_file} --images {archive} --image-family mine --shape 8x8x{channels}"
        told = forked.run(["-m", "app.cli", *words.split()], {"PATH": os.environ["PATH"]})
        assert told.returncode == 0, told.stderr
        (expected,) = parse_key_file(key_file.read_bytes()).inputs
        assert run(READ, name=name, data=data.hex(), shape=[8, 8, channels]) == expected.hex(), name


@pytest.mark.parametrize("form", [{"format": "PNG"}, {"format": "JPEG", "quality": 95, "subsampling": 0}])
def test_a_picture_is_turned_as_its_camera_notes_and_as_people_see_it(run: Run, form: dict[str, Any]):
    data = turned(**form)
    found = bytes.fromhex(run(READ, name="turned", data=data.hex(), shape=[8, 8, 3]))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert found == ImageInput(8, 8, 3, upright.convert("RGB").tobytes()).encode()
    assert found != ImageInput(8, 8, 3, Image.open(io.BytesIO(data)).convert("RGB").tobytes()).encode()


def test_what_programs_read_differently_is_refused_with_a_reason(run: Run):
    see_through = colours(8, 8).convert("RGBA")
    see_through.putpixel((3, 3), (10, 20, 30, 128))
    for name, data, why in [
        ("glass.png", encoded(see_through, format="PNG"), "glass.png is transparent in places"),
        ("deep.png", sixteen_bits(), "deep.png has 16 bits a channel"),
        ("words.png", b"no picture", "words.png is no picture"),
    ]:
        assert why in run(READ, name=name, data=data.hex(), shape=[8, 8, 3])
