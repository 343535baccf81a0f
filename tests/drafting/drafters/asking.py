"""Drafters that need tokens only, asked about one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.sampling import Sampling
from tests.drafting.drafters.factories import Tiny

DrafterT = TypeVar("DrafterT", bound=Drafter)


def started(drafter: DrafterT, tiny: Tiny, text: Sequence[int], row: int = 0) -> DrafterT:
    """Bound, with one row whose prompt is all of `text` but its last token."""
    drafter.bind(Binding(tiny.target, None))
    drafter.start(Commit(row, tuple(text), (), len(text), reason="prefill"))
    return drafter


def asked(drafter: Drafter, budget: int = 8, row: int = 0, temperature: float = 0.0) -> Draft:
    sampling = Sampling(temperature=temperature)
    return drafter.propose(DraftRequest((row,), (budget,), (sampling,), (KeyedRng(0),)))


def paths(draft: Draft, row: int = 0) -> dict[tuple[int, ...], float]:
    """Every path of a draft and its score."""
    found: list[tuple[int, ...]] = []
    for token, parent in zip(*draft.tree(row), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    scores = [0.0] * len(found) if draft.score is None else draft.score[row, : len(found)].tolist()
    return dict(zip(found, scores, strict=True))
