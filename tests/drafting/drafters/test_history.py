"""The history of outputs: bounded, saved and loaded, refused when it is damaged or of another model."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from draftproof.drafting.drafters import history as module
from draftproof.drafting.drafters.history import FORMAT, History
from draftproof.errors import InputError, UsageError


def offered(history: History, tail: list[int]) -> list[tuple[int, dict[int, int]]]:
    """For each context length, the longest first, what followed."""
    merged: dict[int, dict[int, int]] = {}
    for level in history.levels(history.context(tail)):
        counts = merged.setdefault(level.length, {})
        for token, count in level.successors:
            counts[token] = counts.get(token, 0) + count
    return sorted(merged.items(), reverse=True)


def filled(sequences: list[list[int]], *, sort: bool = False, **settings: int) -> History:
    history = History(30, **settings)
    for sequence in sequences:
        history.add(sequence)
    if sort:
        history._sort()
    return history


@pytest.mark.parametrize("sort", [False, True], ids=["automaton", "array"])
def test_contexts_of_all_lengths_are_found(sort: bool) -> None:
    history = filled([[1, 2, 3, 4], [5, 2, 3, 6], [7, 2, 3, 6], [3, 9]], sort=sort)
    levels = dict(offered(history, [1, 2, 3]))
    assert levels[3] == {4: 1}
    assert levels[1 if sort else max(length for length in levels if length < 3)]
    assert dict(offered(history, [8, 2, 3]))[2] == {4: 1, 6: 2}
    assert offered(history, [11]) == []


def test_advancing_is_asking_for_the_longer_context() -> None:
    chance = random.Random(0)
    texts = [[chance.randrange(6) for _ in range(60)] for _ in range(5)]
    for sort in (False, True):
        history = filled(texts, sort=sort)
        for _ in range(50):
            tail = [chance.randrange(6) for _ in range(3)]
            token = chance.randrange(6)
            on = history.advance(history.context(tail), [*tail, token], token)
            asked = history.context([*tail, token])
            assert (on.state, on.matched) == (asked.state, asked.matched)
            assert set(on.ranges) <= set(asked.ranges)


def test_the_oldest_sequences_are_forgotten_whole() -> None:
    history = filled([[1, 2, 3], [4, 5, 6], [7, 8, 9]], max_tokens=7)
    assert history.sequences == ((4, 5, 6), (7, 8, 9))
    assert len(history) == 6


def test_forgotten_sequences_leave_the_index_and_memory_stays_bounded() -> None:
    history = filled([[1, 2, 3]], max_tokens=200)
    for round_ in range(200):
        history.add([10 + round_ % 7, 11, 12, 13, 14])
        assert history._automaton.size + len(history._array) <= 200 + 200 // 8 + 64 + 6 + len(history.sequences)
    assert offered(history, [1, 2]) == []


def test_a_sequence_longer_than_the_bound_keeps_its_end() -> None:
    assert filled([[1, 2, 3, 4, 5]], max_tokens=3).sequences == ((3, 4, 5),)


def test_new_sequences_move_to_the_array_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORT_AT_LEAST", 20)
    history = filled([[1, 2, 3, 4, 5]] * 5)
    assert len(history._array) > 0
    levels = dict(offered(history, [1, 2]))
    assert levels[2] == {3: 5}


def test_tokens_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"0 … 29; got 1 … 30"):
        History(30).add([1, 30])
    with pytest.raises(UsageError, match="can hold nothing"):
        History(0)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    history = filled([[1, 2, 3], [4, 2, 3, 5]])
    history.tokenizer = "abc"
    path = tmp_path / "history.safetensors"
    history.save(path)
    loaded = History.load(path)
    assert (loaded.sequences, loaded.vocab_size, loaded.tokenizer) == (history.sequences, 30, "abc")
    assert dict(offered(loaded, [2, 3]))[2] == {5: 1}
    assert [each.name for each in tmp_path.iterdir()] == ["history.safetensors"]
    assert History.load(path, max_tokens=4).sequences == ((4, 2, 3, 5),)


def test_an_empty_history_is_saved_and_loaded(tmp_path: Path) -> None:
    History(30).save(tmp_path / "h")
    assert History.load(tmp_path / "h").sequences == ()


def damaged(path: Path, how: str) -> None:
    tokens, lengths = np.array([1, 2, 3], np.int32), np.array([3], np.int32)
    about = {"format": FORMAT, "vocab_size": "30"}
    if how == "cut off":
        filled([[1, 2, 3]]).save(path)
        path.write_bytes(path.read_bytes()[:-3])
    elif how == "no safetensors":
        path.write_bytes(b"history")
    elif how == "other file":
        save_file({"weight": tokens}, path)
    elif how == "format":
        save_file({"tokens": tokens, "lengths": lengths}, path, metadata=about | {"format": "older"})
    elif how == "lengths":
        save_file({"tokens": tokens, "lengths": lengths + 1}, path, metadata=about)
    elif how == "range":
        save_file({"tokens": tokens + 40, "lengths": lengths}, path, metadata=about)
    elif how == "negative":
        save_file({"tokens": tokens - 2, "lengths": lengths}, path, metadata=about)
    elif how == "type":
        save_file({"tokens": tokens.astype(np.float32), "lengths": lengths}, path, metadata=about)
    elif how == "size":
        save_file({"tokens": tokens, "lengths": lengths}, path, metadata=about | {"vocab_size": "many"})


DAMAGE = [
    "missing",
    "cut off",
    "no safetensors",
    "other file",
    "format",
    "lengths",
    "range",
    "negative",
    "type",
    "size",
]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_an_error_that_names_it(how: str, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    damaged(path, how)
    with pytest.raises(InputError, match=r"h\.safetensors cannot be read as a history"):
        History.load(path)
