"""Read labels out of a response that may be anything at all.

Invariants: the result depends on status and bytes only, so an auditor reads the same labels from the same response;
whatever the bytes, the only error is SuspectMisbehaved, and its reason is one of a closed list of words.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from app.errors import SuspectMisbehaved
from app.protocol.transcript import MAX_LABEL_CHARACTERS, MAX_LABELS
from app.suspects.adapters.codec import are_finite_numbers, unique_keys
from app.suspects.adapters.contract import Answer

# Deeper than any of the protocols nests; counted on the bytes, since Python's own limit depends on who calls.
MAX_DEPTH = 32
REASONS = frozenset(
    {
        "not_json",
        "too_deep",
        "missing_field",
        "wrong_shape",
        "wrong_count",
        "nan_score",
        "bad_label",
        "duplicate_label",
        "unfinished",
        "reported_error",
    }
)

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def parse_answer_body(status: int, body: bytes, *, statuses: Collection[int] = (200,)) -> Any:
    """Read a response as JSON; `statuses` are those with which an answer may come.

    Raises: SuspectMisbehaved `status_<n>`, `too_deep` or `not_json`.
    """
    if status not in statuses:
        raise SuspectMisbehaved(f"the endpoint answered with status {status}", reason=f"status_{status}")
    if depth_of(body) > MAX_DEPTH:
        raise SuspectMisbehaved(f"the response is nested deeper than {MAX_DEPTH} levels", reason="too_deep")
    try:
        return json.loads(body.decode(), object_pairs_hook=unique_keys)
    except ValueError as error:
        raise SuspectMisbehaved("the response is not JSON, or repeats a key", reason="not_json") from error


def depth_of(body: bytes) -> int:
    """Count how deep arrays and objects are nested, up to MAX_DEPTH not exactly."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    for byte in re.sub(rb"[^\[\]{}]", b"", _STRINGS.sub(b"", body)):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def field_of(value: Any, name: str) -> Any:
    """Take a field of a response's object.

    Raises: SuspectMisbehaved `missing_field`.
    """
    if not isinstance(value, dict) or name not in value:
        raise SuspectMisbehaved(f"the response has no field {name!r} there", reason="missing_field")
    return value[name]


def item_of(value: Any, index: int) -> Any:
    """Take an item of a response's array.

    Raises: SuspectMisbehaved `missing_field`.
    """
    if not isinstance(value, list) or index >= len(value):
        raise SuspectMisbehaved(f"the response has no item {index} there", reason="missing_field")
    return value[index]


def only_item_of(value: Any) -> Any:
    """Take the one item of an array that answers one question.

    Raises: SuspectMisbehaved `wrong_shape` or `wrong_count`.
    """
    if not isinstance(value, list):
        raise SuspectMisbehaved("the response has no array there", reason="wrong_shape")
    if len(value) != 1:
        raise SuspectMisbehaved(f"{len(value)} answers to one question", reason="wrong_count")
    return value[0]


def refuse_reported_error(value: Any) -> None:
    """Refuse an object that says under `error` that there is no answer.

    Raises: SuspectMisbehaved `reported_error`.
    """
    if isinstance(value, dict) and value.get("error"):
        raise SuspectMisbehaved("the endpoint reports an error of its own", reason="reported_error")


def unwrapped(value: Any) -> Any:
    """Read JSON that stands in a string: scripts that write their answer themselves have it written twice.

    Raises: SuspectMisbehaved `too_deep` or `not_json`.
    """
    if isinstance(value, str) and value.startswith(("[", "{")):
        return parse_answer_body(200, value.encode(errors="surrogatepass"))
    return value


# What servers without a protocol of their own call the whole answer.
ENVELOPES = ("predictions", "prediction", "outputs", "output", "results", "result")


def inside_envelope(value: Any) -> Any:
    """Take what stands in an answer's object under one of the usual names; anything else is given as it is.

    A number with a fraction under such a name is the score of a class that is called so.
    """
    if isinstance(value, dict):
        for name in ENVELOPES:
            if name in value and not isinstance(value[name], float):
                return value[name]
    return value


def answer_to_one(value: Any, score_count: int | None) -> Answer:
    """Read one prediction that may stand alone or as the only item of a batch.

    Raises: SuspectMisbehaved.
    """
    # One number is a probability (of the second of two classes) and not a batch; one integer is a class.
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], float):
        value = value[0]
    return answer_from(value, score_count)


def answer_from(value: Any, score_count: int | None) -> Answer:
    """Read one prediction in any of the usual shapes.

    An array of numbers is scores by index; an array of objects, each with a label and a score, of arrays that end with a
    label and a score, or an object of scores by label or of two arrays, labels and scores, is a ranking; an array of
    strings is a top-k list; a string, an integer or an object that names one label is that label; null abstains.
    Raises: SuspectMisbehaved.
    """
    if isinstance(value, dict):
        return _answer_from_object(value, score_count)
    if not isinstance(value, list):
        return label_answer(value)
    if value and all(isinstance(item, dict) for item in value):
        return scored_answer([(_first_of(item, LABEL_FIELDS), _first_of(item, SCORE_FIELDS)) for item in value])
    if value and all(isinstance(item, list) and len(item) in (2, 3) and isinstance(item[-2], str) for item in value):
        return scored_answer([(item[-2], item[-1]) for item in value])
    if value and all(isinstance(item, str) for item in value):
        return labels_answer(value)
    return scores_answer(value, score_count)


