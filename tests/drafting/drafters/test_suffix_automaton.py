"""The suffix automaton against counting by hand, and its undo against not having appended."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.drafting.drafters.suffix_automaton import MAX_CLIMB, ROOT, SuffixAutomaton

TEXTS = st.lists(st.integers(0, 2), max_size=MAX_CLIMB - 4)


def automaton_of(text: list[int]) -> SuffixAutomaton:
    automaton = SuffixAutomaton()
    for token in text:
        automaton.append(token)
    return automaton


def parts_of(automaton: SuffixAutomaton) -> tuple[object, ...]:
    return (
        [dict(each) for each in automaton.next],
        list(automaton.link),
        list(automaton.length),
        list(automaton.count),
        list(automaton.newest),
        automaton.last,
        automaton.size,
    )


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_every_substring_has_its_count_and_its_newest_place(text: list[int]) -> None:
    automaton = automaton_of(text)
    for begin in range(len(text)):
        state = ROOT
        for end in range(begin + 1, len(text) + 1):
            state = automaton.next[state][text[end - 1]]
            part = text[begin:end]
            places = [at + len(part) for at in range(len(text)) if text[at : at + len(part)] == part]
            assert (automaton.count[state], automaton.newest[state]) == (len(places), places[-1])


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_what_never_occurred_leads_nowhere(text: list[int]) -> None:
    automaton = automaton_of(text)
    for wanted in ([0, 1, 2], [2, 2], [1, 0, 1, 0]):
        state: int | None = ROOT
        for token in wanted:
            state = None if state is None else automaton.next[state].get(token)
        occurs = any(text[at : at + len(wanted)] == wanted for at in range(len(text)))
        assert (state is not None) == occurs


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_popping_undoes_every_append_exactly(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    before = []
    for token in text:
        before.append(parts_of(automaton))
        automaton.append(token)
    for token in reversed(text):
        assert automaton.pop() == token
        assert parts_of(automaton) == before.pop()


def test_a_long_loop_is_undone_too_though_its_counts_are_cut_short() -> None:
    automaton = automaton_of([1, 2] * (2 * MAX_CLIMB))
    whole = parts_of(automaton)
    for _ in range(10):
        automaton.append(1)
    for _ in range(10):
        automaton.pop()
    assert parts_of(automaton) == whole
