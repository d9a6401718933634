"""Every encoding carries an input there and back, and nothing beside it."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput, parse_input
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters.codec import Preprocessing, enlarge, parse_preprocessing, reduce
from app.suspects.adapters.inputs import (
    BODY_ENCODINGS,
    JPEG_TOLERANCE,
    NUMBER_ENCODINGS,
    TEXT_ENCODINGS,
    check_encoding,
    read_input,
    write_input,
)
from app.suspects.adapters.jpeg import decode_jpeg, encode_jpeg


def rules(encoding, **changes):
    return Preprocessing(dtype="float32" if encoding.startswith("floats") else "uint8", **changes)


def sent_and_read(encoding, image, known):
    written = write_input(encoding, known, image)
    value = written if encoding in BODY_ENCODINGS else json.loads(written)
    return parse_input(read_input(encoding, known, value, "image", image.shape))


images = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3))).flatmap(
    lambda shape: st.binary(min_size=shape[0] * shape[1] * shape[2], max_size=shape[0] * shape[1] * shape[2]).map(
        lambda pixels: ImageInput(*shape, pixels)
    )
)


@pytest.mark.parametrize("encoding", [*NUMBER_ENCODINGS, "png_base64", "png_data_url", "png"])
@given(image=images, more=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_an_exact_encoding_gives_the_image_back_whatever_its_size(encoding, image, more):
    size = (image.height + more[0], image.width + more[1])
    assert sent_and_read(encoding, image, rules(encoding, size=size)) == image


@pytest.mark.parametrize("encoding", ["jpeg_base64", "jpeg_data_url", "jpeg"])
@given(image=images, double=st.booleans())
def test_jpeg_gives_every_pixel_back_within_the_tolerance(encoding, image, double):
    size = (2 * image.height, 2 * image.width) if double else None
    read = sent_and_read(encoding, image, rules(encoding, size=size))
    assert max(abs(a - b) for a, b in zip(read.pixels, image.pixels, strict=True)) <= JPEG_TOLERANCE


def test_a_picture_is_enlarged_by_repeating_its_pixels():
    image = ImageInput(2, 2, 1, bytes([1, 2, 3, 4]))
    assert enlarge(image, Preprocessing(size=(2, 3))).pixels == bytes([1, 1, 2, 3, 3, 4])


def test_a_picture_with_a_pixel_of_its_own_is_no_enlargement():
    sent = ImageInput(2, 4, 1, bytes([1, 1, 2, 2, 3, 9, 4, 4]))
    with pytest.raises(Malformed, match="repeated"):
        reduce(sent, Preprocessing(size=(2, 4)), (2, 2, 1))


def test_a_size_below_the_inputs_own_is_refused():
    with pytest.raises(Malformed, match="never dropped") as refused:
        parse_preprocessing({"size": [2, 9]}, "image", (3, 3, 1))
    assert refused.value.pointer == "/preprocessing/size"


@pytest.mark.parametrize(
    ("encoding", "known", "kind"),
    [
        ("png_base64", Preprocessing(scale="0..1", dtype="float32"), "image"),
        ("jpeg", Preprocessing(layout="chw"), "image"),
        ("png", Preprocessing(dtype="float32"), "tensor"),
        ("pixels_flat", Preprocessing(dtype="float32"), "image"),
        ("floats_flat", Preprocessing(), "image"),
    ],
)
def test_an_encoding_that_cannot_carry_the_preprocessing_is_refused(encoding, known, kind):
    with pytest.raises(Malformed):
        check_encoding(encoding, known, kind, "/options/encoding")


@pytest.mark.parametrize("encoding", [*TEXT_ENCODINGS, *BODY_ENCODINGS])
def test_a_tensor_is_no_picture(encoding):
    with pytest.raises(Malformed):
        write_input(encoding, Preprocessing(), TensorInput.of((2,), [0.5, 1.0]))


@pytest.mark.parametrize("value", [None, 7, "data:image/png;base64,AAAA", "####", "AA==\n", "QUF=", "QUFB"])
def test_text_that_holds_no_picture_of_ours_is_refused(value):
    with pytest.raises(Malformed):
        read_input("png_base64", Preprocessing(), value, "image", (2, 2, 1))


GREY = ImageInput(8, 8, 1, bytes(range(0, 256, 4)))


def jpeg(**options):
    out = io.BytesIO()
    Image.frombytes("L", (8, 8), GREY.pixels).save(out, format="JPEG", **options)
    return out.getvalue()


def test_our_own_jpeg_is_read():
    assert decode_jpeg(encode_jpeg(GREY), (8, 8, 1)).shape == (8, 8, 1)


OURS = encode_jpeg(GREY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xd9",
        OURS[:-2],
        OURS + b"label 7",
        OURS[:-2] + OURS[2:],
        OURS[:2] + b"\xff\xfe\x00\x07seven"[:9] + OURS[2:],
        OURS[:60] + b"\xff\xd9",
        jpeg(comment=b"answer seven"),
        jpeg(exif=b"Exif\x00\x00answer seven"),
        OURS[:20] + b"\xff\xdb\x00\x43\x03" + b"answer7!" * 8 + OURS[20:],
        OURS[:20] + OURS[20:89] + OURS[20:],
        OURS[:20] + b"\xff\xdb\x00\x84" + OURS[24:89] + OURS[24:],
        OURS[:20] + b"\xff\xc4\x00\x02" + OURS[20:],
        OURS[:20] + OURS[89:],
        jpeg(progressive=True),
        jpeg(dpi=(7, 7)),
        encode_jpeg(ImageInput(8, 8, 3, bytes(192))),
        encode_jpeg(ImageInput(4, 16, 1, bytes(64))),
    ],
)
def test_a_jpeg_that_could_say_more_than_its_picture_is_refused(data):
    with pytest.raises(Malformed):
        decode_jpeg(data, (8, 8, 1))


def test_an_auditor_accepts_a_jpeg_of_the_committed_input_and_of_no_other(statement_of_grey):
    interface = Interface("kserve_v1", {"model": "m", "encoding": "jpeg_base64"}, {}, {"by": "index"})
    codec = AdapterCodec()
    body = b'{"instances":[' + write_input("jpeg_base64", Preprocessing(), GREY) + b"]}"
    committed = GREY.encode()
    assert codec.decode_request(interface, body, statement_of_grey, committed) == committed
    other = ImageInput(8, 8, 1, bytes(reversed(GREY.pixels))).encode()
    assert codec.decode_request(interface, body, statement_of_grey, other) != other


def test_an_exact_encoding_has_no_tolerance(statement_of_grey):
    interface = Interface("kserve_v1", {"model": "m", "encoding": "png_base64"}, {}, {"by": "index"})
    body = b'{"instances":[' + write_input("png_base64", Preprocessing(), GREY) + b"]}"
    near = ImageInput(8, 8, 1, bytes([1, *GREY.pixels[1:]])).encode()
    assert AdapterCodec().decode_request(interface, body, statement_of_grey, near) == GREY.encode()


@pytest.fixture
def statement_of_grey():
    class Grey:
        kind = "image"
        shape = (8, 8, 1)

    return Grey()
