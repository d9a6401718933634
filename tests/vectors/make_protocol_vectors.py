"""Write the vectors of records, inputs, statements, families, openings, interfaces, signatures and disputes.

One case a file; `_fail` in the name means that it must be refused. Keys and values are fixed, so running this again changes
nothing; a test compares. Records stand in the files as the exact text that must or must not be accepted.
Run: PYTHONPATH=. python tests/vectors/make_protocol_vectors.py
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.canonical import lp, sha256, tag, u32
from app.keys.commitment import MarkingKey
from app.keys.cover_set import CoverTable, ShownCover, cover_leaf
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput, TensorInput
from app.protocol.interface import BY_CLAIMANT, Interface, interface_bits
from app.protocol.records import AnswerEntry, FilingEntry, NoticeEntry
from app.signature import public_key_of, sign
from tests.unit.protocol.dispute_in_memory import (
    ORIGIN,
    VENDOR_KEY,
    MemoryLog,
    Plan,
    Played,
    bundle_of,
    play,
    seed,
)
from tests.unit.protocol.examples import ANSWER, CROSS_TEST, ENTRY_EXAMPLES, NOTICE, SMALL, STEP_LIST

HERE = Path(__file__).parent

FOLDERS = (
    "record",
    "input",
    "statement",
    "families",
    "opening",
    "covers",
    "interface",
    "signature",
    "hidden",
    "bundle",
)

Cases = Iterator[tuple[str, dict[str, Any]]]

INPUTS = tuple(ImageInput(2, 2, 3, bytes(range(index, index + 12))).encode() for index in range(5))
KEY = MarkingKey(seed("vectors: master"), INPUTS)
KEY_B = MarkingKey(seed("vectors: master"), INPUTS, (0, 2, 1, 1, 0))
CLASSES = ("cat", "dog", "Stra\u00dfe")


def statement_of(key: MarkingKey) -> Statement:
    return Statement(
        log=ORIGIN,
        vendor_key=public_key_of(VENDOR_KEY),
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=CLASSES,
        families=(Family("first", 0, 2), Family("second", 2, 5)),
        label_source="beacon" if key.labels is None else "vendor",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )


STATEMENT, STATEMENT_B = statement_of(KEY), statement_of(KEY_B)


def written(value: Any) -> str:
    """Canonical for every value used here, and also for those that the protocol does not allow."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def record_cases() -> Cases:
    records = {entry.NAME: entry for entry in ENTRY_EXAMPLES} | {
        "filing-record": SMALL.evidence.record,
        "notice-record": NOTICE,
        "answer-record": ANSWER,
        "step-list": STEP_LIST,
        "query": SMALL.evidence.queries[0].record,
        "asked-query": SMALL.evidence.queries[0],
        "statement": STATEMENT,
    }
    for kind, record in records.items():
        value = record.to_json()
        name, first = kind.replace("-", "_"), next(key for key in value if key != "type")
        text = record.encode().decode()
        yield f"record/{name}", {"kind": kind, "text": text}
        missing = {key: item for key, item in value.items() if key != first}
        yield f"record/{name}_key_missing_fail", {"kind": kind, "text": written(missing)}
        yield f"record/{name}_key_extra_fail", {"kind": kind, "text": written(value | {"zz": 0})}
        repeated = text[:-1] + f',"zz":0,{written({first: value[first]})[1:]}'
        yield f"record/{name}_key_repeated_fail", {"kind": kind, "text": repeated.replace(',"zz":0', "")}
        yield f"record/{name}_space_fail", {"kind": kind, "text": text.replace(":", ": ", 1)}
        yield f"record/{name}_newline_fail", {"kind": kind, "text": text + "\n"}
        backwards = json.dumps(dict(sorted(value.items(), reverse=True)), ensure_ascii=False, separators=(",", ":"))
        yield f"record/{name}_order_fail", {"kind": kind, "text": backwards}
    filing = SMALL.evidence.record.to_json()
    for bits in (0, 63, 65, 79, 81, 128):
        text = written(filing | {"policy": filing["policy"] | {"bits": bits}})
        yield f"record/filing_record_{bits}_bits_fail", {"kind": "filing-record", "text": text}
    block = next(entry for entry in ENTRY_EXAMPLES if entry.NAME == "block").to_json()
    odd = {
        "head_in_upper_case": {"head": block["head"].upper()},
        "head_short": {"head": block["head"][2:]},
        "number_negative": {"block": -1},
        "number_as_text": {"block": "0"},
        "number_too_large": {"filing": 2**53},
        "time_with_offset": {"time": "2026-01-31T12:00:00+00:00"},
        "time_that_is_none": {"time": "2026-02-29T12:00:00Z"},
        "null": {"head": None},
        "another_type": {"type": "trapstreet/v1/blocks"},
        "type_of_another_version": {"type": "trapstreet/v2/block"},
    }
    for name, change in odd.items():
        yield f"record/block_{name}_fail", {"kind": "block", "text": written(block | change)}
    for name, literal in (("fraction", "0.0"), ("exponent", "0e0"), ("leading_zero", "00"), ("minus_zero", "-0")):
        text = written(block).replace('"block":0', f'"block":{literal}')
        yield f"record/block_number_with_{name}_fail", {"kind": "block", "text": text}
    text = STATEMENT.encode().decode().replace("\u00df", "\\u00df")
    yield "record/statement_escape_fail", {"kind": "statement", "text": text}