# What servers call the label and the score of one class, in the order in which they are looked for.
LABEL_FIELDS = ("label", "class", "class_name", "displayName", "tagName", "name", "predicted_label")
SCORE_FIELDS = ("score", "confidence", "probability", "prob", "value")
# The same for arrays that hold the labels and the scores of all classes.
LABEL_COLUMNS = ("labels", "displayNames", "classes", "class_names")
SCORE_COLUMNS = ("scores", "confidences", "probabilities", "probs", "score", "logits")


def _answer_from_object(value: dict[str, Any], score_count: int | None) -> Answer:
    labels, scores = (
        next((value[name] for name in names if isinstance(value.get(name), list)), None)
        for names in (LABEL_COLUMNS, SCORE_COLUMNS)
    )
    if labels is not None and scores is not None:
        if len(labels) != len(scores):
            raise SuspectMisbehaved(f"{len(labels)} labels and {len(scores)} scores", reason="wrong_count")
        return scored_answer(list(zip(labels, scores, strict=True)))
    named = [value[name] for name in LABEL_FIELDS if isinstance(value.get(name), str)]
    # A class by number is a label where a score stands beside it; by itself it is a score by label.
    if not named and scores is None and any(name in value for name in SCORE_FIELDS):
        named = [value[name] for name in LABEL_FIELDS if type(value.get(name)) is int]
    if named:
        return label_answer(named[0])
    return scored_answer(list(value.items())) if scores is None else scores_answer(scores, score_count)


def _first_of(item: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in item:
            return item[name]
    raise SuspectMisbehaved(f"an item has none of the fields {', '.join(names)}", reason="missing_field")


def scores_answer(value: Any, score_count: int | None) -> Answer:
    """Answer with the indices of the scores, highest first, the lower index first among equals.

    One number in [0, 1], where there are two classes, is the probability of the second.
    Raises: SuspectMisbehaved `wrong_shape`, `wrong_count` or `nan_score`.
    """
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise SuspectMisbehaved("the scores are no array of numbers", reason="wrong_shape")
    if score_count == 2 and len(value) == 1 and 0 <= value[0] <= 1:
        value = [1 - value[0], value[0]]
    # Otherwise one number is a probability or a regression, not a choice between classes.
    if len(value) < 2 or (score_count is not None and len(value) != score_count):
        raise SuspectMisbehaved(f"{len(value)} scores, not one for each class", reason="wrong_count")
    order = _descending(value)[:MAX_LABELS]
    return Answer("scores", tuple(map(str, order)))


def scored_answer(pairs: list[tuple[Any, Any]]) -> Answer:
    """Answer with labels by their scores, highest first, the earlier first among equals.

    Raises: SuspectMisbehaved `wrong_shape`, `wrong_count`, `nan_score`, `bad_label` or `duplicate_label`.
    """
    scores = [score for _, score in pairs]
    if not all(type(score) in (int, float) for score in scores):
        raise SuspectMisbehaved("a score is no number", reason="wrong_shape")
    labels = [pairs[at][0] for at in _descending(scores)]
    return Answer("ranking", _labels(labels[:MAX_LABELS]))


def _descending(scores: list[Any]) -> list[int]:
    if not are_finite_numbers(scores):
        raise SuspectMisbehaved("a score is not a finite number", reason="nan_score")
    return sorted(range(len(scores)), key=lambda at: -scores[at])


def label_answer(value: Any) -> Answer:
    """Answer with one label; null abstains.

    Raises: SuspectMisbehaved `wrong_shape` or `bad_label`.
    """
    return Answer("label", () if value is None else (_label(value),))


def labels_answer(value: Any) -> Answer:
    """Answer with a list of labels, highest first; an empty one abstains.

    Raises: SuspectMisbehaved `wrong_shape`, `wrong_count`, `bad_label` or `duplicate_label`.
    """
    if not isinstance(value, list):
        raise SuspectMisbehaved("the labels are no array", reason="wrong_shape")
    if len(value) > MAX_LABELS:
        raise SuspectMisbehaved(f"{len(value)} labels to one question", reason="wrong_count")
    return Answer("top-k", _labels(value))


def _labels(values: list[Any]) -> tuple[str, ...]:
    labels = tuple(map(_label, values))
    # A label twice would be counted twice in a ranking, and says that the endpoint does not know what it answers.
    if len(set(labels)) != len(labels):
        raise SuspectMisbehaved("a label stands twice in one answer", reason="duplicate_label")
    return labels


def _label(value: Any) -> str:
    if type(value) not in (int, str):
        raise SuspectMisbehaved("a label is neither a string nor an integer", reason="wrong_shape")
    label = str(value)
    # A lone surrogate could not be written into the transcript.
    if len(label) > MAX_LABEL_CHARACTERS or any("\ud800" <= character <= "\udfff" for character in label):
        raise SuspectMisbehaved("a label is too long or no text", reason="bad_label")
    return label
