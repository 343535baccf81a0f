"""The suffix array against looking for contexts one by one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.drafting.drafters.suffix_array import MOST_SUCCESSORS, SAMPLED, SuffixArray

V = 4
SEQUENCES = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=30), max_size=6)


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.lists(st.integers(0, V - 1), min_size=1, max_size=5))
def test_ranges_and_successors_are_those_found_by_looking(sequences: list[list[int]], context: list[int]) -> None:
    array = SuffixArray(sequences, V)
    low, high = array.find(context)
    ends = [
        (sequence, at + len(context))
        for sequence in sequences
        for at in range(len(sequence))
        if sequence[at : at + len(context)] == context
    ]
    followed = Counter(sequence[end] for sequence, end in ends if end < len(sequence))
    assert high - low == len(ends)
    assert dict(array.successors(low, high, len(context))) == dict(followed)


def test_a_longer_context_is_found_within_the_range_of_its_beginning() -> None:
    array = SuffixArray([[1, 2, 3, 1, 2, 0, 1, 2, 3]], V)
    low, high = array.find([1, 2])
    assert array.find([1, 2, 3], low, high) == array.find([1, 2, 3])
    assert high - low == 3


def test_no_match_runs_from_one_sequence_into_the_next() -> None:
    array = SuffixArray([[1, 2], [3, 1]], V)
    low, high = array.find([2, 3])
    assert low == high
    assert array.successors(*array.find([2]), 1) == []


def test_of_frequent_contexts_a_sample_is_looked_at_and_the_most_frequent_successors_are_kept() -> None:
    wide = 40
    text = [token for round_ in range(SAMPLED) for token in (0, 1 + (round_ % wide if round_ % 2 else 0))] * 3
    found = SuffixArray([text], wide + 1).successors(*SuffixArray([text], wide + 1).find([0]), 1)
    assert len(found) <= MOST_SUCCESSORS
    assert found[0][0] == 1
    assert abs(found[0][1] - 3 * SAMPLED / 2) < 0.1 * SAMPLED


def test_large_token_ids_keep_their_order() -> None:
    array = SuffixArray([[255, 256, 65535, 65536, 255, 256, 7]], 70_000)
    assert sorted(array.successors(*array.find([255, 256]), 2)) == [(7, 1), (65535, 1)]
