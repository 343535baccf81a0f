"""Drafts of several drafters as one tree."""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafters.token_tree import TokenTree, pack_trees
from draftproof.errors import ContractError

UNSCORED = 0.5
"""Chance of each further token where a drafter reports no scores."""


def merge_trees(drafts: Sequence[Draft], budgets: Sequence[int]) -> Draft:
    """Fuse the drafts row by row and keep the likeliest `budgets[b]` nodes of row b.

    Paths that drafts share become one; a node keeps its best score, within what its parent has to share. The law
    becomes `match`: siblings of mixed origin were drawn from no one distribution. States to resume from are dropped,
    as they belong to the nodes of one draft.
    """
    if any(draft.rows != len(budgets) for draft in drafts):
        raise ContractError(f"Drafts of {[draft.rows for draft in drafts]} rows and {len(budgets)} budgets were given.")
    trees = []
    for row, budget in enumerate(budgets):
        union = TokenTree()
        for draft in drafts:
            union.graft(*draft.tree(row), scores_of(draft, row))
        trees.append(union.normalised().pruned(budget))
    return pack_trees(trees)


def scores_of(draft: Draft, row: int) -> list[float]:
    """Scores of a row's nodes; where the drafter has none, a chance of UNSCORED for each token of the path."""
    count = int(draft.n_nodes[row])
    if draft.score is not None:
        reported: list[float] = draft.score[row, :count].tolist()
        return reported
    scores: list[float] = []
    for parent in draft.tree(row)[1]:
        scores.append(UNSCORED * (1.0 if parent < 0 else scores[parent]))
    return scores