def cross_test_cases() -> Cases:
    """An undecided test, and every way in which one contradicts itself."""
    value = CROSS_TEST.to_json()
    own, other = value["parties"]
    absent = other | {"model": None, "sha256": "", "covers": [], "marks": []}
    undecided = {"result": "not_decided", "reason": "not_delivered"}
    text = written(value | undecided | {"parties": [own | {"is_first": False}, absent]})
    yield "record/cross_test_undecided", {"kind": "cross-test", "text": text}
    odd = {
        "of_one_filing": {"parties": [own, other | {"filing": own["filing"]}]},
        "of_one_party": {"parties": [own]},
        "first_and_undecided": undecided,
        "decided_and_nobody_first": {"parties": [own | {"is_first": False}, other]},
        "both_first": {"parties": [own, other | {"is_first": True}]},
        "model_without_digest": {"parties": [own | {"sha256": ""}, other]},
        "model_without_counts": {"parties": [own | {"marks": own["marks"][:1]}, other]},
        "counts_without_model": {"parties": [own | {"model": None}, other]},
        "more_repeated_than_answered": {"parties": [own | {"covers": [{"repeated": 2, "answered": 1}] * 2}, other]},
        "more_matches_than_asked": {"parties": [own | {"marks": [own["marks"][0] | {"matches": 25}] * 2}, other]},
    }
    for name, changes in odd.items():
        yield f"record/cross_test_{name}_fail", {"kind": "cross-test", "text": written(value | changes)}


