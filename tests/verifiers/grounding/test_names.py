"""Names: which words of a sentence are names, and when a document has one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.trace import Span
from draftproof.verifiers.grounding.chunk import Chunk
from draftproof.verifiers.grounding.exact import Sources
from draftproof.verifiers.grounding.kinship import relatives
from draftproof.verifiers.grounding.names import names
from draftproof.verifiers.grounding.ordinary import is_ordinary, ordinary_words
from draftproof.verifiers.grounding.words import fold, words


def read(sentence: str) -> list[str]:
    return [" ".join(word.text for word in name.words) for name in names(sentence)]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Students thronged to Wittenberg.", ["Wittenberg"]),
        ("Rollo went there.", ["Rollo"]),
        ("However, Rollo went there.", ["Rollo"]),
        ("The Duke of Apulia and Calabria came.", ["Apulia", "Calabria"]),
        ("He met President Barack Obama.", ["Barack Obama"]),
        ("It was NASA, and not the EU.", ["NASA", "EU"]),
        ("J. K. Rowling wrote it.", ["J. K. Rowling"]),
        ("In the U.S. it sold well.", ["U.S."]),
        ("K’iche’ is spoken there.", ["iche"]),
        ("They use H1N1 and an iPhone.", ["H1N1", "iPhone"]),
        ("Luther's Works were printed.", ["Luther Works"]),
        ("He was born in March 1999, on a Monday.", ["Monday"]),
        ("It fell in AD 70, at 7 PM.", []),
        ("Differences in PM were marked.", ["PM"]),
        ("Surprisingly, nothing happened. I'm sure it isn't.", []),
        ("Rush", ["Rush"]),
        ("President", ["President"]),
        ("Sir Isaac Newton", ["Isaac Newton"]),
        ("Unknown", []),
        ("THE BAND HAS NEVER PLAYED AGAIN", []),
        ("DROGO WAS CROWNED THERE WITH JOY", ["DROGO"]),
        ("彼は東京に行った。", []),
        ("", []),
    ],
)
def test_names_are_read_by_their_capitals(sentence: str, found: list[str]) -> None:
    assert read(sentence) == found


def test_what_begins_a_sentence_is_no_name_where_the_documents_write_it_small() -> None:
    assert [name.words[0].text for name in names("Thrombo was seen.")] == ["Thrombo"]
    assert names("Thrombo was seen.", {"thrombo"}) == []


def test_the_list_of_ordinary_words_has_words_and_no_names() -> None:
    assert len(ordinary_words()) > 5000
    ordinary = "students however researchers findings considering randomized comedication hypotheses thrown"
    assert [word for word in ordinary.split() if not is_ordinary(word)] == []
    assert [word for word in "rollo drogo paris henry einstein luther wittenberg".split() if is_ordinary(word)] == []  # noqa: SIM905


# Where a name stands


def holds(sentence: str, *documents: str, question: str = "") -> list[tuple[str, bool | None]]:
    sources = Sources({f"c{n}": Chunk.read(each) for n, each in enumerate(documents)}, Chunk.read(question))
    findings = sources.findings(sentence, Span(start=0, end=len(sentence)))
    return [(finding.text, finding.holds) for finding in findings if finding.about == "name"]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        pytest.param("Müller", "said Muller", id="diacritics"),
        pytest.param("Søren Kierkegaard", "SOREN KIERKEGAARD", id="case-and-letters-of-their-own"),
        pytest.param("Einstein", "Albert Einstein", id="the-last-name-of-a-full-name"),
        pytest.param("Albert Einstein", "Professor Albert Einstein's desk", id="titles-and-possessives"),
        pytest.param("Dr Albert Einstein", "Albert Einstein", id="a-title-more"),
        pytest.param("Jean Paul Sartre", "Jean-Paul Sartre", id="hyphens"),
        pytest.param("WiFi", "a Wi-Fi network", id="compounds"),
        pytest.param("Len Worley", 'Leonard Francis "Len" Worley', id="words-between"),
        pytest.param("J. K. Rowling", "JK Rowling", id="initials"),
        pytest.param("US", "the United States", id="an-acronym-of-words"),
        pytest.param("United States", "the U.S. and Canada", id="words-of-an-acronym"),
        pytest.param("American", "the USA", id="a-people-and-its-country"),
        pytest.param("Norway", "the Norwegians", id="a-country-and-its-people"),
        pytest.param("Canadian", "in Canada", id="an-adjective"),
        pytest.param("Panther", "the Panthers", id="plurals"),
        pytest.param("World War II", "World War 2", id="numerals"),
        pytest.param("World War II", "in WWII", id="a-war"),
        pytest.param("George W. Bush", "George Walker Bush", id="an-initial-that-may-be-any"),
        pytest.param("GABAergic", "release of GABA", id="an-acronym-inside-a-word"),
        pytest.param("Luther's", "Luther’s", id="apostrophes"),
    ],
)
def test_a_name_is_found_in_any_usual_spelling(name: str, document: str) -> None:
    ((shown, held),) = holds(f"They saw {name} there.", document)
    assert held is True
    assert shown in name


@pytest.mark.parametrize(
    ("name", "document"),
    [
        pytest.param("Miller", "said Muller", id="another-vowel"),
        pytest.param("Albert Einstein", "a letter from Einstein", id="a-first-name-that-nobody-wrote"),
        pytest.param("Sweden", "in Norway", id="another-country"),
        pytest.param("US", "it belongs to us", id="a-pronoun-is-no-country"),
        pytest.param("NASA", "in the sauna", id="an-acronym-inside-a-word"),
        pytest.param("World War II", "World War I", id="another-war"),
        pytest.param("Rollo", "troll Rollon", id="inside-other-words"),
    ],
)
def test_another_name_is_absent(name: str, document: str) -> None:
    assert holds(f"They saw {name} there.", document) == [(name, False)]


def test_words_of_a_name_that_stand_apart_leave_it_open() -> None:
    far = "John Brown wrote to a friend of his whom nobody had seen for years. Nobody knew Adam Smith."
    assert holds("They saw John Smith there.", far) == [("John Smith", None)]
    assert holds("They saw John Smith there.", "John Brown", "Adam Smith") == [("John Smith", None)]


def test_what_the_question_names_is_given() -> None:
    assert holds("They saw Rollo there.", "nothing", question="Who saw Rollo?") == [("Rollo", None)]
    assert holds("They saw Rollo there.", "nothing", question="Who saw him?") == [("Rollo", False)]


def test_a_name_is_found_where_it_stands() -> None:
    document = "It was in 1046 that Drogo of Hauteville was there."
    sources = Sources({"c": Chunk.read(document)}, Chunk.read(""))
    (finding,) = sources.findings("They saw Drogo of Hauteville.", Span(start=0, end=29))
    assert finding.found is not None
    assert document[finding.found.start : finding.found.end] == "Drogo of Hauteville"
    assert (finding.document, finding.span) == ("c", Span(start=9, end=28))


@pytest.mark.parametrize(
    ("sentence", "document"),
    [
        ("[1] It is so [2, 3].", "It is so."),
        ("1. It is so (c0).", "It is so."),
        ("Document 1 says that it is so.", "It is so."),
        ("Step 2: it is so.", "It is so."),
    ],
)
def test_marks_of_lists_and_citations_are_no_numbers(sentence: str, document: str) -> None:
    sources = Sources({"c0": Chunk.read(document)}, Chunk.read(""))
    assert sources.findings(sentence, Span(start=0, end=len(sentence))) == []


def test_a_document_that_was_never_cited_is_a_number() -> None:
    sources = Sources({"c0": Chunk.read("It is so.")}, Chunk.read(""))
    sentence = "Document 7 says that it is so."
    assert [each.text for each in sources.findings(sentence, Span(start=0, end=len(sentence)))] == ["7"]


# Words


def test_relatives_are_of_one_family() -> None:
    assert relatives("norwegian") & relatives("norway")
    assert relatives("lutheran") & relatives("luther")
    for left, right in (("austria", "australia"), ("iran", "iraq"), ("sweden", "switzerland"), ("marie", "marcus")):
        assert not relatives(left) & relatives(right), (left, right)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_words_of_any_text_are_in_order_and_folding_is_done_once(text: str) -> None:
    found = list(words(text))
    assert all(text[word.start : word.end] == word.text for word in found)
    assert all(left.end <= right.start for left, right in pairwise(found))
    assert all(fold(word.folded) == word.folded for word in found)


@given(st.text(alphabet="abcdefgh", min_size=3, max_size=8), st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_name_that_stands_in_a_document_is_never_absent(name: str, around: str) -> None:
    capital = name.capitalize()
    assert (capital, False) not in holds(f"They saw {capital} there.", f"{around} {capital} {around}")
