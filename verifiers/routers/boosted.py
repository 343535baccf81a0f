"""Gradient-boosted trees: a router that sees thresholds and what features say together.

Trees of depth three on binned features, each fitted to the second-order expansion of the logistic loss (Chen and
Guestrin, arXiv 1603.02754, sections 2 and 3): a leaf's value is `-G / (H + l2)` of the gradients and curvatures of its
rows, and a split is worth what it lowers that bound. How many trees there are is chosen on rows held out for it. A
stored model is JSON, read and evaluated without NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TREES = 2_000
MAX_NODES = 1_023


@dataclass(frozen=True)
class Node:
    """A question about one feature, or a leaf (`feature` is -1)."""

    feature: int
    threshold: float
    """At or below it the way goes left."""
    left: int
    """Numbers of the children among the tree's nodes, both above the node's own: every walk ends."""
    right: int
    value: float
    """Of a leaf, added to the logit."""


Tree = tuple[Node, ...]


@dataclass(frozen=True)
class BoostedModel:
    """`logit = base + Σ` of the leaves that the values fall into; the first node of a tree is its root."""

    base: float
    trees: tuple[Tree, ...]
    kind: Literal["boosted"] = "boosted"

    def logit(self, values: Sequence[float]) -> float:
        return self.base + math.fsum(_leaf(tree, values) for tree in self.trees)

    def shifted(self, by: float) -> BoostedModel:
        """The same with every logit moved."""
        return BoostedModel(self.base + by, self.trees)

    def stored(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def restored(cls, stored: Mapping[str, Any], features: int) -> BoostedModel:
        """Raises ValueError, KeyError or TypeError for what is no such model of so many features."""
        if len(stored["trees"]) > MAX_TREES:
            raise ValueError(f"more than {MAX_TREES} trees")
        return cls(_number(stored["base"]), tuple(_tree(tree, features) for tree in stored["trees"]))


@dataclass(frozen=True)
class Boosting:
    """How trees are grown. The defaults hold for hundreds to tens of thousands of rows."""

    rounds: int = 300
    """Most trees."""
    patience: int = 25
    """Trees without a better loss on the held-out rows, after which growing ends."""
    depth: int = 3
    rate: float = 0.1
    """Share of each leaf's value that is taken."""
    l2: float = 1.0
    bins: int = 32
    least: float = 5.0
    """Smallest sum of curvatures in a leaf: about four times as many rows at even odds."""


@dataclass(frozen=True)
class Rows:
    """What trees are grown from, or chosen by."""

    values: NDArray[np.float64]
    """[n, d] features."""
    labels: NDArray[np.float64]
    """[n] of 0 and 1."""
    weights: NDArray[np.float64]
    """[n], above 0."""


def fit_boosted(fitted: Rows, chosen: Rows, settings: Boosting = Boosting()) -> BoostedModel:
    """Trees grown on `fitted`, as many as have the least loss on `chosen`. The same rows give the same trees."""
    import numpy as np

    edges = [_edges(column, settings.bins) for column in fitted.values.T]
    binned = np.stack(
        [np.searchsorted(cuts, column, side="left") for cuts, column in zip(edges, fitted.values.T, strict=True)],
        axis=1,
    )  # [n, d]: bin b holds what lies above edge b-1 and at or below edge b
    share = float(np.clip(np.average(fitted.labels, weights=fitted.weights), 1e-6, 1.0 - 1e-6))
    base = math.log(share / (1.0 - share))
    logits, held = np.full(len(fitted.labels), base), np.full(len(chosen.labels), base)
    trees: list[Tree] = []
    best, keep = _loss(held, chosen), 0
    for _ in range(settings.rounds):
        chance = 1.0 / (1.0 + np.exp(-logits))
        gradients = fitted.weights * (chance - fitted.labels)
        curvatures = fitted.weights * chance * (1.0 - chance)
        tree = _grown(binned, edges, gradients, curvatures, settings)
        if len(tree) == 1:
            break
        trees.append(tree)
        logits += np.array([_leaf(tree, row) for row in fitted.values.tolist()])
        held += np.array([_leaf(tree, row) for row in chosen.values.tolist()])
        now = _loss(held, chosen)
        if now < best - 1e-9:
            best, keep = now, len(trees)
        elif len(trees) - keep >= settings.patience:
            break
    return BoostedModel(base, tuple(trees[:keep]))


