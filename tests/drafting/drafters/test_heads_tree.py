"""The tree that is chosen is the best there is: compared with every tree of its size."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from draftproof.drafting.drafters.head_tree import best_shape, worth_expanding
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.errors import UsageError

ACCURACIES = ((0.5, 0.25, 0.05), (0.6, 0.1), (0.55, 0.2))


def every_path(accuracies: tuple[tuple[float, ...], ...]) -> dict[tuple[int, ...], float]:
    """Paths of ranks with the product of their accuracies."""
    paths: dict[tuple[int, ...], float] = {(): 1.0}
    level = [()]
    for values in accuracies:
        level = [(*path, rank) for path in level for rank in range(len(values))]  # type: ignore[misc]
        for path in level:
            paths[path] = paths[path[:-1]] * values[path[-1]]
    del paths[()]
    return paths


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_no_tree_of_that_size_gains_more(size: int) -> None:
    paths = every_path(ACCURACIES)
    best = 0.0
    for chosen in combinations(paths, size):
        if all(path[:-1] in chosen or len(path) == 1 for path in chosen):
            best = max(best, sum(paths[path] for path in chosen))
    shape = best_shape(ACCURACIES, size)
    assert shape.size == size
    assert shape.acceptance_length == pytest.approx(1.0 + best)


def test_the_beginning_of_a_shape_is_the_best_smaller_tree() -> None:
    large = best_shape(ACCURACIES, 12)
    for size in range(1, 12):
        small = best_shape(ACCURACIES, size)
        assert (small.parent, small.rank) == (large.parent[:size], large.rank[:size])


def test_nodes_come_after_their_parents_and_no_deeper_than_there_are_heads() -> None:
    shape = best_shape(ACCURACIES, 50)
    assert shape.size == len(every_path(ACCURACIES))
    assert all(above < node for node, above in enumerate(shape.parent))
    assert max(shape.depths()) == 3
    assert len(set(zip(shape.parent, shape.rank, strict=True))) == shape.size


def test_candidates_that_are_never_right_are_left_out() -> None:
    assert best_shape(((0.5, 0.0), (0.0,)), 9).size == 1


def test_figures_that_are_no_rates_are_refused() -> None:
    with pytest.raises(UsageError, match="head 1"):
        best_shape(((0.5,), (1.5,)), 4)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_worth_expanding_has_no_child_among_the_best(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    budget = 4
    tree = TokenTree()
    first = torch.rand(4, generator=random).tolist()
    level = [tree.add(-1, token, score) for token, score in enumerate(first)]
    whole = TokenTree()
    whole.graft(tree.tokens, tree.parents, tree.scores)
    open_nodes = worth_expanding(tree, level, budget, width=len(level))
    for node in level:
        for token, share in enumerate(torch.rand(3, generator=random).tolist()):
            whole.add(node, token, tree.scores[node] * share)
            if node in open_nodes:
                tree.add(node, token, tree.scores[node] * share)
    assert tree.pruned(budget).scores == whole.pruned(budget).scores


def test_a_node_below_the_best_is_not_expanded() -> None:
    tree = TokenTree()
    level = [tree.add(-1, token, score) for token, score in enumerate((0.5, 0.3, 0.01))]
    assert worth_expanding(tree, level, budget=2, width=4) == [0]
    assert worth_expanding(tree, level, budget=3, width=2) == [0, 1]
