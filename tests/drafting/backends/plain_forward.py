"""The plain forward of a transformers model, which every cached model is compared with, and how one is fed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from draftproof.drafting.model import CachedModel, RowTokens, Wanted

NOISE = 1e-4
"""Largest difference allowed, relative to the largest number compared: float32 summed in other orders, and no more."""


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def assert_close(got: Tensor | None, expected: Tensor, what: str) -> None:
    assert got is not None, what
    assert got.shape == expected.shape, f"{what}: {tuple(got.shape)} instead of {tuple(expected.shape)}"
    error = relative_error(got, expected)
    assert error <= NOISE, f"{what}: off by {error:.1e} of the largest"


@torch.no_grad()
def plain_logits(model: PreTrainedModel, text: Sequence[int]) -> Tensor:
    """[n, V] logits of a text, without any cache."""
    logits: Tensor = model(input_ids=torch.tensor([list(text)]), use_cache=False).logits[0]
    return logits


@torch.no_grad()
def plain_states(model: PreTrainedModel, text: Sequence[int]) -> tuple[Tensor, ...]:
    """Layer -> [n, H] by transformers' own count; the last is after the final norm."""
    output = model(input_ids=torch.tensor([list(text)]), use_cache=False, output_hidden_states=True)
    return tuple(states[0] for states in output.hidden_states)


def some_text(seed: int, length: int, vocab: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(vocab) for _ in range(length)]


def row_tokens(row: int, tokens: Sequence[int], parents: Sequence[int] | None = None, start: int = 0) -> RowTokens:
    return RowTokens(row, torch.tensor(tokens), None if parents is None else torch.tensor(parents), start)


@contextmanager
def rows(cached: CachedModel, *texts: Sequence[int]) -> Iterator[list[int]]:
    """Rows with these committed texts; ids neither ascending nor gapless."""
    ids = [(7 * i + 3) % 31 for i in range(len(texts))]
    for row, text in zip(ids, texts, strict=True):
        cached.add_row(row)
        if text:
            cached.forward([row_tokens(row, text)], Wanted(logits="none"))
            cached.commit(row, range(len(text)))
    try:
        yield ids
    finally:
        for row in ids:
            cached.drop_row(row)


def paths(parents: Sequence[int]) -> list[list[int]]:
    """Of each node of a tree, the nodes from the top down to it."""
    found: list[list[int]] = []
    for node, parent in enumerate(parents):
        found.append([*(found[parent] if parent >= 0 else []), node])
    return found


TREE = [-1, -1, 0, 2, 1, 1, -1, 3]
"""Three branches, the deepest of which comes in pieces, and a late sibling of the first."""


def assert_paths(
    model: PreTrainedModel,
    prompt: Sequence[int],
    nodes: Sequence[int],
    parents: Sequence[int],
    logits: Tensor | None,
    *,
    only: Sequence[int] | None = None,
    what: str = "tree",
) -> None:
    """`logits` [n, V] of the nodes `only` (None: all) are those of the plain text down to each."""
    assert logits is not None
    down = paths(parents)
    for place, node in enumerate(range(len(nodes)) if only is None else only):
        expected = plain_logits(model, [*prompt, *(nodes[step] for step in down[node])])[-1]
        assert_close(logits[place], expected, f"{what}: node {node} of {list(parents)}")
