"""Segmentation: nothing is lost, nothing is cut in half, and no text makes it slow."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.errors import UnknownNameError
from draftproof.segment import pieces, protected_regions, segment, segmentation_name, strategies

ALL = sorted(strategies())
# Made of what the rules look for, so that random texts hit them; plain st.text() almost never would.
FRAGMENTS = st.sampled_from(
    [
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "$$",
        "\\[",
        "\\]",
        "\\begin{align}",
        "\\end{align}",
        "\\begin{cases}",
        "\\end{cases}",
        "```\n",
        "~~~",
        "1. ",
        "Step 2: ",
        "#3. ",
        "Dr. Who",
        "A sentence. ",
        "x = 3.5",
        "。",
        "---",
        "\\\\",
        "\\$",
        "\t",
        "é",
        "𝔸",
        "\u2028",
        "(2) ",
        "e.g. ",
        "...",
        "!?",
        "**",
        "I. ",
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=60).map("".join))


@pytest.mark.parametrize("strategy", ALL)
@given(text=TEXTS)
def test_the_pieces_concatenate_to_the_text(strategy, text):
    spans = segment(text, strategy)
    assert "".join(text[span.start : span.end] for span in spans) == text
    assert all(left.end == right.start for left, right in pairwise(spans))
    assert all(span.start < span.end for span in spans)
    assert pieces(text, strategy) == [text[span.start : span.end] for span in spans]


@pytest.mark.parametrize("strategy", ALL)
@given(text=TEXTS)
def test_no_cut_falls_inside_a_protected_region(strategy, text):
    cuts = {span.end for span in segment(text, strategy)}
    for start, end in protected_regions(text):
        assert not any(start < cut < end for cut in cuts)


@pytest.mark.parametrize("strategy", ALL)
@given(text=TEXTS)
def test_every_piece_says_something_when_the_text_does(strategy, text):
    if any(character.isalnum() for character in text):
        assert all(any(character.isalnum() for character in piece) for piece in pieces(text, strategy))


@pytest.mark.parametrize(
    ("strategy", "text", "expected"),
    [
        pytest.param(
            "blank_line",
            "One.\n\nTwo,\nstill two.\n \t\n\nThree.",
            ["One.\n\n", "Two,\nstill two.\n \t\n\n", "Three."],
            id="blank-lines-with-spaces",
        ),
        pytest.param("blank_line", "a\r\n\r\nb", ["a\r\n\r\n", "b"], id="crlf"),
        pytest.param("blank_line", "a\n\n---\n\nb", ["a\n\n", "---\n\nb"], id="a-rule-joins-the-next"),
        pytest.param("blank_line", "a\n\n***", ["a\n\n***"], id="a-last-rule-joins-the-one-before"),
        pytest.param("blank_line", "***\n\n---", ["***\n\n---"], id="nothing-but-rules-is-one-step"),
        pytest.param("line", "a\n\nb\nc", ["a\n\n", "b\n", "c"], id="blank-lines-belong-to-the-line-before"),
        pytest.param(
            "numbered", "So:\n1. a\n2. b\nmore b\n10) c", ["So:\n", "1. a\n", "2. b\nmore b\n", "10) c"], id="numbers"
        ),
        pytest.param(
            "numbered",
            "Step 1: a\n**Step 2**: b\n- Step 3: c",
            ["Step 1: a\n", "**Step 2**: b\n", "- Step 3: c"],
            id="step-words",
        ),
        pytest.param(
            "numbered",
            "It costs\n3.5 dollars\n2. b",
            ["It costs\n3.5 dollars\n", "2. b"],
            id="a-decimal-is-no-number-of-a-step",
        ),
        pytest.param(
            "sentence",
            "He has 3.5 apples. She, e.g. Ann, has 2. Dr. No has none!",
            ["He has 3.5 apples. ", "She, e.g. Ann, has 2. ", "Dr. No has none!"],
            id="stops-that-end-nothing",
        ),
        pytest.param(
            "sentence", "1. Add them. 2. Stop.", ["1. Add them. ", "2. Stop."], id="list-number-at-line-start"
        ),
        pytest.param("sentence", "这是一。这是二！", ["这是一。", "这是二！"], id="full-width-stops"),
        pytest.param(
            "natural_program",
            "#1. Given.\n#2. (by #1) Step 1: so\nand so\n#3. end",
            ["#1. Given.\n", "#2. (by #1) Step 1: so\nand so\n", "#3. end"],
            id="natural-program",
        ),
        pytest.param("code_line", "a = 1\n\nif a:\n    b = 2\n", ["a = 1\n\n", "if a:\n", "    b = 2\n"], id="code"),
        pytest.param("given", "a\n\nb", ["a\n\nb"], id="given-is-one"),
        pytest.param("line", "", [], id="nothing"),
        pytest.param("line", " \n ", [" \n "], id="white-space-is-one-piece"),
    ],
)
def test_where_each_rule_cuts(strategy, text, expected):
    assert pieces(text, strategy) == expected


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a $$x\n\ny$$ b\n\nc", "$$x\n\ny$$"),
        ("a \\[x\n\ny\\] b\n\nc", "\\[x\n\ny\\]"),
        ("a\n```py\nx\n\ny\n```\nb\n\nc", "```py\nx\n\ny\n```"),
        ("a \\begin{align}x\n\n\\begin{align}\n\ny\\end{align}\n\nz\\end{align} b\n\nc", "\n\ny\\end{align}\n\nz"),
    ],
    ids=["dollars", "brackets", "fence", "nested-environments"],
)
def test_a_formula_or_fence_stays_whole(text, whole):
    assert any(whole in piece for piece in pieces(text, "blank_line"))
    assert len(pieces(text, "blank_line")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "a $$x\n\ny",
        "a \\[x\n\ny",
        "```\nx\n\ny",
        "\\begin{align}x\n\ny",
        "\\end{a}x\n\n\\begin{a}y",
        "\\\\[2pt] x\n\ny \\]",
    ],
    ids=["dollars", "bracket", "fence", "environment", "wrong-order", "line-break-with-a-length"],
)
def test_what_is_never_closed_protects_nothing(text):
    assert len(pieces(text, "blank_line")) == 2


def test_the_name_carries_the_version_and_an_unknown_one_is_refused():
    assert segmentation_name("line") == "line@1"
    assert segment("a\nb", "line@1") == segment("a\nb", "line")
    for wrong in ("lines", "line@2", ""):
        with pytest.raises(UnknownNameError, match="Known are"):
            segment("a", wrong)


HOSTILE = [
    ".",
    " ",
    "$$",
    "\\[ \\[",
    "\\begin{a}",
    "```\n",
    ".)",
    "\n ",
    "- ",
    "a. B ",
    "1. ",
    "`",
    "step ",
    "\n",
    "9. A",
    "\n1. ",
    ". . ",
    "\\begin{a}\\end{a}",
    "Mr. ",
    "x",
    "#",
    "\\\\",
    "\\[x\\]\n\n",
    "*\n\n",
]


@pytest.mark.parametrize("unit", HOSTILE, ids=repr)
def test_time_grows_with_the_text_and_not_with_its_square(unit):
    """At 100,000 characters, a quadratic rule took 11 to 32 seconds here; the linear ones take milliseconds."""
    text = unit * (100_000 // len(unit))
    for strategy in ALL:
        begin = time.process_time()
        segment(text, strategy)
        assert time.process_time() - begin < 2.0, strategy
