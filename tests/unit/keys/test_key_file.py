import base64
import json

import pytest

from app.canonical import encode_json
from app.errors import Malformed, OpeningInvalid
from app.keys.commitment import MarkingKey
from app.keys.cover_set import encode_cover_set, parse_cover_set
from app.keys.key_file import MIN_ITERATIONS, encode_key_file, encode_sealed_key_file, parse_key_file
from app.keys.trigger_set import ImageInput, TensorInput

INPUTS = tuple(ImageInput(1, 2, 1, bytes([index, 9])).encode() for index in range(3))
KEY = MarkingKey(bytes(range(32)), INPUTS)
KEY_B = MarkingKey(bytes(range(32)), INPUTS, (4, 0, 1))


@pytest.fixture(scope="module")
def sealed():
    return encode_sealed_key_file(KEY, "correct horse", salt=bytes(16), nonce=bytes(12))


@pytest.mark.parametrize("key", [KEY, KEY_B])
def test_a_plain_key_file_reads_back(key):
    data = encode_key_file(key)
    assert parse_key_file(data) == key
    assert encode_key_file(parse_key_file(data)) == data


def test_a_plain_key_file_has_the_keys_of_the_protocol():
    value = json.loads(encode_key_file(KEY))
    assert set(value) == {"type", "count", "kind", "shape", "inputs", "master"}
    assert (value["type"], value["count"], value["shape"]) == ("trapstreet/v1/marking-key", 3, [1, 2, 1])
    assert base64.b64decode(value["inputs"][1]) == INPUTS[1]


def plain(**values):
    return encode_json(json.loads(encode_key_file(KEY)) | values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        encode_key_file(KEY) + b"\n",
        plain(type="trapstreet/v1/cover-set"),
        plain(count=2),
        plain(kind="tensor"),
        plain(shape=[2, 1, 1]),
        plain(inputs=[]),
        plain(inputs=["", "", ""]),
        plain(inputs=[None, None, None]),
        plain(inputs=["é", "é", "é"]),
        plain(inputs=[base64.b64encode(INPUTS[0]).decode() + "\n"] * 3),
        plain(inputs=[base64.b64encode(TensorInput.of((1, 2, 1), [0, 0]).encode()).decode()] * 3),
        plain(master="00" * 31),
        plain(labels=[0, 0, 0]),
        encode_json(json.loads(encode_key_file(KEY_B)) | {"labels": [0, 0]}),
        encode_json(json.loads(encode_key_file(KEY_B)) | {"labels": [0, 0, 65_536]}),
    ],
)
def test_another_file_is_malformed(data):
    with pytest.raises(Malformed):
        parse_key_file(data)


def test_base64_with_stray_bits_is_refused():
    image = ImageInput(1, 1, 1, b"\0").encode()
    text = base64.b64encode(image).decode()
    assert text.endswith("A=")
    stray = text[:-2] + "B="
    assert base64.b64decode(stray) == image
    with pytest.raises(Malformed, match="as it is printed"):
        parse_key_file(plain(shape=[1, 1, 1], inputs=[stray] * 3))


def test_a_sealed_key_file_opens_with_its_passphrase_alone(sealed):
    assert parse_key_file(sealed, "correct horse") == KEY
    for passphrase in (None, "", "Correct horse"):
        with pytest.raises(OpeningInvalid):
            parse_key_file(sealed, passphrase)


def test_a_sealed_key_file_shows_nothing_of_the_key(sealed):
    assert set(json.loads(sealed)) == {"type", "kdf", "iterations", "salt", "nonce", "ciphertext"}
    assert base64.b64encode(INPUTS[0])[:16] not in sealed
    assert KEY.master.hex().encode() not in sealed


@pytest.mark.parametrize(
    "change",
    [{"salt": "01" * 16}, {"nonce": "01" * 12}, {"iterations": MIN_ITERATIONS + 1}, {"ciphertext": ""}],
    ids=lambda change: next(iter(change)),
)
def test_a_sealed_key_file_that_was_changed_does_not_open(sealed, change):
    with pytest.raises(OpeningInvalid):
        parse_key_file(encode_json(json.loads(sealed) | change), "correct horse")


@pytest.mark.parametrize(
    "change",
    [{"kdf": "scrypt"}, {"iterations": MIN_ITERATIONS - 1}, {"iterations": 10_000_001}, {"salt": ""}, {"nonce": ""}],
)
def test_a_sealed_key_file_with_weaker_parameters_is_malformed(sealed, change):
    with pytest.raises(Malformed):
        parse_key_file(encode_json(json.loads(sealed) | change), "correct horse")


@pytest.mark.parametrize(
    "parameters",
    [
        {"salt": bytes(15), "nonce": bytes(12)},
        {"salt": bytes(16), "nonce": bytes(11)},
        {"salt": bytes(16), "nonce": bytes(12), "iterations": 1000},
    ],
)
def test_no_sealed_file_is_written_that_could_not_be_read(parameters):
    with pytest.raises(Malformed):
        encode_sealed_key_file(KEY, "correct horse", **parameters)


def test_a_cover_set_reads_back_and_is_no_key():
    data = encode_cover_set(INPUTS)
    assert parse_cover_set(data).inputs == INPUTS
    assert encode_cover_set(parse_cover_set(data).inputs) == data
    with pytest.raises(Malformed):
        parse_key_file(data)
    with pytest.raises(Malformed):
        parse_cover_set(encode_key_file(KEY))