def _edges(column: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Ascending thresholds between values that occur: all of them where there are few, else at quantiles."""
    import numpy as np

    values = np.unique(column)
    if len(values) > bins:
        values = np.unique(np.quantile(column, np.linspace(0.0, 1.0, bins + 1), method="lower"))
    return values[:-1] / 2.0 + values[1:] / 2.0


def _grown(
    binned: NDArray[np.int64],
    edges: Sequence[NDArray[np.float64]],
    gradients: NDArray[np.float64],
    curvatures: NDArray[np.float64],
    settings: Boosting,
) -> Tree:
    import numpy as np

    nodes: list[Node] = []

    def grow(rows: NDArray[np.int64], depth: int) -> int:
        number = len(nodes)
        total, curved = float(gradients[rows].sum()), float(curvatures[rows].sum())
        nodes.append(Node(-1, 0.0, -1, -1, -settings.rate * total / (curved + settings.l2)))
        found = _best_split(binned[rows], edges, gradients[rows], curvatures[rows], settings) if depth else None
        if found is not None:
            feature, at = found
            goes_left = binned[rows, feature] <= at
            left, right = grow(rows[goes_left], depth - 1), grow(rows[~goes_left], depth - 1)
            nodes[number] = Node(feature, float(edges[feature][at]), left, right, 0.0)
        return number

    grow(np.arange(len(binned)), settings.depth)
    return tuple(nodes)


def _best_split(
    binned: NDArray[np.int64],
    edges: Sequence[NDArray[np.float64]],
    gradients: NDArray[np.float64],
    curvatures: NDArray[np.float64],
    settings: Boosting,
) -> tuple[int, int] | None:
    """Feature and edge that lower the loss most, the first of equals; None where none lowers it."""
    import numpy as np

    best, where = 1e-9, None
    for feature, cuts in enumerate(edges):
        if not len(cuts):
            continue
        size = len(cuts) + 1
        left = np.bincount(binned[:, feature], gradients, size).cumsum()
        left_curved = np.bincount(binned[:, feature], curvatures, size).cumsum()
        total, curved = left[-1], left_curved[-1]
        left, left_curved = left[:-1], left_curved[:-1]
        gain = (
            left**2 / (left_curved + settings.l2)
            + (total - left) ** 2 / (curved - left_curved + settings.l2)
            - total**2 / (curved + settings.l2)
        )
        gain[(left_curved < settings.least) | (curved - left_curved < settings.least)] = -math.inf
        at = int(gain.argmax())
        if gain[at] > best:
            best, where = float(gain[at]), (feature, at)
    return where


def _loss(logits: NDArray[np.float64], rows: Rows) -> float:
    import numpy as np

    return float(np.average(np.logaddexp(0.0, logits) - rows.labels * logits, weights=rows.weights))


def _leaf(tree: Tree, values: Sequence[float]) -> float:
    node = tree[0]
    while node.feature >= 0:
        node = tree[node.left if values[node.feature] <= node.threshold else node.right]
    return node.value


def _tree(stored: Any, features: int) -> Tree:
    if not 1 <= len(stored) <= MAX_NODES:
        raise ValueError(f"a tree has 1 … {MAX_NODES} nodes")
    nodes = tuple(
        Node(
            _index(each["feature"]),
            _number(each["threshold"]),
            _index(each["left"]),
            _index(each["right"]),
            _number(each["value"]),
        )
        for each in stored
    )
    for number, node in enumerate(nodes):
        if not -1 <= node.feature < features:
            raise ValueError(f"a tree asks for feature {node.feature} of {features}")
        if node.feature >= 0 and not all(number < child < len(nodes) for child in (node.left, node.right)):
            raise ValueError("a tree's node has no such children")
    return nodes


def _index(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise ValueError("a whole number is expected")
    return given


def _number(given: Any) -> float:
    if not isinstance(given, (int, float)) or isinstance(given, bool) or not math.isfinite(given):
        raise ValueError("a finite number is expected")
    return float(given)
