import math
import struct

import pytest

from app.canonical import lp, tag, u32
from app.errors import Malformed
from app.keys.trigger_set import (
    MAX_INPUT_BYTES,
    Family,
    ImageInput,
    TensorInput,
    check_families,
    check_shape,
    parse_input,
)


def test_an_image_is_its_tag_its_size_and_its_pixels():
    image = ImageInput(1, 2, 3, bytes(range(6)))
    assert image.encode() == lp("trapstreet/v1/input", "image", u32(1) + u32(2) + u32(3), bytes(range(6)))
    assert parse_input(image.encode()) == image
    assert (image.kind, image.shape) == ("image", (1, 2, 3))


def test_a_tensor_is_float32_and_keeps_the_sign_of_zero():
    tensor = TensorInput.of((1, 3), [0.1, -0.0, 3e38])
    assert struct.pack("<f", -0.0) in tensor.encode()
    assert parse_input(tensor.encode()) == tensor
    assert tensor.floats()[0] == pytest.approx(0.1)
    assert TensorInput.of((1, 3), tensor.floats()) == tensor


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39, "1"])
def test_a_value_that_is_no_finite_float32_is_refused(value):
    with pytest.raises(Malformed):
        TensorInput.of((1,), [value])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageInput(2, 2, 1, bytes(5)),
        lambda: ImageInput(0, 2, 1, b""),
        lambda: ImageInput(1, 1, 2, bytes(2)),
        lambda: ImageInput(1, 65_536, 1, bytes(65_536)),
        lambda: TensorInput((2,), bytes(4)),
        lambda: TensorInput((), bytes(4)),
        lambda: TensorInput((1,) * 9, bytes(4)),
        lambda: TensorInput((1,), struct.pack("<I", 0x7FC00000)),
    ],
)
def test_an_input_outside_the_limits_cannot_be_made(make):
    with pytest.raises(Malformed):
        make()


def test_the_limit_of_16_mib_counts_the_canonical_bytes_with_their_header():
    largest = (16, 27, 7, 19, 73)
    data = TensorInput(largest, bytes(4 * math.prod(largest))).encode()
    assert MAX_INPUT_BYTES - 4 < len(data) <= MAX_INPUT_BYTES
    assert parse_input(data).shape == largest
    for kind, shape in (("tensor", (*largest, 1)), ("tensor", (*largest, 1, 1, 1)), ("image", (257, 65_535, 1))):
        with pytest.raises(Malformed, match="an input may have"):
            check_shape(kind, shape)
    check_shape("image", (256, 65_535, 1))
    with pytest.raises(Malformed, match="an input may have"):
        parse_input(bytes(MAX_INPUT_BYTES + 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a canonical input"),
        (b"\0", "cut short"),
        (b"\0\0\0\x05abc", "cut short"),
        (lp("trapstreet/v1/other", "image", u32(1) * 3, b"\0"), "not a canonical input"),
        (lp(tag("input"), "image", u32(1) * 3, b"\0", ""), "not a canonical input"),
        (lp(tag("input"), "image", u32(1) * 3, b"\0") + b"\0", "cut short"),
        (lp(tag("input"), "image", bytes(11), b"\0"), "a dimension is cut short"),
        (lp(tag("input"), "image", u32(1) * 2, b"\0"), "height, width, channels"),
        (lp(tag("input"), "text", "", "hello"), "text inputs are not registered"),
        (lp(tag("input"), "Image", u32(1) * 3, b"\0"), "image or tensor"),
    ],
)
def test_other_bytes_are_no_input(data, message):
    with pytest.raises(Malformed, match=message):
        parse_input(data)


FIRST = Family("a", 0, 3)


@pytest.mark.parametrize(
    ("families", "count", "pointer"),
    [
        ([FIRST, Family("b", 2, 5)], 5, "/f/1/start"),
        ([FIRST, Family("b", 4, 5)], 5, "/f/1/start"),
        ([Family("a", 1, 3)], 3, "/f/0/start"),
        ([FIRST, Family("b", 3, 3)], 3, "/f/1/start"),
        ([FIRST], 4, "/f"),
        ([FIRST], 2, "/f"),
        ([], 1, "/f"),
        ([FIRST, Family("a", 3, 5)], 5, "/f"),
    ],
)
def test_families_that_overlap_leave_gaps_or_share_a_name_are_refused(families, count, pointer):
    with pytest.raises(Malformed) as caught:
        check_families(families, count, "/f")
    assert caught.value.pointer == pointer


def test_families_in_a_row_are_accepted():
    check_families([FIRST, Family("b", 3, 5)], 5)
    assert FIRST.size == 3
