"""Verifications as the engine builds them, from toy laws, and rounds played with the real random streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from draftproof.drafting.distributions import draw_from_probs
from draftproof.drafting.draft import Draft, Law, QTable
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.rule import Decision, Rule, Verification
from draftproof.drafting.sampling import Sampling
from tests.drafting.rules.enumeration import Drafting, Laws, Tokens, Tree

SAMPLED = Sampling(temperature=1.0)


def staged(
    trees: Sequence[Tree],
    logits: Callable[[Tokens], Tensor],
    law: Law,
    rngs: Sequence[KeyedRng] | None = None,
    sampling: Sampling = SAMPLED,
    position: int = 10,
) -> Verification:
    """One row for each tree; `logits` gives the target's row [V] for each text after the pending token."""
    width = max(len(tree.tokens) for tree in trees)
    rows = len(trees)
    tokens, parents = (torch.full((rows, width), -1, dtype=torch.int64) for _ in range(2))
    of = torch.zeros((rows, width), dtype=torch.int64)
    vocab = logits(()).shape[-1]
    probs = torch.full((rows, max(width, 1), vocab), 1.0 / vocab)
    packed, bounds = [], [0]
    for index, tree in enumerate(trees):
        count = len(tree.tokens)
        tokens[index, :count] = torch.tensor(tree.tokens, dtype=torch.int64)
        parents[index, :count] = torch.tensor(tree.parents, dtype=torch.int64)
        for node, q in enumerate(tree.reported if law != "match" else ()):
            elder = tree.parents.index(tree.parents[node])  # siblings share a row of q
            of[index, node] = elder
            probs[index, elder] = q.to(torch.float32)
        packed += [logits(tree.text(node)) for node in range(-1, count)]
        bounds.append(bounds[-1] + count + 1)
    return Verification(
        logits=torch.stack(packed).to(torch.float32),
        bounds=tuple(bounds),
        draft=Draft(
            tokens=tokens,
            parent=parents,
            n_nodes=torch.tensor([len(tree.tokens) for tree in trees]),
            law=law,
            q=None if law == "match" else QTable(probs, of),
        ),
        sampling=(sampling,) * rows,
        rng=tuple(rngs or [KeyedRng(seed) for seed in range(rows)]),
        positions=(position,) * rows,
    )


def log_of(laws: Laws) -> Callable[[Tokens], Tensor]:
    """Logits whose softmax is the law; -inf where it has no mass."""
    return lambda text: laws(text).log()


class KeyedChoices:
    """Draws for a `Drafting`, each from the numbers of the next position."""

    def __init__(self, rng: KeyedRng, position: int) -> None:
        self._rng, self._next = rng, position

    def choose(self, weights: Sequence[float]) -> int:
        drawn = draw_from_probs(torch.tensor(weights), self._rng, Purpose.DRAFT, self._next)
        self._next += 1
        return drawn


def play(
    rule: Rule,
    drafting: Drafting,
    law: Law,
    target: Laws,
    draft: Laws,
    rngs: Sequence[KeyedRng],
    position: int = 10,
) -> list[tuple[Decision, Tokens]]:
    """A round for each stream: what was decided and what was emitted."""
    trees = [drafting(draft, KeyedChoices(rng, position)) for rng in rngs]
    decisions = rule.decide(staged(trees, log_of(target), law, rngs, position=position))
    return [
        (decision, (*(tree.tokens[node] for node in decision.path), decision.token))
        for tree, decision in zip(trees, decisions, strict=True)
    ]


def at_least(target: Laws, text: Tokens, length: int, rng: KeyedRng, position: int = 10) -> Tokens:
    """`text` gone on with by plain sampling, and cut to `length`."""
    while len(text) < length:
        row = target(text).to(torch.float32)
        text = (*text, draw_from_probs(row, rng, Purpose.TARGET, position + len(text)))
    return text[:length]
