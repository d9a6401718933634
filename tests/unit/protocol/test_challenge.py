import hmac
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import lp, sha256, tag, u32, u64
from app.keys.labels import BeaconValue
from app.keys.trigger_set import Family, ImageInput, TensorInput, parse_input
from app.protocol.challenge import challenge_order, is_repeated, look_alike, seed_of

SEED = sha256(b"seed")
FAMILY = Family("all", 10, 60)


def test_the_seed_binds_beacon_and_entry():
    beacon = BeaconValue("local", 7, bytes(32), b"\x05" * 32)
    parts = lp(tag("challenge-seed"), "local", u64(7), bytes(32), b"\x05" * 32, b"\x01" * 32)
    assert seed_of(beacon, b"\x01" * 32) == sha256(parts)


def test_the_order_is_that_of_the_hmac_and_holds_each_trigger_once():
    order = challenge_order(SEED, FAMILY)
    assert sorted(order) == list(range(10, 60))
    marks = [hmac.digest(SEED, lp(tag("challenge"), u32(index)), "sha256") for index in order]
    assert marks == sorted(marks)
    assert challenge_order(sha256(b"another"), FAMILY) != order


def test_one_in_twenty_is_asked_twice():
    assert [position for position in range(60) if is_repeated(position)] == [0, 20, 40]


def tiles(image):
    """Every whole 4x4 tile, and what fills none with its place."""
    rows, columns = image.height // 4, image.width // 4
    whole, rest = [], []
    for y in range(image.height):
        for x in range(image.width):
            at = (y * image.width + x) * image.channels
            pixel = image.pixels[at : at + image.channels]
            if y // 4 < rows and x // 4 < columns:
                whole.append(((y // 4, x // 4), (y % 4, x % 4), pixel))
            else:
                rest.append((y, x, pixel))
    by_tile = {}
    for tile, place, pixel in whole:
        by_tile.setdefault(tile, []).append((place, pixel))
    return sorted(by_tile.values()), rest


@given(st.integers(1, 17), st.integers(1, 17), st.sampled_from([1, 3]), st.binary(min_size=8, max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_look_alike_image_has_the_same_tiles_elsewhere_and_the_same_rest(height, width, channels, salt):
    pixels = b"".join(sha256(salt + u32(part)) for part in range(-(-height * width * channels // 32)))
    image = ImageInput(height, width, channels, pixels[: height * width * channels])
    shuffled = parse_input(look_alike(SEED, 3, image.encode()))
    assert shuffled.shape == image.shape
    assert tiles(shuffled) == tiles(image)


@given(st.integers(1, 80))
@settings(deadline=None, max_examples=40)
def test_a_look_alike_tensor_has_the_same_blocks_of_16_elsewhere_and_the_same_rest(count):
    tensor = TensorInput.of((count,), range(count))
    values = parse_input(look_alike(SEED, 3, tensor.encode())).floats()
    whole = count - count % 16
    assert values[whole:] == tuple(map(float, range(whole, count)))
    blocks = [values[at : at + 16] for at in range(0, whole, 16)]
    assert sorted(blocks) == [tuple(map(float, range(at, at + 16))) for at in range(0, whole, 16)]


def test_tiles_stand_in_the_order_of_the_hmac():
    tensor = TensorInput.of((160,), range(160))
    values = parse_input(look_alike(SEED, 3, tensor.encode())).floats()
    order = [int(values[at] // 16) for at in range(0, 160, 16)]
    marks = [hmac.digest(SEED, lp(tag("look-alike"), u32(3), u32(tile)), "sha256") for tile in order]
    assert marks == sorted(marks)
    assert look_alike(SEED, 4, tensor.encode()) != look_alike(SEED, 3, tensor.encode())


@pytest.mark.parametrize("shape", [(4, 4, 1), (3, 50, 3), (7, 7, 1)])
def test_an_image_of_at_most_one_tile_is_its_own_look_alike(shape):
    size = math.prod(shape)
    image = ImageInput(*shape, (bytes(range(251)) * 2)[:size])
    assert look_alike(SEED, 0, image.encode()) == image.encode()
