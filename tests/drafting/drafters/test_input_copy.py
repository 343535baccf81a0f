"""Input-guided drafting: the cursor, leaving the source and finding back."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.drafter import Commit
from draftproof.drafting.drafters.input_copy import InputCopy, SourceIndex
from draftproof.errors import UsageError
from tests.drafting.drafters.asking import asked, started
from tests.drafting.drafters.factories import Tiny

SOURCE = list(range(20, 50))


def going(tiny: Tiny, source: list[int], output: list[int], **settings: object) -> InputCopy:
    drafter = started(InputCopy(**settings), tiny, [*source, output[0]])  # type: ignore[arg-type]
    if output[1:]:
        drafter.commit([Commit(0, tuple(output[1:]), (), len(source) + len(output))])
    return drafter


def copied(drafter: InputCopy, budget: int = 4) -> list[int]:
    return asked(drafter, budget).tree(0)[0]


def test_an_output_that_repeats_the_source_is_drafted_from_it(tiny: Tiny) -> None:
    assert copied(going(tiny, SOURCE, SOURCE[:5])) == SOURCE[5:9]


def test_a_changed_token_stops_drafting_until_the_place_is_found_again(tiny: Tiny) -> None:
    assert copied(going(tiny, SOURCE, [*SOURCE[:5], 9])) == []
    assert copied(going(tiny, SOURCE, [*SOURCE[:5], 9, SOURCE[6]])) == SOURCE[7:11]


def test_left_out_and_inserted_tokens_are_passed_over(tiny: Tiny) -> None:
    assert copied(going(tiny, SOURCE, [*SOURCE[:5], *SOURCE[12:14]])) == SOURCE[14:18]
    assert copied(going(tiny, SOURCE, [*SOURCE[:5], 7, 8, 9, SOURCE[5]])) == SOURCE[6:10]


def test_an_ambiguous_place_is_not_taken_until_the_text_tells(tiny: Tiny) -> None:
    source = [20, 21, 22, 23, 60, 70, 30, 31, 61, 70, 40, 41]
    output = [20, 21, 22, 9, 70]
    assert copied(going(tiny, source, output)) == []
    assert copied(going(tiny, source, [*output, 40])) == [41]


def test_the_cursor_never_looks_back(tiny: Tiny) -> None:
    source = [20, 21, 22, 23, 24, 25, 20, 21, 22, 33, 34, 35]
    assert copied(going(tiny, source, [20, 21, 22, 23, 24, 25, 20, 9, 21])) == [22, 33, 34, 35]


def test_a_chance_match_does_not_cost_what_lies_before_it(tiny: Tiny) -> None:
    output = [*SOURCE[:5], 9, SOURCE[25], 8, SOURCE[6]]
    assert copied(going(tiny, SOURCE, output)) == SOURCE[7:11]


def test_a_span_is_the_only_source(tiny: Tiny) -> None:
    prompt = [3, 4, 5, *SOURCE, 6, 7]
    assert copied(going(tiny, prompt, SOURCE[:2], span=(3, 13)), 20) == SOURCE[2:10]
    assert copied(going(tiny, prompt, [3, 4], span=(3, 13))) == []
    assert copied(going(tiny, prompt, [SOURCE[-3]], span=(-5, -2))) == SOURCE[-2:]


def test_a_row_can_be_given_a_span_of_its_own(tiny: Tiny) -> None:
    drafter = InputCopy()
    drafter.mark(0, 5, 8)
    started(drafter, tiny, [*SOURCE, SOURCE[5]])
    assert copied(drafter) == SOURCE[6:8]
    with pytest.raises(UsageError, match="marked from 5 to 4"):
        drafter.mark(1, 5, 4)


def test_truncating_brings_back_cursor_and_trust() -> None:
    chance = random.Random(2)
    prompt = [chance.randrange(8) for _ in range(40)]
    output = [token if chance.random() < 0.8 else chance.randrange(8) for token in prompt]
    for length in (41, 50, 63):
        index, fresh = SourceIndex(40, prompt), SourceIndex(40, prompt)
        for token in prompt + output:
            index.append(token)
        index.truncate(length)
        for token in (prompt + output)[:length]:
            fresh.append(token)
        assert index.cursor == fresh.cursor
        assert index.trust.chances == fresh.trust.chances
