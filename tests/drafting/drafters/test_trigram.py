"""Trigrams: the table, the row's overlay, and both searches."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from draftproof.drafting.drafter import Binding
from draftproof.drafting.drafters.trigram import MOST, NUDGE, RowTrigrams, Trigram
from draftproof.drafting.drafters.trigram_table import FORMAT, TrigramTable
from draftproof.errors import InputError, UsageError
from tests.drafting.drafters.asking import asked, paths, started
from tests.drafting.drafters.factories import Tiny

CORPUS = [[10, 11, 60, 61], [10, 11, 60, 62], [10, 11, 70, 71], [11, 60, 61, 5]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=5))
def test_shares_are_counts_over_all_successors_of_the_pair(sequences: list[list[int]]) -> None:
    table = TrigramTable.build(sequences, 4)
    counts: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for sequence in sequences:
        for first, second, third in zip(sequence, sequence[1:], sequence[2:], strict=False):
            counts[first, second][third] += 1
    for first in range(4):
        for second in range(4):
            after = counts[first, second]
            want = {token: count / after.total() for token, count in after.items()}
            assert table.after(first, second) == pytest.approx(want)


def test_only_the_most_frequent_successors_are_kept_with_their_shares() -> None:
    table = TrigramTable.build([[1, 2, 3], [1, 2, 3], [1, 2, 4], [1, 2, 5]], 6, keep=2)
    assert table.after(1, 2) == {3: 0.5, 4: 0.25}
    assert len(table) == 2


def test_what_the_row_says_adds_to_the_table_up_to_a_cap() -> None:
    table, row = TrigramTable.build(CORPUS, 97), RowTrigrams()
    for token in [10, 11, 80]:
        row.append(token)
    assert row.values(table, 10, 11) == pytest.approx({60: 2 / 3, 70: 1 / 3, 80: NUDGE})
    for _ in range(20):
        for token in [10, 11, 80]:
            row.append(token)
    assert row.values(table, 10, 11)[80] == MOST
    row.truncate(2)
    assert row.values(table, 10, 11) == table.after(10, 11)
    assert RowTrigrams()._said == row._said == {}


def test_best_first_drafts_in_the_order_of_the_products(tiny: Tiny) -> None:
    draft = asked(started(Trigram(TrigramTable.build(CORPUS, 97)), tiny, [3, 10, 11]), 4)
    assert list(paths(draft)) == [(60,), (60, 61), (60, 61, 5), (70,)]
    assert list(paths(draft).values()) == pytest.approx([2 / 3, 4 / 9, 4 / 9, 1 / 3])


def test_the_search_of_the_paper_visits_the_likely_paths_most(tiny: Tiny) -> None:
    drafter = started(Trigram(TrigramTable.build(CORPUS, 97), search="puct"), tiny, [3, 10, 11])
    found = paths(asked(drafter, 6))
    assert {(60,), (60, 61), (70,)} <= set(found)
    assert found[60,] > found[70,] > 0


def test_nothing_is_known_of_a_single_token_or_a_new_pair(tiny: Tiny) -> None:
    for search in ("best-first", "puct"):
        for text in ([10], [4, 5, 6]):
            drafter = started(Trigram(TrigramTable.build(CORPUS, 97), search=search), tiny, text)  # type: ignore[arg-type]
            assert int(asked(drafter).n_nodes[0]) == 0


def test_a_table_is_saved_and_loaded(tmp_path: Path) -> None:
    table = TrigramTable.build(CORPUS, 97)
    table.save(tmp_path / "t")
    loaded = TrigramTable.load(tmp_path / "t")
    assert loaded.vocab_size == 97
    assert loaded.after(10, 11) == table.after(10, 11)


@pytest.mark.parametrize("how", ["missing", "no safetensors", "format", "tokens", "shares", "order"])
def test_a_damaged_table_is_an_error_that_names_it(how: str, tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    columns = {
        "pairs": np.array([1, 2], np.int64),
        "tokens": np.array([1, 2], np.int32),
        "shares": np.array([1, 1], np.float32),
    }
    about = {"format": FORMAT, "vocab_size": "97"}
    if how == "no safetensors":
        path.write_bytes(b"1234567812345678")
    elif how != "missing":
        columns["tokens"][0] = 97 if how == "tokens" else 1
        columns["shares"][0] = np.nan if how == "shares" else 1
        columns["pairs"][0] = 3 if how == "order" else 1
        save_file(columns, path, metadata=about | ({"format": "x"} if how == "format" else {}))
    with pytest.raises(InputError, match=r"table\.safetensors cannot be read as a trigram table"):
        TrigramTable.load(path)


def test_what_does_not_fit_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="built for 98 tokens"):
        Trigram(TrigramTable.build([], 98)).bind(Binding(tiny.target, None))
    with pytest.raises(UsageError, match="expected 'best-first' or 'puct'"):
        Trigram(search="random")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"outside 0 … 3"):
        TrigramTable.build([[1, 2, 4]], 4)