def input_cases() -> Cases:
    good = {
        "image": ImageInput(1, 2, 3, bytes(range(6))).encode(),
        "image_grey": ImageInput(2, 2, 1, bytes(range(4))).encode(),
        "tensor": TensorInput.of((2, 2), [0, 1, -2.5, 0.1]).encode(),
        "tensor_rank_8": TensorInput.of((1,) * 8, [-0.0]).encode(),
    }
    for name, data in good.items():
        yield f"input/{name}", {"hex": data.hex()}
    one, image, zero = u32(1), good["image"], bytes(4)
    bad = {
        "empty": b"",
        "cut_short": image[:-1],
        "byte_too_many": image + b"\0",
        "another_tag": lp(tag("inputs"), "image", one * 3, b"\0"),
        "another_kind": lp(tag("input"), "audio", one * 3, b"\0"),
        "text": lp(tag("input"), "text", "", "hello"),
        "image_of_2_channels": lp(tag("input"), "image", one * 2 + u32(2), bytes(2)),
        "image_of_rank_2": lp(tag("input"), "image", one * 2, bytes(1)),
        "image_of_no_height": lp(tag("input"), "image", zero + one * 2, b""),
        "image_pixel_missing": lp(tag("input"), "image", one + u32(2) + u32(3), bytes(5)),
        "tensor_of_rank_0": lp(tag("input"), "tensor", b"", bytes(4)),
        "tensor_of_rank_9": lp(tag("input"), "tensor", one * 9, bytes(4)),
        "tensor_dimension_0": lp(tag("input"), "tensor", one + zero, b""),
        "tensor_dimension_cut": lp(tag("input"), "tensor", one + bytes(3), bytes(4)),
        "tensor_value_missing": lp(tag("input"), "tensor", u32(2), bytes(4)),
        "tensor_nan": lp(tag("input"), "tensor", one, bytes.fromhex("0000c07f")),
        "tensor_infinite": lp(tag("input"), "tensor", one, bytes.fromhex("0000807f")),
        "tensor_minus_infinite": lp(tag("input"), "tensor", one, bytes.fromhex("000080ff")),
    }
    for name, data in bad.items():
        yield f"input/{name}_fail", {"hex": data.hex()}


def statement_cases() -> Cases:
    good = {
        "class_a": STATEMENT,
        "class_b": STATEMENT_B,
        "drand": replace(STATEMENT, beacon="drand:" + "52" * 32),
        "with_covers": Statement.from_json(STATEMENT.to_json() | {"covers": {"root": "00" * 32, "count": 1}}),
        "with_unmarked_model": replace(STATEMENT, unmarked_model=bytes(32)),
        "rank_8": replace(STATEMENT, kind="tensor", shape=(1,) * 8),
        "two_classes": replace(STATEMENT, classes=("a", "b")),
        "class_name_of_200": replace(STATEMENT, classes=("a" * 200, "b")),
        "largest_count": replace(STATEMENT, count=65_536, families=(Family("all", 0, 65_536),)),
        "64_families": replace(
            STATEMENT, count=64, families=tuple(Family(f"f{index}", index, index + 1) for index in range(64))
        ),
    }
    for name, statement in good.items():
        yield f"statement/{name}", {"log": ORIGIN, "statement": statement.encode().decode()}
    yield "statement/for_another_log_fail", {"log": "another.example/log", "statement": STATEMENT.encode().decode()}
    family = {"name": "all", "start": 0, "end": 5}
    bad: dict[str, dict[str, Any]] = {
        "count_0": {"count": 0},
        "count_65537": {"count": 65_537, "families": [family | {"end": 65_537}]},
        "one_class": {"classes": ["cat"]},
        "class_name_empty": {"classes": ["cat", ""]},
        "class_name_of_201": {"classes": ["cat", "d" * 201]},
        "class_names_same_after_casefold": {"classes": ["Stra\u00dfe", "STRASSE"]},
        "class_names_same_after_trim": {"classes": ["cat", "cat "]},
        "class_names_same_after_nfc": {"classes": ["\u00e9", "e\u0301"]},
        "kind_text": {"kind": "text"},
        "image_of_2_channels": {"shape": [2, 2, 2]},
        "image_of_rank_2": {"shape": [2, 2]},
        "rank_0": {"kind": "tensor", "shape": []},
        "rank_9": {"kind": "tensor", "shape": [1] * 9},
        "dimension_0": {"shape": [0, 2, 3]},
        "dimension_65536": {"shape": [65_536, 1, 1]},
        "input_over_16_mib": {"kind": "tensor", "shape": [16, 27, 7, 19, 73, 1]},
        "no_family": {"families": []},
        "65_families": {
            "count": 65,
            "families": [{"name": f"f{index}", "start": index, "end": index + 1} for index in range(65)],
        },
        "label_source": {"label_source": "model"},
        "beacon_of_no_chain": {"beacon": "drand:quicknet"},
        "covers_of_none": {"covers": {"root": "00" * 32, "count": 0}},
        "covers_without_count": {"covers": {"root": "00" * 32}},
        "vendor_key_short": {"vendor_key": "00" * 31},
        "root_upper_case": {"root": "AB" * 32},
        "log_with_space": {"log": "log example"},
        "unmarked_model_empty": {"unmarked_model": ""},
    }
    for name, change in bad.items():
        text = written(STATEMENT.to_json() | change)
        yield f"statement/{name}_fail", {"log": ORIGIN, "statement": text}


