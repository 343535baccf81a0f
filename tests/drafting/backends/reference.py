"""What every cached model must do, as checks against the plain forward of the transformers model behind it.

A check takes a fresh or used `CachedModel` without rows and raises AssertionError where it differs; it leaves no rows
behind. `plain_logits` is the definition that all of them compare with: no cache, no masks of ours, one row.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.model import CachedModel, LayeredModel, RowTokens, Wanted
from draftproof.errors import ContextLengthError, UsageError
from tests.drafting.backends.plain_forward import (
    NOISE,
    TREE,
    assert_close,
    assert_paths,
    paths,
    plain_logits,
    plain_states,
    relative_error,
    row_tokens,
    rows,
    some_text,
)


def check_prefill_and_chain(cached: CachedModel, model: PreTrainedModel) -> None:
    """A prompt in one pass, then a drafted chain: every row of logits."""
    text = some_text(1, 23, cached.info.vocab_size)
    expected = plain_logits(model, text)
    with rows(cached, []) as (row,):
        assert_close(cached.forward([row_tokens(row, text[:14])]).logits, expected[:14], "prefill")
        cached.commit(row, range(14))
        assert_close(cached.forward([row_tokens(row, text[14:])]).logits, expected[14:], "chain")


def check_logits_wanted(cached: CachedModel, model: PreTrainedModel) -> None:
    """`last` and `none` give what `all` gives, cut down."""
    texts = [some_text(seed, length, cached.info.vocab_size) for seed, length in ((1, 5), (2, 9), (3, 1))]
    with rows(cached, [], [], []) as ids:
        batch = [row_tokens(row, text) for row, text in zip(ids, texts, strict=True)]
        last = cached.forward(batch, Wanted(logits="last"))
        assert last.logit_bounds == (0, 1, 2, 3)
        assert_close(last.logits, torch.stack([plain_logits(model, text)[-1] for text in texts]), "last")
        none = cached.forward(batch, Wanted(logits="none"))
        assert none.logits is None
        assert none.logit_bounds == (0, 0, 0, 0)
        assert none.bounds == (0, 5, 14, 15)


def check_tree(cached: CachedModel, model: PreTrainedModel) -> None:
    """Each path of a tree has the logits of the plain text along it."""
    prompt = some_text(4, 11, cached.info.vocab_size)
    nodes = some_text(5, len(TREE), cached.info.vocab_size)
    with rows(cached, prompt) as (row,):
        logits = cached.forward([row_tokens(row, nodes, TREE)]).logits
        assert_paths(model, prompt, nodes, TREE, logits)


def check_ragged_batch(cached: CachedModel, model: PreTrainedModel) -> None:
    """Rows of other lengths with trees of other widths in one pass, in any order, and a subset of them afterwards."""
    vocab = cached.info.vocab_size
    texts = [some_text(6, 13, vocab), some_text(7, 2, vocab), some_text(8, 29, vocab)]
    trees = [[-1, 0, 1], [-1], TREE]
    with rows(cached, *texts) as ids:
        for order in ([0, 1, 2], [2, 0, 1], [2, 0], [1]):
            nodes = {i: some_text(20 + i, len(trees[i]), vocab) for i in order}
            result = cached.forward([row_tokens(ids[i], nodes[i], trees[i]) for i in order])
            assert result.logits is not None
            assert result.logit_bounds == result.bounds
            for place, i in enumerate(order):
                low, high = result.logit_bounds[place : place + 2]
                assert_paths(model, texts[i], nodes[i], trees[i], result.logits[low:high])


def check_rows_that_begin_together(cached: CachedModel, model: PreTrainedModel) -> None:
    """Prompts of different lengths prefilled in one pass, then chains of different lengths after equal ones."""
    vocab = cached.info.vocab_size
    texts = [some_text(seed, length, vocab) for seed, length in ((31, 17), (32, 4), (33, 9))]
    with rows(cached, [], [], []) as ids:
        for begin, ends in ((0, (4, 4, 4)), (4, (17, 4, 9))):
            going = [(row, text[begin:end]) for row, text, end in zip(ids, texts, ends, strict=True) if end > begin]
            result = cached.forward([row_tokens(row, piece) for row, piece in going])
            expected = [plain_logits(model, text[:end])[begin:] for text, end in zip(texts, ends, strict=True)]
            assert_close(result.logits, torch.cat(expected), f"columns from {begin}")
            for row, piece in going:
                cached.commit(row, range(len(piece)))


def check_scratch_over_passes(cached: CachedModel, model: PreTrainedModel) -> None:
    """A tree written slot by slot and level by level, and rewritten from the middle."""
    prompt = some_text(9, 8, cached.info.vocab_size)
    nodes = some_text(10, len(TREE), cached.info.vocab_size)
    with rows(cached, prompt) as (row,):
        pieces = []
        for low, high in ((0, 1), (1, 3), (3, 4), (4, 8)):
            result = cached.forward([row_tokens(row, nodes[low:high], TREE[low:high], start=low)])
            assert result.logits is not None
            pieces.append(result.logits)
        assert_paths(model, prompt, nodes, TREE, torch.cat(pieces))
        other = [*nodes[:4], *some_text(11, 2, cached.info.vocab_size)]
        parents = [*TREE[:4], 0, 3]
        result = cached.forward([row_tokens(row, other[4:], parents[4:], start=4)])
        assert_paths(model, prompt, other, parents, result.logits, only=[4, 5])


def check_commit_of_a_path(cached: CachedModel, model: PreTrainedModel) -> None:
    """After a path through a tree was committed, the next token sees it and nothing else of the tree."""
    vocab = cached.info.vocab_size
    prompt, after = some_text(12, 10, vocab), some_text(13, 3, vocab)
    nodes = some_text(14, len(TREE), vocab)
    for path in ([0, 2, 3, 7], [1, 5], [6], [0], []):
        with rows(cached, prompt) as (row,):
            cached.forward([row_tokens(row, nodes, TREE)], Wanted(logits="none"))
            cached.commit(row, path)
            text = [*prompt, *(nodes[slot] for slot in path)]
            assert cached.length(row) == len(text)
            expected = plain_logits(model, [*text, *after])[len(text) :]
            assert_close(cached.forward([row_tokens(row, after)]).logits, expected, f"after path {path}")


def check_truncate(cached: CachedModel, model: PreTrainedModel) -> None:
    """A row taken back to any length goes on as if the rest had never been."""
    vocab = cached.info.vocab_size
    text = some_text(15, 21, vocab)
    with rows(cached, text) as (row,):
        for length in (20, 9, 9, 1, 0):
            cached.forward([row_tokens(row, [1, 2])], Wanted(logits="none"))
            cached.truncate(row, length)
            assert cached.length(row) == length
            after = some_text(length, 4, vocab)
            expected = plain_logits(model, [*text[:length], *after])[length:]
            assert_close(cached.forward([row_tokens(row, after)]).logits, expected, f"after {length} tokens")


def check_taps_and_head(cached: CachedModel, model: PreTrainedModel, *, learned_positions: bool = False) -> None:
    """Taps are the layers' outputs, the top one before the final norm; `embed` and `head` are the model's ends."""
    vocab, top = cached.info.vocab_size, cached.info.n_layers
    texts = [some_text(16, 7, vocab), some_text(17, 3, vocab)]
    with rows(cached, texts[0][:2], []) as ids:
        batch = [row_tokens(ids[0], texts[0][2:]), row_tokens(ids[1], texts[1])]
        result = cached.forward(batch, Wanted(taps=tuple(range(top + 1))))
        assert result.bounds == (0, 5, 8)
        assert sorted(result.hidden) == list(range(top + 1))
        assert cached.forward(batch).hidden == {}
    plain = [plain_states(model, text) for text in texts]
    for layer in range(top):
        expected = torch.cat([plain[0][layer][2:], plain[1][layer]])
        assert_close(result.hidden[layer], expected, f"tap of layer {layer}")
    normed = torch.cat([plain[0][top][2:], plain[1][top]])
    assert relative_error(result.hidden[top], normed) > 100 * NOISE, "the top tap is after the final norm"
    assert result.logits is not None
    assert_close(cached.head(result.hidden[top]), result.logits, "head")
    some = torch.tensor([5, 90, 17])
    assert_close(cached.head(result.hidden[top], some), result.logits[:, some], "head of some ids")
    if not learned_positions:
        assert_close(cached.embed(torch.tensor(texts[1])), plain[1][0], "embeddings")


def check_layers(cached: LayeredModel, model: PreTrainedModel) -> None:
    """Layers run in part give the states of a full pass, and a pass resumed at a layer gives its logits."""
    vocab, top = cached.info.vocab_size, cached.info.n_layers
    texts = [some_text(18, 12, vocab), some_text(19, 3, vocab)]
    nodes = [some_text(20, len(TREE), vocab), some_text(21, 2, vocab)]
    trees = [TREE, [-1, 0]]
    with rows(cached, *texts) as ids:
        batch = [row_tokens(*each) for each in zip(ids, nodes, trees, strict=True)]
        full = cached.forward(batch, Wanted(taps=tuple(range(top + 1))))
        assert full.logits is not None
        for exit_layer in range(1, top):
            lower = cached.run_layers(batch, 0, exit_layer, taps=(0,))
            assert lower.logits is None
            assert lower.bounds == full.bounds
            assert_close(lower.hidden[0], full.hidden[0], "embeddings")
            assert_close(lower.hidden[exit_layer], full.hidden[exit_layer], f"output of layer {exit_layer}")
            upper = cached.run_layers(batch, exit_layer, top, lower.hidden[exit_layer])
            assert_close(cached.head(upper.hidden[top]), full.logits, f"resumed at layer {exit_layer}")
            again = cached.forward(batch)
            assert_close(again.logits, full.logits, "a full pass after a partial one")
        cached.run_layers(batch, 0, 1)
        with pytest.raises(UsageError, match="layers ran over it"):
            cached.commit(ids[0], [0])
        with pytest.raises(UsageError, match="layers have run"):
            cached.forward([row_tokens(ids[0], [1], [0], start=1)])
        with pytest.raises(UsageError):
            cached.run_layers([row_tokens(ids[0], nodes[0][:2])], 1, top, full.hidden[1][:2])


def check_early_exit(cached: LayeredModel, model: PreTrainedModel) -> None:
    """Tokens drafted one by one in the lower layers, then verified by the upper ones at once, and committed."""
    vocab, top = cached.info.vocab_size, cached.info.n_layers
    prompt, drafted = some_text(22, 9, vocab), some_text(23, 5, vocab)
    exit_layer = max(1, top - 1)
    with rows(cached, prompt) as (row,):
        states = [
            cached.run_layers([row_tokens(row, [token], start=slot)], 0, exit_layer).hidden[exit_layer]
            for slot, token in enumerate(drafted)
        ]
        upper = cached.run_layers([row_tokens(row, drafted)], exit_layer, top, torch.cat(states))
        expected = plain_logits(model, [*prompt, *drafted])
        assert_close(cached.head(upper.hidden[top]), expected[len(prompt) :], "verified from the exit layer on")
        cached.commit(row, [0, 1, 2])
        text = [*prompt, *drafted[:3], 5]
        assert_close(cached.forward([row_tokens(row, [5])]).logits, plain_logits(model, text)[-1:], "after commit")


def check_refusals(cached: CachedModel) -> None:
    """What is wrong is refused before anything is indexed, and changes nothing."""
    vocab, context = cached.info.vocab_size, cached.info.context_length

    def refused(message: str, call: Callable[[], object], error: type[Exception] = UsageError) -> None:
        with pytest.raises(error, match=message):
            call()

    with rows(cached, [1, 2, 3], [4]) as (row, other):
        before = cached.forward([row_tokens(row, [5, 6, 7], [-1, 0, 0])]).logits
        for tokens in ([vocab], [-1], [3, 10**12]):
            refused("out of range", lambda tokens=tokens: cached.forward([row_tokens(row, tokens)]))  # type: ignore[misc]
        refused("one or more", lambda: cached.forward([RowTokens(row, torch.zeros(0, dtype=torch.int64))]))
        refused("one or more", lambda: cached.forward([RowTokens(row, torch.zeros(2))]))
        refused("at least one row", lambda: cached.forward([]))
        refused("no row 99", lambda: cached.forward([row_tokens(99, [1])]))
        refused("twice", lambda: cached.forward([row_tokens(row, [1]), row_tokens(row, [1])]))
        refused("parent", lambda: cached.forward([row_tokens(row, [1, 2], [-1, 1])]))
        refused("parent", lambda: cached.forward([row_tokens(row, [1, 2], [-2, 0])]))
        refused("parents", lambda: cached.forward([row_tokens(row, [1, 2], [-1])]))
        refused("slot 4", lambda: cached.forward([row_tokens(row, [1], start=4)]))
        refused("slot -1", lambda: cached.forward([row_tokens(row, [1], start=-1)]))
        refused("'some'", lambda: cached.forward([row_tokens(row, [1])], Wanted(logits="some")))
        refused("layer 99", lambda: cached.forward([row_tokens(row, [1])], Wanted(taps=(99,))))
        refused("in use", lambda: cached.add_row(row), ValueError)
        refused("no row 99", lambda: cached.drop_row(99))
        refused("no row 99", lambda: cached.length(99))
        refused("Slot 7", lambda: cached.commit(row, [7]))
        refused("hangs under", lambda: cached.commit(row, [0, 1, 2]))
        refused("hangs under", lambda: cached.commit(row, [1]))
        refused("4 tokens", lambda: cached.truncate(row, 4))
        refused("-1 tokens", lambda: cached.truncate(row, -1))
        refused("out of range", lambda: cached.embed(torch.tensor([vocab])))
        long = some_text(0, context - 2, vocab)
        refused(f"{context + 1} tokens.*{context}", lambda: cached.forward([row_tokens(row, long)]), ContextLengthError)
        both = [row_tokens(other, [1]), row_tokens(row, [vocab])]
        refused("out of range", lambda: cached.forward(both))
        assert cached.length(row) == 3
        assert before is not None
        again = cached.forward([row_tokens(row, [6, 7], [0, 0], start=1)])
        assert_close(again.logits, before[1:], "slots after refusals")
        cached.commit(row, [0, 2])
        assert cached.length(row) == 5


def check_whole_context(cached: CachedModel, model: PreTrainedModel) -> None:
    """The last position of the context is usable."""
    context, vocab = cached.info.context_length, cached.info.vocab_size
    text = some_text(24, context, vocab)
    with rows(cached, text[:-3]) as (row,):
        got = cached.forward([row_tokens(row, text[-3:], [-1, 0, 1])]).logits
        assert_close(got, plain_logits(model, text)[-3:], "end of the context")


@dataclass
class _Row:
    text: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)


def check_random_life(cached: CachedModel, model: PreTrainedModel, *, seed: int = 0, steps: int = 60) -> None:
    """Rows that come and go, grow by trees, commit paths and are cut back, at random: all logits of every pass."""
    chance = random.Random(seed)
    vocab = cached.info.vocab_size
    living: dict[int, _Row] = {}
    for step in range(steps):
        if not living or (len(living) < 4 and chance.random() < 0.25):
            row = chance.choice([free for free in range(9) if free not in living])
            cached.add_row(row)
            living[row] = _Row()
        chosen = chance.sample(sorted(living), chance.randint(1, len(living)))
        batch = [_random_tokens(chance, row, living[row], vocab) for row in chosen]
        result = cached.forward(batch)
        for place, part in enumerate(batch):
            state, low = living[part.row], result.logit_bounds[place]
            assert result.logits is not None
            got = result.logits[low : result.logit_bounds[place + 1]]
            only = list(range(part.start, len(state.tokens)))
            assert_paths(model, state.text, state.tokens, state.parents, got, only=only, what=f"step {step}")
        for row in chosen:
            _random_end(chance, cached, row, living)
    for row in living:
        cached.drop_row(row)


def _random_tokens(chance: random.Random, row: int, state: _Row, vocab: int) -> RowTokens:
    start = chance.randint(0, len(state.tokens)) if state.tokens else 0
    count = chance.randint(1, 6)
    parents = [chance.randint(-1, slot - 1) for slot in range(start, start + count)]
    if chance.random() < 0.4:
        parents = list(range(start - 1, start + count - 1))
    tokens = [chance.randrange(vocab) for _ in range(count)]
    state.tokens[start:], state.parents[start:] = tokens, parents
    return row_tokens(row, tokens, parents, start)


def _random_end(chance: random.Random, cached: CachedModel, row: int, living: dict[int, _Row]) -> None:
    state, fate = living[row], chance.random()
    if fate < 0.2:
        return  # its slots stay for another pass
    if fate < 0.75:
        path = chance.choice([[], *paths(state.parents), *paths(state.parents)])
        cached.commit(row, path)
        state.text += [state.tokens[slot] for slot in path]
    elif fate < 0.9:
        length = chance.randint(0, len(state.text))
        cached.truncate(row, length)
        del state.text[length:]
    else:
        cached.drop_row(row)
        del living[row]
        return
    state.tokens, state.parents = [], []
    assert cached.length(row) == len(state.text)
