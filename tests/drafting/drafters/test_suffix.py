"""Suffix drafting: matches of all lengths, the history, and what the scores promise."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.drafter import Binding, Commit
from draftproof.drafting.drafters.history import History, vocabulary_digest
from draftproof.drafting.drafters.suffix import PROMPT_TAIL, Suffix, SuffixIndex
from draftproof.errors import UsageError
from tests.drafting.drafters.asking import asked, paths, started
from tests.drafting.drafters.factories import Tiny

LETTERS = list(range(20, 32))


def alone(**settings: float) -> Suffix:
    return Suffix(learn=False, **settings)  # type: ignore[arg-type]


def test_a_sure_copy_is_a_long_chain(tiny: Tiny) -> None:
    draft = asked(started(alone(), tiny, [*LETTERS, 5, *LETTERS[:4]]), 8)
    assert draft.tree(0)[0][:8] == [*LETTERS[4:], 5][:8]
    assert draft.tree(0)[1] == [-1, 0, 1, 2, 3, 4, 5, 6]


def test_a_doubtful_one_is_a_bush_that_follows_the_counts(tiny: Tiny) -> None:
    text = [10, 11, 60, 3, 10, 11, 60, 4, 10, 11, 70, 5, 10, 11]
    found = paths(asked(started(alone(), tiny, text), 8))
    assert found[60,] == pytest.approx(2 * found[70,], rel=1e-3)


def test_of_equally_frequent_continuations_the_newest_comes_first(tiny: Tiny) -> None:
    draft = asked(started(alone(), tiny, [10, 11, 60, 4, 10, 11, 70, 5, 10, 11]), 1)
    assert draft.tree(0)[0] == [70]


def test_a_loop_goes_on_past_the_end_of_the_text(tiny: Tiny) -> None:
    draft = asked(started(alone(), tiny, [4, *([50, 51, 52] * 4), 50]), 10)
    assert draft.tree(0)[0] == [51, 52, 50] * 3 + [51]


def test_nothing_follows_the_end_of_sequence(tiny: Tiny) -> None:
    (end,) = tiny.target.info.eos_ids
    draft = asked(started(alone(), tiny, [10, 11, 20, end, 40, 41, 10, 11]), 8)
    assert [path for path in paths(draft) if end in path[:-1]] == []
    assert (20, end) in paths(draft)


def test_paths_below_the_least_probability_are_not_drafted(tiny: Tiny) -> None:
    text = [10, 60, 10, 61, 10, 62, 10, 63, 10]
    every = asked(started(alone(min_probability=0.001), tiny, text), 16)
    few = asked(started(alone(min_probability=0.05), tiny, text), 16)
    assert int(few.n_nodes[0]) < int(every.n_nodes[0])
    assert min(paths(few).values()) >= 0.05


def test_scores_are_what_comes_true() -> None:
    """On text with noise, promised and kept tokens agree; a claim of twice as much would be off by a factor."""
    chance = random.Random(3)
    phrase = [chance.randrange(50) for _ in range(40)]
    index = SuffixIndex(0)
    drafter = alone(max_nodes=8)
    promised = kept = 0.0
    for step in range(2500):
        token = phrase[step % 40] if chance.random() < 0.85 else chance.randrange(50)
        if step > 400:
            tree = drafter._tree(index, 8)
            roots = {tree.tokens[n]: tree.scores[n] for n, above in enumerate(tree.parents) if above < 0}
            promised += sum(roots.values())
            kept += token in roots
        index.append(token)
    assert 0.85 < promised / kept < 1.15


def test_an_index_that_is_truncated_is_as_if_the_tokens_had_never_come() -> None:
    chance = random.Random(5)
    text = [chance.randrange(6) for _ in range(200)]
    index, fresh = SuffixIndex(3), SuffixIndex(3)
    for token in text:
        index.append(token)
    index.truncate(120)
    for token in text[:120]:
        fresh.append(token)
    assert index.automaton.next == fresh.automaton.next
    assert index.automaton.count == fresh.automaton.count
    assert index.trust.chances == fresh.trust.chances


def test_a_finished_row_is_drafted_from_by_the_next(tiny: Tiny) -> None:
    drafter = started(Suffix(), tiny, [3, 4, 5, 20])
    assert int(asked(drafter).n_nodes[0]) == 0
    drafter.commit([Commit(0, (21, 22, 23, 24), (), 8)])
    drafter.stop([0])
    drafter.start(Commit(1, (6, 7, 20, 21), (), 4, reason="prefill"))
    assert asked(drafter, row=1).tree(0)[0][:3] == [22, 23, 24]


def test_what_a_history_keeps_is_the_output_with_the_end_of_the_prompt(tiny: Tiny) -> None:
    history = History(97)
    drafter = started(Suffix(history), tiny, [3, 4, 5, 6, 7, 20])
    drafter.commit([Commit(0, (21,), (), 7)])
    drafter.stop([0])
    assert history.sequences == ((5, 6, 7, 20, 21),)
    assert PROMPT_TAIL == 3


def test_drafters_share_a_history_and_one_that_does_not_learn_leaves_it_alone(tiny: Tiny) -> None:
    history = History(97)
    writer, reader = started(Suffix(history), tiny, [3, 20, 21, 22]), Suffix(history, learn=False)
    writer.stop([0])
    started(reader, tiny, [9, 20, 21])
    assert asked(reader).tree(0)[0] == [22]
    reader.stop([0])
    assert len(history.sequences) == 1


def test_text_and_history_are_mixed_in_one_tree(tiny: Tiny) -> None:
    history = History(97)
    history.add([8, 20, 21, 40])
    drafter = started(Suffix(history), tiny, [20, 21, 50, 3, 20, 21])
    found = paths(asked(drafter))
    assert {(50,), (40,)} <= set(found)
    assert found[50,] + found[40,] <= 1.0


def test_a_history_of_another_vocabulary_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="vocabulary of 96 tokens, and the target has 97"):
        Suffix(History(96)).bind(Binding(tiny.target, None))


class Letters:
    """A vocabulary of 97 tokens, shifted."""

    size = 97
    special_ids: frozenset[int] = frozenset()

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def token_bytes(self, token: int) -> bytes | None:
        return bytes([token + self.shift])

    def encode(self, text: str) -> list[int]:
        return [byte - self.shift for byte in text.encode()]

    def decode(self, ids: list[int]) -> str:
        return bytes(each + self.shift for each in ids).decode()


def test_a_history_of_another_tokenizer_of_the_same_size_is_refused(tiny: Tiny) -> None:
    drafter = Suffix(History(97, tokenizer=vocabulary_digest(Letters(0))))
    assert drafter.spec.needs == {"text"}
    drafter.bind(Binding(tiny.target, Letters(0)))
    with pytest.raises(UsageError, match="another tokenizer"):
        drafter.bind(Binding(tiny.target, Letters(1)))