def families_cases() -> Cases:
    cases = {
        "one": ([("a", 0, 5)], 5),
        "three": ([("a", 0, 1), ("b", 1, 3), ("c", 3, 5)], 5),
        "overlapping_fail": ([("a", 0, 3), ("b", 2, 5)], 5),
        "one_inside_another_fail": ([("a", 0, 5), ("b", 1, 2)], 5),
        "gap_fail": ([("a", 0, 2), ("b", 3, 5)], 5),
        "start_late_fail": ([("a", 1, 5)], 5),
        "end_early_fail": ([("a", 0, 4)], 5),
        "end_past_the_count_fail": ([("a", 0, 6)], 5),
        "out_of_order_fail": ([("b", 2, 5), ("a", 0, 2)], 5),
        "empty_range_fail": ([("a", 0, 5), ("b", 5, 5)], 5),
        "one_name_twice_fail": ([("a", 0, 2), ("a", 2, 5)], 5),
        "none_fail": ([], 5),
    }
    for name, (families, count) in cases.items():
        listed = [{"name": each, "start": start, "end": end} for each, start, end in families]
        yield f"families/{name}", {"count": count, "families": listed}


def opening_case(statement: Statement, opened: Any, label: Any) -> dict[str, Any]:
    texts = {"input_opening": opened.encode().decode(), "label_opening": label.encode().decode()}
    return {"statement": statement.encode().decode(), **texts}


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def opening_cases() -> Cases:
    for index in (0, 2, 4):
        case = opening_case(STATEMENT, KEY.open_input(index), KEY.open_label(index))
        yield f"opening/class_a_{index}_of_5", case
    yield "opening/class_b_1_of_5", opening_case(STATEMENT_B, KEY_B.open_input(1), KEY_B.open_label(1))
    opened, label = KEY.open_input(1), KEY.open_label(1)
    inputs = {
        "another_index": replace(opened, index=2),
        "index_at_count": replace(opened, index=5),
        "input_key_bit": replace(opened, input_key=flip(opened.input_key)),
        "input_bit": replace(opened, input=opened.input[:-1] + flip(opened.input[-1:])),
        "input_of_another_trigger": replace(opened, input=INPUTS[2]),
        "input_of_another_shape": replace(opened, input=ImageInput(4, 1, 3, bytes(12)).encode()),
        "input_of_another_kind": replace(opened, input=TensorInput.of((2, 2, 3), [0] * 12).encode()),
        "input_that_is_none": replace(opened, input=b"cat"),
        "label_commitment_bit": replace(opened, label_commitment=flip(opened.label_commitment)),
        "path_bit": replace(opened, path=(flip(opened.path[0]), *opened.path[1:])),
        "path_too_short": replace(opened, path=opened.path[:-1]),
        "path_too_long": replace(opened, path=(*opened.path, bytes(32))),
        "path_hash_short": replace(opened, path=(opened.path[0][:-1], *opened.path[1:])),
    }
    for name, changed in inputs.items():
        yield f"opening/{name}_fail", opening_case(STATEMENT, changed, label)
    labels = {
        "label_key_bit": replace(label, label_key=flip(label.label_key)),
        "label_key_of_another_trigger": replace(label, label_key=KEY.label_key(2)),
        "label_chosen_in_class_a": replace(label, label=2),
    }
    for name, changed_label in labels.items():
        yield f"opening/{name}_fail", opening_case(STATEMENT, opened, changed_label)
    opened_b, label_b = KEY_B.open_input(1), KEY_B.open_label(1)
    for name, number in (("label_missing_in_class_b", None), ("another_label", 1), ("label_that_names_no_class", 3)):
        yield f"opening/{name}_fail", opening_case(STATEMENT_B, opened_b, replace(label_b, label=number))


