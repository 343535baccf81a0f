"""Quotations: which parts of a text are quoted, and where a document says the same, character by character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.registry import create_verifier, parse_verifier
from draftproof.verdict import GroundingEvidence, Guarantee, Outcome, Proposition, QuoteEvidence, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.grounding.quote_verifier import MOST_QUOTATIONS, QuoteVerifier
from draftproof.verifiers.grounding.quotes import FoldedText, find, parts, quotations
from tests.verifiers.grounding.conftest import subject

DOCUMENT = "The band's drummer\n  said: “We never  rehearse,” and laughed. Nobody knew why he had said so."


class Log:
    def add(self, verdicts: object) -> None:
        pass


def judged(text: str, *documents: str, of: str = "marks") -> Verdict:
    (verdict,) = run_verifier(QuoteVerifier(of=of), [subject(text, *documents)], log=Log())  # type: ignore[arg-type]
    return verdict


def passages(verdict: Verdict) -> list[QuoteEvidence]:
    return [each for each in verdict.evidence if isinstance(each, QuoteEvidence)]


# Which parts are quoted


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('He said "we go" and "stay".', ["we go", "stay"]),
        ("He said “we go” and ‘stay’.", ["we go", "stay"]),
        ("Er sagte „wir gehen“ und »bleib«.", ["wir gehen", "bleib"]),
        ("Il dit « on y va ».", [" on y va "]),
        ("He said “they said ‘no’ to us”.", ["they said ‘no’ to us"]),
        ("The band’s drummer and the dogs’ owner", []),
        ("It’s ‘Luther’s work’ that counts.", ["Luther’s work"]),
        ("‘Tis the season", []),
        ("rock 'n' roll, the '90s, don't", []),
        ('an empty "" and a "…" one', []),
        ("nothing", []),
    ],
)
def test_what_stands_between_marks_is_quoted(text: str, quoted: list[str]) -> None:
    found = list(quotations(text))
    assert [each.text for each in found] == quoted
    assert all(text[each.start : each.end] == each.text for each in found)
    assert all(each.closed for each in found)


def test_a_quotation_ends_with_its_paragraph_if_not_before() -> None:
    first, second = quotations('He said "we go\n\nand "stay".')
    assert (first.text, first.closed) == ("we go", False)
    assert (second.text, second.closed) == ("stay", True)


# Where a document says the same


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        pytest.param('It says "The band\'s drummer said".', "The band's drummer\n  said", id="white-space"),
        pytest.param("It says “The band’s drummer”.", "The band's drummer", id="apostrophes"),
        pytest.param("It says 'x' or «\"We never rehearse,\" and»", "“We never  rehearse,” and", id="marks-inside"),
        pytest.param('It says "We never rehearse."', "We never  rehearse", id="a-full-stop-of-the-sentence-around"),
        pytest.param('It says "and laughed."', "and laughed.", id="a-full-stop-of-the-document"),
    ],
)
def test_a_quotation_that_stands_there_is_accepted_with_its_place(text: str, passage: str) -> None:
    verdict = judged(text, "Something else.", DOCUMENT)
    assert (verdict.outcome, verdict.reason, verdict.score) == (Outcome.ACCEPT, "all_quotes_found", 1.0)
    assert (verdict.guarantee, verdict.proposition) == (Guarantee.EXACT, Proposition.SUPPORTED)
    (quoted,) = passages(verdict)
    assert (quoted.document, quoted.text) == ("c1", passage)
    assert DOCUMENT[quoted.span.start : quoted.span.end] == passage
    told = verdict.evidence[0]
    assert isinstance(told, GroundingEvidence)
    assert (told.about, told.holds, told.document, told.found) == ("quote", True, "c1", quoted.span)
    assert text[told.span.start : told.span.end] == told.text


@pytest.mark.parametrize(
    "quoted",
    [
        pytest.param("We always rehearse", id="another-word"),
        pytest.param("we never rehearse", id="another-case"),
        pytest.param("We never rehearse and laughed", id="a-comma-left-out"),
        pytest.param("We never, rehearse", id="a-comma-put-in"),
        pytest.param("never rehears", id="a-word-cut"),
        pytest.param("rehearse never", id="another-order"),
        pytest.param("Nobody knew why he had said so!", id="another-mark"),
        pytest.param("We  néver rehearse", id="an-accent"),
    ],
)
def test_a_quotation_that_differs_is_rejected(quoted: str) -> None:
    verdict = judged(f"It says “{quoted}”.", DOCUMENT)
    assert (verdict.outcome, verdict.reason, verdict.score) == (Outcome.REJECT, "quote_absent", 0.0)
    (told,) = verdict.evidence
    assert isinstance(told, GroundingEvidence)
    assert (told.text, told.holds, told.document) == (quoted, False, None)


@pytest.mark.parametrize("gap", ["...", "…", " … ", " [...] ", " […] ", " . . . ", " (...) "])
def test_an_ellipsis_parts_a_quotation_and_its_parts_come_in_order(gap: str) -> None:
    verdict = judged(f"It says “The band's drummer{gap}and laughed”.", DOCUMENT)
    assert verdict.outcome is Outcome.ACCEPT
    assert [each.text for each in passages(verdict)] == ["The band's drummer", "and laughed"]
    assert judged(f"It says “and laughed{gap}The band's drummer”.", DOCUMENT).outcome is Outcome.REJECT
    assert judged(f"It says “The band's drummer{gap}and cried”.", DOCUMENT).outcome is Outcome.REJECT


def test_the_parts_of_one_quotation_stand_in_one_document() -> None:
    assert judged("“a first … a second”", "This is a first.", "This is a second.").outcome is Outcome.REJECT
    assert judged("“a first” and “a second”", "This is a first.", "This is a second.").outcome is Outcome.ACCEPT


def test_one_wrong_quotation_of_several_rejects_and_comes_first() -> None:
    verdict = judged("“and laughed” and “and cried”", DOCUMENT)
    assert verdict.outcome is Outcome.REJECT
    first = verdict.evidence[0]
    assert isinstance(first, GroundingEvidence)
    assert (first.text, first.holds) == ("and cried", False)


def test_the_whole_text_can_be_the_quotation() -> None:
    verdict = judged(" We never rehearse\n", DOCUMENT, of="text")
    assert verdict.outcome is Outcome.ACCEPT
    assert passages(verdict)[0].text == "We never  rehearse"
    assert judged('"We never rehearse"', DOCUMENT, of="text").outcome is Outcome.ACCEPT
    assert judged("We always rehearse", DOCUMENT, of="text").outcome is Outcome.REJECT
    assert judged("We never rehearse", DOCUMENT).reason == "no_quote"


# Bad input


@pytest.mark.parametrize(
    ("text", "documents", "of", "reason"),
    [
        pytest.param("No quotation.", (DOCUMENT,), "marks", "no_quote", id="no-quote"),
        pytest.param("", (DOCUMENT,), "text", "no_quote", id="empty-text"),
        pytest.param("“and laughed”", (), "marks", "no_documents", id="no-documents"),
        pytest.param("“and laughed”", ("", "\n"), "marks", "no_documents", id="empty-documents"),
        pytest.param("“and \ud800 laughed”", (DOCUMENT,), "marks", "unreadable_text", id="lone-surrogate"),
        pytest.param("“and laughed” and “and", (DOCUMENT,), "marks", "unclosed_quote", id="not-closed"),
        pytest.param("“and laughed” " * (MOST_QUOTATIONS + 1), (DOCUMENT,), "marks", "too_many_quotes", id="many"),
    ],
)
def test_what_cannot_be_checked_is_abstained_from(text: str, documents: tuple[str, ...], of: str, reason: str) -> None:
    verdict = judged(text, *documents, of=of)
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, reason)


BOMBS = {
    "marks": '"' * 200_000,
    "opening": "“" * 200_000,
    "opening-single": " ‘a" * 100_000,
    "mixed": "“”„«»‘’\"'" * 30_000,
    "ellipses": "“" + "a … " * 100_000 + "”",
    "dots": "“" + ". " * 200_000 + "a”",
    "brackets": "“" + "[ " * 200_000 + "”",
    "spaces": "“a" + " " * 500_000 + "b”",
    "periodic": "“" + "ab" * 200_000 + "c”",
    "paragraphs": "“\n\n" * 100_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", BOMBS)
def test_much_of_anything_is_judged_before_time_is_out(bomb: str) -> None:
    for text, document in ((BOMBS[bomb], DOCUMENT), ("“and laughed”", BOMBS[bomb]), (BOMBS[bomb], "ab" * 200_000)):
        for of in ("marks", "text"):
            assert judged(text, document, of=of).outcome in (Outcome.REJECT, Outcome.ABSTAIN)


def test_documents_with_lone_surrogates_are_read_and_their_offsets_kept() -> None:
    (quoted,) = passages(judged("“and laughed”", "\ud800\udfff and   laughed"))
    assert (quoted.span.start, quoted.span.end) == (3, 16)


def test_right_to_left_text_is_quoted_like_any_other() -> None:
    assert judged("הוא אמר “שלום עולם”.", "אמרו שלום עולם לכולם").outcome is Outcome.ACCEPT
    assert judged("הוא אמר “שלום עולם”.", "אמרו עולם שלום לכולם").outcome is Outcome.REJECT


def test_an_argument_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="of=marks or of=text"):
        QuoteVerifier(of="words")  # type: ignore[arg-type]


def test_it_is_made_by_name() -> None:
    verifier = parse_verifier("quote:of=text")
    assert verifier.arguments == {"of": "text"}
    assert identity(create_verifier("quote", verifier.arguments)) == identity(verifier)
    assert identity(create_verifier("quote")) != identity(verifier)


# Properties


@given(st.text(max_size=80), st.data())
@settings(max_examples=300, deadline=None)
def test_any_whole_words_of_a_document_are_found_where_they_say_the_same(document: str, data: st.DataObject) -> None:
    words = document.split()
    if not any(any(map(str.isalnum, word)) for word in words):
        return
    begin = data.draw(st.integers(0, len(words) - 1))
    wanted = parts(" ".join(words[begin : data.draw(st.integers(begin + 1, len(words)))]))
    if not wanted:
        return
    places = find(wanted, FoldedText.of(document))
    assert places is not None
    for place, part in zip(places, wanted, strict=True):
        said = FoldedText.of(document[place.start : place.end]).text.strip()
        assert said in (part, part[:-1])


@given(st.text(alphabet="ab “”\"‘’'.… \n", max_size=60), st.text(alphabet="ab “”\"‘’'. \n", max_size=60))
@settings(max_examples=500, deadline=None)
def test_what_is_accepted_says_the_same_and_can_be_stored(text: str, document: str) -> None:
    verdict = judged(text, document)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    for quoted in passages(verdict):
        assert document[quoted.span.start : quoted.span.end] == quoted.text
    if verdict.outcome is Outcome.ACCEPT:
        assert passages(verdict)
