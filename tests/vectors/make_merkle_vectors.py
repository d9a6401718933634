"""Write the vectors of the log: inclusion and consistency proofs, checkpoints, receipts, beacons.

One case a file; `_fail` in the name means that it must be refused. Keys and entries are fixed, so running this again
changes nothing; a test compares. The drand rounds are recorded ones, which nobody but drand could have made.
Run: PYTHONPATH=. python tests/vectors/make_merkle_vectors.py
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

from app.canonical import sha256, time_text
from app.merkle.checkpoint import Checkpoint, NoteSignature, encode_note, parse_checkpoint, sign_checkpoint
from app.merkle.receipt import Receipt, encode_receipt
from app.merkle.tree import EMPTY_ROOT, MemoryTree, consistency_path, leaf_hash, root_at
from app.protocol.beacon import QUICKNET
from app.signature import public_key_of

HERE = Path(__file__).parent

ORIGIN = "log.example/trapstreet"
LOG_KEY = sha256(b"vectors: log key")
OTHER_KEY = sha256(b"vectors: another log's key")
ENTRIES = [f'{{"entry":{index}}}'.encode() for index in range(11)]
TREE = MemoryTree([leaf_hash(entry) for entry in ENTRIES])

# Edges of the shape: 0, 1, 2^k - 1, 2^k, 2^k + 1.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 11)

QUICKNET_ROUNDS = {
    1000: "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
    1001: "b33bf3667cbd5a82de3a24b4e0e9fe5513cc1a0e840368c6e31f5fcfa79bea03f73896b25883abf2853d10337fb8fa41",
    1002: "ab066f9c12dd6de1336fca0f925192fb0c72a771c3e4c82ede1fd362c1a770f9eb05843c6308ce2530b53a99c0281a6e",
    657413: "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
}


def flip(data, bit=0):
    return bytes([data[0] ^ (1 << bit)]) + data[1:]


def hexes(values):
    return [value.hex() for value in values]


def inclusion_cases():
    for size in SIZES:
        tree = MemoryTree([TREE.read(0, index) for index in range(size)])
        for index in sorted({0, size // 2, size - 1}):
            yield f"merkle/inclusion_{index}_of_{size}", inclusion(index, size, tree.path(index))
    path = TREE.path(6)
    good = inclusion(6, 11, path)
    yield "merkle/inclusion_index_at_size_fail", good | {"index": 11}
    yield "merkle/inclusion_index_negative_fail", good | {"index": -1}
    yield "merkle/inclusion_other_index_fail", good | {"index": 7}
    yield "merkle/inclusion_other_size_fail", good | {"size": 8}
    yield "merkle/inclusion_size_zero_fail", good | {"index": 0, "size": 0, "path": [], "root": EMPTY_ROOT.hex()}
    yield "merkle/inclusion_path_too_short_fail", good | {"path": hexes(path[:-1])}
    yield "merkle/inclusion_path_too_long_fail", good | {"path": hexes([*path, path[0]])}
    yield "merkle/inclusion_path_reversed_fail", good | {"path": hexes(path[::-1])}
    yield "merkle/inclusion_path_hash_short_fail", good | {"path": hexes([path[0][:-1], *path[1:]])}
    yield "merkle/inclusion_path_bit_fail", good | {"path": hexes([flip(path[0]), *path[1:]])}
    yield "merkle/inclusion_leaf_bit_fail", good | {"leaf": flip(TREE.read(0, 6)).hex()}
    yield "merkle/inclusion_leaf_short_fail", good | {"leaf": TREE.read(0, 6)[:-1].hex()}
    yield "merkle/inclusion_root_bit_fail", good | {"root": flip(TREE.root()).hex()}
    yield "merkle/inclusion_root_short_fail", good | {"root": TREE.root()[:-1].hex()}
    # An inner node must not pass for a leaf one level up.
    yield (
        "merkle/inclusion_node_as_leaf_fail",
        good | {"leaf": TREE.read(1, 3).hex(), "index": 3, "path": hexes(path[1:])},
    )


def inclusion(index, size, path):
    root = root_at(size, TREE)
    leaf = TREE.read(0, index)
    return {
        "kind": "inclusion",
        "leaf": leaf.hex(),
        "index": index,
        "size": size,
        "path": hexes(path),
        "root": root.hex(),
    }


def consistency(old, new):
    return {
        "kind": "consistency",
        "old_size": old,
        "old_root": root_at(old, TREE).hex(),
        "new_size": new,
        "new_root": root_at(new, TREE).hex(),
        "path": hexes(consistency_path(old, new, TREE)),
    }


def consistency_cases():
    for old, new in [(0, 0), (0, 5), (1, 1), (1, 2), (2, 3), (3, 4), (4, 7), (4, 8), (5, 8), (6, 11), (7, 9), (8, 11)]:
        yield f"merkle/consistency_{old}_to_{new}", consistency(old, new)
    good, path = consistency(6, 11), consistency_path(6, 11, TREE)
    yield "merkle/consistency_shrinking_fail", good | {"old_size": 11, "new_size": 6}
    yield "merkle/consistency_size_negative_fail", good | {"old_size": -1}
    yield "merkle/consistency_other_old_size_fail", good | {"old_size": 5}
    yield "merkle/consistency_other_new_size_fail", good | {"new_size": 8}
    yield "merkle/consistency_path_empty_fail", good | {"path": []}
    yield "merkle/consistency_path_too_short_fail", good | {"path": hexes(path[:-1])}
    yield "merkle/consistency_path_too_long_fail", good | {"path": hexes([*path, path[0]])}
    yield "merkle/consistency_path_bit_fail", good | {"path": hexes([flip(path[0]), *path[1:]])}
    yield "merkle/consistency_path_hash_long_fail", good | {"path": hexes([path[0] + b"\0", *path[1:]])}
    yield "merkle/consistency_old_root_bit_fail", good | {"old_root": flip(root_at(6, TREE)).hex()}
    yield "merkle/consistency_new_root_bit_fail", good | {"new_root": flip(root_at(11, TREE)).hex()}
    yield "merkle/consistency_old_root_short_fail", good | {"old_root": root_at(6, TREE)[:-1].hex()}
    yield "merkle/consistency_same_size_other_root_fail", consistency(5, 5) | {"old_root": root_at(4, TREE).hex()}
    yield "merkle/consistency_same_size_with_path_fail", consistency(5, 5) | {"path": hexes(path[:1])}
    yield "merkle/consistency_from_empty_with_path_fail", consistency(0, 5) | {"path": hexes(path[:1])}
    yield "merkle/consistency_empty_with_other_root_fail", consistency(0, 5) | {"old_root": root_at(1, TREE).hex()}
    yield (
        "merkle/consistency_both_empty_other_root_fail",
        consistency(0, 0)
        | {
            "old_root": root_at(1, TREE).hex(),
            "new_root": root_at(1, TREE).hex(),
        },
    )


def note_of(size):
    return sign_checkpoint(Checkpoint(ORIGIN, size, root_at(size, TREE)), LOG_KEY)


def signature_bit(note):
    checkpoint, (line,) = parse_checkpoint(note)
    return encode_note(checkpoint, [NoteSignature(line.name, line.key_id, flip(line.signature))])


WITNESS = NoteSignature("witness.example/w1", b"\x01\x02\x03\x04", bytes(72))


def cosigned(note):
    checkpoint, lines = parse_checkpoint(note)
    return encode_note(checkpoint, [WITNESS, *lines, WITNESS])


def notes():
    """Give note and name of every checkpoint case; receipts carry them too."""
    good = note_of(11)
    root = base64.b64encode(TREE.root()).decode()
    yield "size_11", good
    yield "size_11_cosigned", cosigned(good)
    yield "signature_bit_fail", signature_bit(good)
    yield "signature_of_another_key_fail", sign_checkpoint(Checkpoint(ORIGIN, 11, TREE.root()), OTHER_KEY)
    yield "signed_for_another_size_fail", good.replace("\n11\n", "\n12\n")
    yield "signed_for_another_root_fail", good.replace(root, base64.b64encode(root_at(10, TREE)).decode())
    yield "size_with_leading_zeros_fail", good.replace("\n11\n", "\n0011\n")
    yield "size_negative_fail", good.replace("\n11\n", "\n-5\n")
    yield "size_in_other_digits_fail", good.replace("\n11\n", "\n\u0661\u0661\n")
    yield "size_with_space_fail", good.replace("\n11\n", "\n11 \n")
    yield "size_too_large_fail", good.replace("\n11\n", f"\n{2**53}\n")
    yield "size_missing_fail", good.replace("\n11\n", "\n")
    yield "root_short_fail", good.replace(root, base64.b64encode(TREE.root()[:-1]).decode())
    # 43 characters hold 258 bits: the last two must be zero.
    yield "root_with_stray_bits_fail", good.replace(root, root[:-2] + chr(ord(root[-2]) + 1) + "=")
    yield "root_without_padding_fail", good.replace(root, root[:-1])
    yield "extension_line_fail", good.replace(root, f"{root}\nextension")
    yield "final_newline_missing_fail", good[:-1]
    yield "final_newline_twice_fail", good + "\n"
    yield "carriage_returns_fail", good.replace("\n", "\r\n")
    yield "signature_missing_fail", good.partition("\u2014")[0]
    yield "signature_not_base64_fail", good[:-2] + "*\n"
    yield "signature_line_with_hyphen_fail", good.replace("\u2014", "-")


def checkpoint_cases():
    case = {"log_key": public_key_of(LOG_KEY).hex(), "origin": ORIGIN}
    yield "checkpoint/size_0", case | {"note": note_of(0)}
    yield "checkpoint/size_1", case | {"note": note_of(1)}
    for name, note in notes():
        yield f"checkpoint/{name}", case | {"note": note}
    yield "checkpoint/key_short_fail", case | {"note": note_of(11), "log_key": public_key_of(LOG_KEY)[:-1].hex()}
    other = sign_checkpoint(Checkpoint("log.example/other", 11, TREE.root()), LOG_KEY)
    yield "checkpoint/another_origin_fail", case | {"note": other}


def receipt_case(receipt, entry):
    text = receipt if isinstance(receipt, str) else encode_receipt(receipt).decode()
    return {
        "receipt": text,
        "entry": entry.hex(),
        "log_key": public_key_of(LOG_KEY).hex(),
        "origin": ORIGIN,
    }


def receipt_cases():
    for size in SIZES:
        for index in sorted({0, size // 2, size - 1}):
            path = tuple(MemoryTree([TREE.read(0, i) for i in range(size)]).path(index))
            yield f"receipt/entry_{index}_of_{size}", receipt_case(Receipt(index, path, note_of(size)), ENTRIES[index])
    path, entry = tuple(TREE.path(6)), ENTRIES[6]
    for name, note in notes():
        yield f"receipt/checkpoint_{name}", receipt_case(Receipt(6, path, note), entry)
    good = receipt_case(Receipt(6, path, note_of(11)), entry)
    text = str(good["receipt"])
    first = base64.b64encode(path[0]).decode()
    yield "receipt/entry_bit_fail", good | {"entry": flip(entry).hex()}
    yield "receipt/entry_empty_fail", good | {"entry": ""}
    yield "receipt/another_entry_fail", good | {"entry": ENTRIES[7].hex()}
    yield "receipt/another_index_fail", receipt_case(Receipt(7, path, note_of(11)), entry)
    yield "receipt/index_at_size_fail", receipt_case(Receipt(11, path, note_of(11)), entry)
    yield "receipt/index_with_leading_zero_fail", good | {"receipt": text.replace("index 6\n", "index 06\n")}
    yield "receipt/index_negative_fail", good | {"receipt": text.replace("index 6\n", "index -6\n")}
    yield "receipt/index_missing_fail", good | {"receipt": text.replace("index 6\n", "")}
    yield "receipt/proof_of_another_size_fail", receipt_case(Receipt(6, path, note_of(8)), entry)
    yield "receipt/path_too_short_fail", receipt_case(Receipt(6, path[:-1], note_of(11)), entry)
    yield "receipt/path_too_long_fail", receipt_case(Receipt(6, (*path, path[0]), note_of(11)), entry)
    yield "receipt/path_bit_fail", receipt_case(Receipt(6, (flip(path[0]), *path[1:]), note_of(11)), entry)
    yield "receipt/path_hash_short_fail", receipt_case(Receipt(6, (path[0][:-1], *path[1:]), note_of(11)), entry)
    stray = first[:-2] + chr(ord(first[-2]) + 1) + "="
    yield "receipt/path_with_stray_bits_fail", good | {"receipt": text.replace(first, stray)}
    yield "receipt/another_format_fail", good | {"receipt": text.replace("@v1", "@v2")}
    yield "receipt/extra_line_fail", good | {"receipt": text.replace("index", "extra AAAA\nindex", 1)}
    yield "receipt/checkpoint_missing_fail", good | {"receipt": text.partition("\n\n")[0] + "\n\n"}


def beacon_cases():
    for round_, signature in QUICKNET_ROUNDS.items():
        yield f"beacon/quicknet_{round_}", quicknet(round_, signature)
    good = quicknet(1000, QUICKNET_ROUNDS[1000])
    yield "beacon/quicknet_later_round_fail", good | quicknet(1001, QUICKNET_ROUNDS[1001]) | keep(good, "entry_time")
    yield (
        "beacon/quicknet_earlier_round_fail",
        quicknet(1001, QUICKNET_ROUNDS[1001]) | keep(good, "round", "randomness", "signature"),
    )
    yield "beacon/quicknet_signature_of_another_round_fail", quicknet(1000, QUICKNET_ROUNDS[1001])
    yield "beacon/quicknet_signature_negated_fail", quicknet(1000, flip(bytes.fromhex(QUICKNET_ROUNDS[1000]), 5).hex())
    yield "beacon/quicknet_randomness_bit_fail", good | {"randomness": flip(bytes.fromhex(good["randomness"])).hex()}
    yield "beacon/quicknet_signature_empty_fail", quicknet(1000, "")
    yield "beacon/quicknet_signature_short_fail", quicknet(1000, QUICKNET_ROUNDS[1000][:-2])
    yield "beacon/quicknet_signature_at_infinity_fail", quicknet(1000, "c0" + "00" * 47)
    yield "beacon/quicknet_signature_off_the_curve_fail", quicknet(1000, "80" + "00" * 46 + "01")
    # x = 4 is on the curve, but in one of the groups beside the one of prime order.
    yield "beacon/quicknet_signature_in_another_group_fail", quicknet(1000, "80" + "00" * 46 + "04")
    yield "beacon/another_chain_fail", good | {"source": "drand:" + "ab" * 32}
    local = {
        "source": "local",
        "round": 5,
        "randomness": "00" * 32,
        "signature": "",
        "entry_index": 5,
        "entry_time": "2026-01-31T12:00:00Z",
    }
    yield "beacon/local", local
    yield "beacon/local_first_entry", local | {"round": 0, "entry_index": 0}
    yield "beacon/local_another_round_fail", local | {"round": 6}
    yield "beacon/local_chosen_randomness_fail", local | {"randomness": "00" * 31 + "01"}
    yield "beacon/local_short_randomness_fail", local | {"randomness": "00" * 31}
    yield "beacon/local_with_signature_fail", local | {"signature": QUICKNET_ROUNDS[1000]}


def quicknet(round_, signature):
    published_seconds = QUICKNET.genesis_seconds + (round_ - 1) * QUICKNET.period_seconds
    return {
        "source": QUICKNET.source,
        "round": round_,
        "randomness": sha256(bytes.fromhex(signature)).hex(),
        "signature": signature,
        "entry_index": 7,
        "entry_time": time_text(datetime.fromtimestamp(published_seconds - 60, UTC)),
    }


def keep(case, *names):
    return {name: case[name] for name in names}


def vectors():
    """Give file name and bytes of every vector."""
    makers = (inclusion_cases, consistency_cases, checkpoint_cases, receipt_cases, beacon_cases)
    return {
        f"{name}.json": json.dumps(case, indent=2, ensure_ascii=True).encode() + b"\n"
        for maker in makers
        for name, case in maker()
    }


def main() -> None:
    """Write all files."""
    for name, data in vectors().items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