def covers_cases() -> Cases:
    def case(statement: Statement, table: CoverTable) -> dict[str, Any]:
        return {"statement": statement.encode().decode(), "table": table.encode().decode()}

    table = CoverTable(digests=tuple(map(sha256, INPUTS)), labels=(0, 2, 1, 1, 0))
    committed = replace(STATEMENT, covers=table.commitment)
    first = {"leaf_0": cover_leaf(0, table.digests[0], 0).hex()}
    yield "covers/committed", case(committed, table) | first
    one = CoverTable(table.digests[:1], (2,))
    leaf = {"leaf_0": cover_leaf(0, one.digests[0], 2).hex()}
    yield "covers/a_single_one", case(replace(STATEMENT, covers=one.commitment), one) | leaf
    shown = replace(table, shown=(ShownCover(1, INPUTS[1]), ShownCover(4, INPUTS[4])))
    yield "covers/with_inputs_shown", case(committed, shown) | first
    digests, labels = table.digests, table.labels
    altered = {
        "another_label": replace(table, labels=(0, 2, 1, 1, 1)),
        "digest_bit": replace(table, digests=(flip(digests[0]), *digests[1:])),
        "two_exchanged": replace(table, digests=(digests[1], digests[0], *digests[2:])),
        "last_left_out": CoverTable(digests[:-1], labels[:-1]),
        "one_too_many": CoverTable((*digests, digests[0]), (*labels, 0)),
        "labels_too_few": replace(table, labels=labels[:-1]),
        "shown_twice": replace(table, shown=(ShownCover(1, INPUTS[1]),) * 2),
        "shown_out_of_order": replace(table, shown=shown.shown[::-1]),
        "another_input_shown": replace(table, shown=(ShownCover(1, INPUTS[2]),)),
        "shown_beyond_the_last": replace(table, shown=(ShownCover(5, INPUTS[1]),)),
    }
    for name, changed in altered.items():
        yield f"covers/{name}_fail", case(committed, changed)
    unnamed = CoverTable(digests, (0, 2, 1, 1, 3))
    yield "covers/label_that_names_no_class_fail", case(replace(STATEMENT, covers=unnamed.commitment), unnamed)
    yield "covers/nothing_committed_fail", case(STATEMENT, table)


