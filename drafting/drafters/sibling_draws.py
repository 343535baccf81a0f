"""Trees of drafted tokens while they are drawn, level by level, for a drafter that runs a model.

Each level expands the `beam` nodes with the most probable paths, each into `width` children. Under `reject_wor` the
children are drawn without replacement, the first arrivals of one exponential race, and stand in the order of drawing;
how many a node gets depends on tokens that are kept, never on the children themselves. Under `reject_greedy` they are
the most probable tokens and one that is drawn from the others. Under `match` all are the most probable. A greedy row
takes the most probable tokens under every law: the limit of drawing without replacement at temperature 0, and its `q`
is the limit of `q`, one-hot at the first sibling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from draftproof.drafting.distributions import draw_distinct, probabilities
from draftproof.drafting.draft import Draft, Law, QTable, pack
from draftproof.drafting.drafter import DraftRequest, StepSignal
from draftproof.drafting.drafters.chain_draws import imitated, penalised_row
from draftproof.drafting.keyed_rng import Purpose

_NODE_BITS = 20


@dataclass
class _Tree:
    sampled: bool
    limit: int
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: list[float] = field(default_factory=list)
    """Product of the probabilities along the path."""
    of: list[int] = field(default_factory=list)
    """Which of `laws` each node was drawn from."""
    laws: list[Tensor] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    """Nodes of the deepest level."""
    depth: int = 0
    stopped: bool = False

    def ancestors(self, node: int) -> list[int]:
        """Tokens of the path to `node`, from the root down."""
        path: list[int] = []
        while node >= 0:
            path.append(self.tokens[node])
            node = self.parents[node]
        return path[::-1]


class SiblingDraws:
    """The trees of one round, one for each row of a request; nodes are numbered in the order they are drawn."""

    def __init__(
        self,
        request: DraftRequest,
        texts: Sequence[Sequence[int]],
        law: Law,
        *,
        limits: Sequence[int],
        width: int,
        beam: int,
        depth: int,
        temperature: float | None = None,
    ) -> None:
        self._request = request
        self._texts = texts
        self._width, self._beam, self._depth = width, beam, depth
        self._sampling = [imitated(sampling, temperature) for sampling in request.sampling]
        self._law = law
        self._trees = [
            _Tree(law != "match" and not sampling.greedy, min(budget, limit))
            for sampling, budget, limit in zip(request.sampling, request.budget, limits, strict=True)
        ]

    def frontier(self) -> list[tuple[int, int]]:
        """(index, node) to expand next, -1 for the pending token; rows together, their most probable paths first."""
        chosen = []
        for index, tree in enumerate(self._trees):
            if tree.stopped or tree.depth >= self._depth or len(tree.tokens) >= tree.limit:
                continue
            level = sorted(tree.level, key=lambda node: -tree.paths[node])[: self._beam] if tree.depth else [-1]
            left = tree.limit - len(tree.tokens)
            chosen += [(index, node) for node in level[: -(-left // self._width)]]
        return chosen

    def token(self, index: int, node: int) -> int:
        return self._trees[index].tokens[node]

    def parent(self, index: int, node: int) -> int:
        return self._trees[index].parents[node]

    def expand(self, nodes: Sequence[tuple[int, int]], logits: Tensor) -> None:
        """Draw the children of `nodes`, which is all of `frontier()`, from their rows of `logits` [A, V]."""
        deeper: dict[int, list[int]] = {}
        confidence: dict[int, float] = {}
        for (index, node), row in zip(nodes, logits, strict=True):
            tree = self._trees[index]
            children, top = self._children(tree, index, node, row)
            deeper.setdefault(index, []).extend(children)
            confidence.setdefault(index, top)  # the first of a row's nodes is its most probable path
        for index, children in deeper.items():
            tree = self._trees[index]
            tree.level = children
            tree.depth += 1
            if children and self._request.go_on is not None:
                newest = children[0]
                above = tree.parents[newest]
                share = tree.paths[newest] / (tree.paths[above] if above >= 0 else 1.0)
                signal = StepSignal(self._request.rows[index], tree.depth, confidence[index], share)
                tree.stopped = not self._request.go_on(signal)

    def _children(self, tree: _Tree, index: int, node: int, logits: Tensor) -> tuple[list[int], float]:
        """Numbers of the new nodes under `node`, and the largest probability of their law."""
        count = min(self._width, tree.limit - len(tree.tokens))
        sampling = self._sampling[index]
        text = [*self._texts[index], *tree.ancestors(node)]
        logits = penalised_row(logits, sampling.repetition_penalty, text)
        if tree.sampled:
            law = probabilities(logits, sampling)
            rng = self._request.rng[index]
            lane = tree.depth << _NODE_BITS | (node + 1)  # of this round only, as in `ChainDraws`
            best: list[int] = []
            others = law
            if self._law == "reject_greedy" and count > 1:
                best = law.topk(min(count - 1, int((law > 0).sum()) - 1)).indices.tolist()
                others = law.index_fill(0, torch.tensor(best, dtype=torch.int64, device=law.device), 0.0)
            drawn = draw_distinct(others, count - len(best), rng, Purpose.DRAFT, position=len(text), lane=lane)
            tokens = [*best, *drawn]
        else:
            law = torch.softmax(logits.to(torch.float32), dim=-1)
            tokens = law.topk(min(count, len(law))).indices.tolist()
        above = tree.paths[node] if node >= 0 else 1.0
        begin = len(tree.tokens)
        tree.tokens += tokens
        tree.parents += [node] * len(tokens)
        tree.paths += [above * share for share in law[tokens].tolist()]
        tree.of += [len(tree.laws)] * len(tokens)
        top = float(law.max())
        tree.laws.append(law if tree.sampled else _one_hot(law, tokens[0]))
        return list(range(begin, len(tree.tokens))), top

    def draft(self) -> Draft:
        """All that was drawn."""
        trees = [(tree.tokens, tree.parents) for tree in self._trees]
        if not any(tree.sampled for tree in self._trees):
            return pack(trees, [tree.paths for tree in self._trees])
        draft = pack(trees)
        return replace(draft, law=self._law, q=self._table(draft))

    def _table(self, draft: Draft) -> QTable:
        count = max(len(tree.laws) for tree in self._trees)
        some = next(law for tree in self._trees for law in tree.laws)
        probs = some.new_zeros((draft.rows, count, len(some)))
        probs[:, :, 0] = 1.0  # rows of no node are distributions too
        of = torch.zeros_like(draft.parent)
        for row, tree in enumerate(self._trees):
            for number, law in enumerate(tree.laws):
                probs[row, number] = law
            of[row, : len(tree.of)] = torch.tensor(tree.of, dtype=torch.int64)
        return QTable(probs, of)


def _one_hot(law: Tensor, column: int) -> Tensor:
    hot = torch.zeros_like(law)
    hot[column] = 1.0
    return hot
