"""Trees while they are built, and drafts fused into one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.drafting.draft import chain, pack
from draftproof.drafting.drafters.merge import UNSCORED, merge_trees
from draftproof.drafting.drafters.one_law import likeliest_chain
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.errors import ContractError
from tests.drafting.drafters.asking import paths


@st.composite
def trees(draw: st.DrawFn) -> TokenTree:
    tree = TokenTree()
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.integers(-1, len(tree) - 1))
        above = 1.0 if parent < 0 else tree.scores[parent]
        tree.add(parent, draw(st.integers(0, 5)), above * draw(st.floats(0.1, 1.0)))
    return tree


def all_paths(tree: TokenTree) -> dict[tuple[int, ...], float]:
    return paths(pack([(tree.tokens, tree.parents)], [tree.scores]))


@settings(max_examples=80, deadline=None)
@given(trees(), st.integers(0, 14))
def test_a_pruned_tree_has_the_likeliest_paths_each_with_its_beginning(tree: TokenTree, budget: int) -> None:
    whole, kept = all_paths(tree), all_paths(tree.pruned(budget))
    assert len(kept) == min(budget, len(whole))
    assert all(path[:-1] in kept for path in kept if len(path) > 1)
    if kept and len(kept) < len(whole):
        assert min(kept.values()) >= max(score for path, score in whole.items() if path not in kept) - 1e-6


@settings(max_examples=80, deadline=None)
@given(trees(), trees())
def test_merging_keeps_every_path_once_and_its_best_score(left: TokenTree, right: TokenTree) -> None:
    drafts = [pack([(tree.tokens, tree.parents)], [tree.scores]) for tree in (left, right)]
    merged = merge_trees(drafts, [50])
    found = paths(merged)
    assert set(found) == set(all_paths(left)) | set(all_paths(right))
    assert merged.law == "match"
    for parent in {path[:-1] for path in found}:
        below = sum(score for path, score in found.items() if path[:-1] == parent)
        assert below <= (found[parent] if parent else 1.0) + 1e-5


def test_scores_that_fit_beside_each_other_are_left_as_they_are() -> None:
    left, right = pack([chain([5, 6])], [[0.5, 0.4]]), pack([chain([5, 7])], [[0.6, 0.1]])
    found = paths(merge_trees([left, right], [8]))
    assert found == pytest.approx({(5,): 0.6, (5, 6): 0.4, (5, 7): 0.1})


def test_budgets_hold_row_by_row_and_empty_drafts_add_nothing() -> None:
    one = pack([chain([5, 6, 7]), chain([8])])
    two = pack([([], []), chain([9])])
    merged = merge_trees([one, two], [2, 5])
    assert merged.n_nodes.tolist() == [2, 2]
    assert set(paths(merged, 1)) == {(8,), (9,)}
    assert int(merge_trees([one, two], [0, 0]).n_nodes.sum()) == 0


def test_a_draft_without_scores_is_given_the_usual_ones() -> None:
    merged = merge_trees([pack([chain([5, 6])])], [4])
    assert merged.score is not None
    torch.testing.assert_close(merged.score[0], torch.tensor([UNSCORED, UNSCORED**2]))


def test_drafts_of_different_batches_are_refused() -> None:
    with pytest.raises(ContractError, match=r"\[1, 1\] rows and 2 budgets"):
        merge_trees([pack([chain([5])]), pack([chain([5])])], [1, 1])


def test_the_likeliest_chain_takes_the_best_child_at_each_node() -> None:
    tokens, parents, scores = [1, 2, 3, 4], [-1, -1, 1, 1], [0.3, 0.6, 0.1, 0.4]
    assert likeliest_chain(tokens, parents, scores) == (([2, 4], [-1, 0]), [0.6, 0.4])