def interface_cases() -> Cases:
    def case(label_map: Any, options: Any, preprocessing: Any) -> dict[str, Any]:
        value = {"adapter": "kserve_v1", "options": options, "preprocessing": preprocessing, "label_map": label_map}
        return {"statement": STATEMENT.encode().decode(), "interface": written(value)}

    one_to_one = {"by": "explicit", "map": {"Katze": ["cat"], "Hund": ["dog"], "rue": [CLASSES[2]]}}
    good: dict[str, tuple[Any, ...]] = {
        "by_index": ({"by": "index"}, {"model": "m"}, {}),
        "by_name": ({"by": "name"}, {}, {}),
        "one_to_one": (one_to_one, {}, {}),
        "single_valued": ({"by": "explicit", "map": {"a": ["cat"], "b": ["cat"]}}, {}, {}),
        "set_valued": ({"by": "explicit", "map": {"pet": ["cat", "dog"], "rue": [CLASSES[2]]}}, {}, {}),
        "with_preprocessing": ({"by": "index"}, {"model": "m"}, {"layout": "chw"}),
        "with_options": (one_to_one, {"model": "m", "path": "x"}, {}),
    }
    for name, values in good.items():
        made = case(*values)
        bits = interface_bits(
            Interface.parse(made["interface"].encode()), BY_CLAIMANT, STATEMENT, endpoint="", beacon_index=0
        )
        yield f"interface/{name}", made | {"bits": bits}
    bad: dict[str, Any] = {
        "unknown_class": {"by": "explicit", "map": {"Kuh": ["cow"]}},
        "class_in_another_case": {"by": "explicit", "map": {"Katze": ["Cat"]}},
        "class_twice": {"by": "explicit", "map": {"Katze": ["cat", "cat"]}},
        "no_class": {"by": "explicit", "map": {"Katze": []}},
        "class_not_in_an_array": {"by": "explicit", "map": {"Katze": "cat"}},
        "empty_map": {"by": "explicit", "map": {}},
        "map_missing": {"by": "explicit"},
        "map_not_wanted": {"by": "name", "map": {"Katze": ["cat"]}},
        "another_way": {"by": "rank"},
        "no_way": {},
    }
    for name, label_map in bad.items():
        yield f"interface/{name}_fail", case(label_map, {}, {})
    yield "interface/fraction_in_options_fail", case({"by": "index"}, {"scale": 0.5}, {})


def signature_cases() -> Cases:
    private, data = seed("vectors: signer"), STATEMENT.encode()
    signature, public = sign(private, data), public_key_of(private)
    good = {"public_key": public.hex(), "signature": signature.hex(), "text": data.decode()}
    yield "signature/of_a_statement", good
    for bit in (0, 7, 255, 256, 505, 511):
        damaged = bytearray(signature)
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"signature/bit_{bit}_fail", good | {"signature": damaged.hex()}
    order = 2**252 + 27742317777372353535851937790883648493
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    yield "signature/second_form_fail", good | {"signature": second.hex()}
    yield "signature/short_fail", good | {"signature": signature[:-1].hex()}
    yield "signature/of_another_key_fail", good | {"public_key": public_key_of(VENDOR_KEY).hex()}
    yield "signature/key_short_fail", good | {"public_key": public[:-1].hex()}
    yield "signature/of_another_text_fail", good | {"text": STATEMENT_B.encode().decode()}


def hidden_cases() -> Cases:
    blind = seed("vectors: blind")
    entries = {entry.NAME: entry for entry in ENTRY_EXAMPLES}
    filing, notice, answer = entries["filing"], entries["notice"], entries["answer"]
    assert isinstance(filing, FilingEntry)
    assert isinstance(notice, NoticeEntry)
    assert isinstance(answer, AnswerEntry)
    record = SMALL.evidence.record
    for name, entry, hidden in (
        ("filing", replace(filing, record_hash=record.hidden_hash(blind)), record),
        ("notice", replace(notice, record_hash=NOTICE.hidden_hash(blind)), NOTICE),
        ("answer", replace(answer, record_hash=ANSWER.hidden_hash(blind)), ANSWER),
    ):
        text = hidden.encode().decode()
        kind = f"{name}-record"
        good = {"kind": kind, "entry": entry.encode().decode(), "text": text, "blind": blind.hex()}
        yield f"hidden/{name}", good
        yield f"hidden/{name}_other_blind_fail", good | {"blind": bytes(32).hex()}
        changed = "words" if name == "answer" else "endpoint"
        other = written(hidden.to_json() | {changed: "https://other.example.org"})
        yield f"hidden/{name}_other_record_fail", good | {"text": other}
        yield f"hidden/{name}_other_entry_fail", good | {"entry": entries["block"].encode().decode()}
    elsewhere = replace(NOTICE, filing=3)
    of_another = replace(notice, record_hash=elsewhere.hidden_hash(blind))
    yield (
        "hidden/notice_of_another_filing_fail",
        {
            "kind": "notice-record",
            "entry": of_another.encode().decode(),
            "text": elsewhere.encode().decode(),
            "blind": blind.hex(),
        },
    )


