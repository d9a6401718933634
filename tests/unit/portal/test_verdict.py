"""A verdict told to people: the same words in page, HTML and PDF, and nothing of a stranger as markup."""

import html
import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from pypdf import PdfReader

from app.errors import TooLarge, Unavailable
from app.portal.verdict_files import verdict_html, verdict_pdf
from app.portal.verdict_plots import evidence_plot, placebo_plot
from app.portal.verdict_told import MAX_READ_BUNDLE_BYTES, VerdictShelf, tell
from app.storage.archive import pack
from app.storage.objects import open_store, put_bytes
from tests.unit.protocol.dispute_in_memory import Plan, bundle_of, innocent, play, silent_on_triggers


def told_of(plan: Plan):
    return tell(pack(bundle_of(play(plan))))


def text_of(pdf: bytes) -> str:
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(), "Confirmed"),
        (Plan(endpoint=innocent, triggers=32), "Not supported"),
        (Plan(endpoint=silent_on_triggers, end="exhausted"), "Endpoint did not cooperate"),
        (Plan(withheld=frozenset({0, 1}), end="withheld"), "Inconclusive"),
        (Plan(blocks=0, end="withdrawn"), "Inconclusive"),
        (Plan(assurance_class="B", end="exhausted"), "Indicative only"),
    ],
)
def test_a_verdict_is_told_in_the_same_words_in_html_and_pdf(plan: Plan, words: str):
    told = told_of(plan)
    assert told.words == words
    page, paper = html.unescape(verdict_html(told).decode()), text_of(verdict_pdf(told))
    for said in (words, told.sentence, told.reason, *told.does_not_say):
        assert said in paper
        assert said in page


def test_the_walk_ends_where_the_report_says():
    played = play(Plan())
    told = tell(pack(bundle_of(played)))
    assert told.walk is not None
    assert len(told.walk) == played.assessment.decision.walk.asked
    assert told.walk[-1] == pytest.approx(float(played.assessment.decision.walk.log2_e))
    assert max(told.walk[:-1]) < told.threshold <= told.walk[-1]


def test_of_many_who_want_a_pdf_at_once_nobody_is_kept_waiting():
    told, wanted = told_of(Plan()), 4
    with ThreadPoolExecutor(wanted) as threads:
        asked = [threads.submit(verdict_pdf, told) for _ in range(wanted)]
        refused = [one.exception() for one in asked]
    assert None in refused
    assert [type(one) for one in refused if one is not None] == [Unavailable] * (wanted - refused.count(None))
    assert refused.count(None) < wanted
    assert verdict_pdf(told)


def test_html_and_pdf_are_the_same_bytes_each_time():
    for _ in range(2):
        assert verdict_pdf(told_of(Plan())) == verdict_pdf(told_of(Plan()))
        assert verdict_html(told_of(Plan())) == verdict_html(told_of(Plan()))


def test_class_b_shows_no_evidence_and_no_placebos():
    told = told_of(Plan(assurance_class="B", end="exhausted"))
    assert told.walk is None
    assert told.evidence_svg is None
    assert told.placebo_svg is None
    assert "nothing can be confirmed" in verdict_html(told).decode()


def test_what_strangers_wrote_is_no_markup():
    told = told_of(Plan())
    evil = '<script>alert(1)</script> #panic() $x$ *bold* \\ #read("/etc/passwd") ]'
    told = type(told)(**{**vars(told), "endpoint": evil, "family": evil, "interface": evil, "sentence": evil})
    assert "<script>" not in verdict_html(told).decode()
    assert '#panic() $x$ *bold* \\ #read("/etc/passwd") ]' in text_of(verdict_pdf(told))


def test_pictures_are_drawn_of_walks_that_end_in_nothing():
    assert "Nothing is opened yet" in evidence_plot([], 67.0)
    assert "nan" not in evidence_plot([1.0, float("-inf"), float("-inf")], 67.0)
    assert "the real one gave 0" in placebo_plot([], 0)


def test_a_bundle_that_is_too_large_is_not_read():
    store = open_store("memory:///")
    digest = put_bytes(store, bytes(MAX_READ_BUNDLE_BYTES + 1))
    with pytest.raises(TooLarge):
        VerdictShelf().read(store, digest)


def test_a_verdict_is_read_once_and_told_again():
    store, shelf = open_store("memory:///"), VerdictShelf()
    digest = put_bytes(store, pack(bundle_of(play(Plan()))))
    assert shelf.read(store, digest) is shelf.read(store, digest)


def test_the_course_stands_in_the_order_in_which_it_happened():
    words = [moment.words for moment in told_of(Plan()).timeline]
    first, last = words.index("The first question was sent."), words.index("The last question was sent.")
    sealed = [at for at, said in enumerate(words) if "was sealed" in said]
    assert first < last
    assert first < sealed[0]
    assert last < sealed[-1] == len(words) - 2
    assert words[-1] == "The verdict was logged."