def bundle_case(played: Played, **made: Any) -> dict[str, Any]:
    files = {name: data.decode() for name, data in sorted(bundle_of(played, **made).items())}
    return {"log_key": MemoryLog().public_key.hex(), "files": files}


def bundle_cases() -> Cases:
    plan = Plan(classes=2, triggers=3, block_size=2, covers_per_trigger=0, end="exhausted")
    genuine = play(plan)
    yield "bundle/inconclusive", bundle_case(genuine)
    yield "bundle/other_log_key_fail", bundle_case(genuine) | {"log_key": public_key_of(VENDOR_KEY).hex()}
    yield "bundle/forged_with_another_key_fail", bundle_case(play(replace(plan, log_key=seed("forger"))))
    yield "bundle/statement_for_another_log_fail", bundle_case(play(replace(plan, registered_for="other.example")))
    # The log holds no head over the last block, whose trigger was opened all the same.
    withheld = play(replace(plan, withheld=frozenset({1}), end="withheld"))
    last = withheld.evidence.order[-1]
    early = replace(
        withheld.evidence,
        input_openings=(*withheld.evidence.input_openings, withheld.key.open_input(last)),
        label_openings=(*withheld.evidence.label_openings, withheld.key.open_label(last)),
    )
    yield "bundle/label_opened_before_its_head_fail", void_denied(withheld, early)
    cut = play(replace(plan, max_triggers=2, end="budget"))
    stranger = next(index for index in range(cut.key.count) if index not in cut.evidence.order)
    outside = replace(cut.evidence, input_openings=(*cut.evidence.input_openings, cut.key.open_input(stranger)))
    yield "bundle/trigger_outside_the_challenge_fail", void_denied(cut, outside)
    unlogged = replace(genuine.evidence, blocks=genuine.evidence.blocks[:1])
    yield "bundle/block_not_in_the_log_fail", void_denied(genuine, unlogged)
    yield from derived_cases()


def derived_cases() -> Cases:
    plan = Plan(classes=2, triggers=66, block_size=33, origin="derived", labelled=True, end="exhausted", blocks=0)
    derived = play(replace(plan, end="withdrawn"))
    yield "bundle/derived_interface", bundle_case(derived)
    covers = derived.evidence.covers
    assert covers is not None
    mislabelled = replace(covers, labels=(1 - covers.labels[0], *covers.labels[1:]))
    case = void_denied(derived, replace(derived.evidence, covers=mislabelled))
    yield "bundle/covers_with_another_label_fail", case
    derivation = derived.evidence.derivation
    assert derivation is not None
    shorter = replace(derivation, queries=derivation.queries[:-1])
    yield "bundle/derivation_cut_short_fail", void_denied(derived, replace(derived.evidence, derivation=shorter))


def void_denied(played: Played, evidence: Any) -> dict[str, Any]:
    """Evidence with a fault, and a log that states the verdict as if there were none."""
    decision = played.assessment.decision
    stated = {"verdict": decision.verdict, "reason": decision.reason}
    return bundle_case(Played(played.plan, played.log, played.key, evidence), **stated)


def vectors() -> dict[str, bytes]:
    """Give file name and bytes of every vector."""
    makers = (
        record_cases,
        cross_test_cases,
        input_cases,
        statement_cases,
        families_cases,
        opening_cases,
        covers_cases,
        interface_cases,
        signature_cases,
        hidden_cases,
        bundle_cases,
    )
    return {
        f"{name}.json": json.dumps(case, indent=2, ensure_ascii=True).encode() + b"\n"
        for maker in makers
        for name, case in maker()
    }


def main() -> None:
    """Write all files."""
    for name, data in vectors().items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
