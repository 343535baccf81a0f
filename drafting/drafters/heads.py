"""The drafter of Medusa and Hydra heads: trees from the target's last hidden state, without a pass of any model.

Costs a few matrix products a round. State h predicted the pending token, so that head 1 proposes what follows it.
Medusa heads are asked once for the state; Hydra heads level by level, for the nodes that are worth it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.head_models import DraftHeads, HeadsRecord
from draftproof.drafting.drafters.head_products import HeadProducts
from draftproof.drafting.drafters.head_tree import TreeShape, best_shape, worth_expanding
from draftproof.drafting.drafters.token_tree import TokenTree, pack_trees
from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.drafters.weights_digest import weights_digest
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import Sampling
from draftproof.errors import UsageError

MOST_CANDIDATES = 10
"""Of one node: the eleventh best of a head is almost never right, nor measured."""


@dataclass(frozen=True)
class _Known:
    """What a row's next draft starts from."""

    state: Tensor
    """[H] normalised: predicted the pending token."""
    pending: int
    length: int


@dataclass(frozen=True)
class _Open:
    """A node whose children are asked for."""

    tree: int
    """Which of the round's rows it belongs to."""
    node: int
    """Index in that row's tree; -1 is the pending token."""
    place: int = -1
    """Index in the static shape, where there is one."""


class HeadsDrafter:
    """Drafts with trained heads; law `match`, also where the target samples."""

    def __init__(
        self,
        heads: DraftHeads,
        record: HeadsRecord,
        *,
        max_nodes: int = 16,
        tree: Literal["dynamic", "static"] = "dynamic",
        width: int = 4,
        floor: float = 0.02,
    ) -> None:
        """
        Args:
            tree: `dynamic` keeps the paths that are most probable now; `static` the shape that was best on held-out
                text, whatever the state.
            width: most nodes of a level that are expanded; each costs a row of the output matrix.
            floor: paths less probable than this are not drafted: verifying one costs about 2 % of a pass on a CPU.
        """
        if max_nodes < 1 or width < 1 or not 0.0 <= floor < 1.0:
            raise UsageError(
                f"max_nodes and width must be at least 1 and floor in 0 … 1, got {max_nodes}, {width} and {floor}."
            )
        if tree == "static" and not record.accuracies:
            raise UsageError(
                "A static tree is chosen from measured accuracies, and these heads come without.",
                remedy="Use tree='dynamic'.",
            )
        self._heads = heads
        self._record = record
        self._shape: TreeShape | None = best_shape(record.accuracies, max_nodes) if tree == "static" else None
        most = max(self._shape.rank, default=0) + 1 if self._shape is not None else min(max_nodes, MOST_CANDIDATES)
        self._candidates_each = min(most, heads.trimmed.size)
        self._width = width
        self._floor = floor
        self._rows: dict[int, _Known] = {}
        self._model: CachedModel | None = None
        self._spec = DrafterSpec(
            name=heads.config.kind,
            needs=frozenset({"hidden"}),
            hidden_layers=(-1,),
            max_nodes=max_nodes,
            max_depth=heads.config.n_heads,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What drafted, for records."""
        return {"heads": weights_digest(self._heads, self._heads.trimmed)}

    def bind(self, binding: Binding) -> None:
        info, config, record = binding.model.info, self._heads.config, self._record
        if record.target_digest != info.digest:
            raise UsageError(
                f"These {config.kind} heads were trained for {record.target} ({record.target_digest[:19]}), not for "
                f"{info.name} ({info.digest[:19]}).",
                remedy="Train heads for this target with draftproof train heads.",
            )
        if (config.hidden_size, config.vocab_size) != (info.hidden_size, info.vocab_size):
            raise UsageError(
                f"These heads are for states of width {config.hidden_size} and {config.vocab_size} tokens; the target "
                f"has {info.hidden_size} and {info.vocab_size}."
            )
        self._model = binding.model
        self._products = HeadProducts(self._heads, info.device)
        self._ids = self._heads.trimmed.ids.tolist()

    def start(self, event: Commit) -> None:
        self._learn(event)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            self._learn(event)

    def _learn(self, event: Commit) -> None:
        assert self._model is not None
        states = event.hidden.get(-1)
        if states is None or not len(states):
            self._rows.pop(event.row, None)  # tokens that somebody put there: nothing is known of what follows
            return
        self._rows[event.row] = _Known(
            normalised(states[-1].to(self._model.info.device)), event.tokens[-1], event.length
        )

    def rewind(self, row: int, length: int) -> None:
        known = self._rows.get(row)
        if known is not None and known.length != length:
            del self._rows[row]

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._rows.pop(row, None)

    def propose(self, request: DraftRequest) -> Draft:
        trees = [TokenTree() for _ in request.rows]
        budgets = [min(budget, self._spec.max_nodes) for budget in request.budget]
        rows = {i: self._rows[row] for i, row in enumerate(request.rows) if budgets[i] > 0 and row in self._rows}
        if rows:
            with torch.inference_mode():
                self._grow(trees, budgets, rows, request.sampling)
        return pack_trees([tree.pruned(budget) for tree, budget in zip(trees, budgets, strict=True)])

    def _grow(
        self, trees: list[TokenTree], budgets: list[int], rows: dict[int, _Known], sampling: Sequence[Sampling]
    ) -> None:
        """Level by level, for all rows at once; `trees` receive candidates, more than will be kept."""
        level = [_Open(i, -1) for i in rows]
        embedded = self._embed([known.pending for known in rows.values()]).unsqueeze(1)  # [n, depth, H]
        for head in range(self._spec.max_depth):
            asked, answers = self._questions(level)
            hidden = torch.stack([rows[level[index].tree].state for index in asked])
            sharp = [self._sharpness(head, sampling[level[index].tree]) for index in asked]
            tokens, probabilities = self._candidates(head, hidden, embedded[asked], sharp)
            grown: dict[int, dict[int, tuple[int, int]]] = {}
            """Of each tree: new node -> the index in `level` that it hangs under, and its place in the shape."""
            for index, (each, answer) in enumerate(zip(level, answers, strict=True)):
                tree = trees[each.tree]
                reach = 1.0 if each.node < 0 else tree.scores[each.node]
                for rank, place in self._wanted(each, budgets[each.tree]):
                    score = reach * probabilities[answer][rank]
                    if self._shape is None and score < self._floor:
                        break
                    node = tree.add(each.node, tokens[answer][rank], score)
                    grown.setdefault(each.tree, {})[node] = (index, place)
            if head + 1 == self._spec.max_depth:
                return
            width = self._width if self._shape is None else self._shape.size
            chosen = [
                (each, node)
                for each in grown
                for node in worth_expanding(trees[each], [*grown[each]], budgets[each], width)
            ]
            if not chosen:
                return
            newest = self._embed([trees[each].tokens[node] for each, node in chosen]).unsqueeze(1)
            embedded = torch.cat([embedded[[grown[each][node][0] for each, node in chosen]], newest], dim=1)
            level = [_Open(each, node, grown[each][node][1]) for each, node in chosen]

    def _questions(self, level: list[_Open]) -> tuple[list[int], list[int]]:
        """Nodes of a level that a head is asked for, and for each node which of the answers is its own.

        Medusa heads do not look at drafted tokens: one question serves all nodes of a row.
        """
        if self._heads.config.kind == "hydra":
            return [*range(len(level))], [*range(len(level))]
        first: dict[int, int] = {}
        for index, each in enumerate(level):
            first.setdefault(each.tree, index)
        order = {tree: answer for answer, tree in enumerate(first)}
        return [*first.values()], [order[each.tree] for each in level]

    def _wanted(self, each: _Open, budget: int) -> Iterator[tuple[int, int]]:
        """Ranks of the candidates that hang under a node, the best first, and their places in the static shape."""
        if self._shape is None:
            yield from ((rank, -1) for rank in range(min(budget, self._candidates_each)))
            return
        for place in range(min(budget, self._shape.size)):
            if self._shape.parent[place] == each.place and self._shape.rank[place] < self._candidates_each:
                yield self._shape.rank[place], place

    def _candidates(
        self, head: int, hidden: Tensor, embedded: Tensor, sharp: list[float]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Target ids and probabilities of the best candidates under each open node, the best first."""
        logits = self._products.logits(head, hidden, embedded)
        if any(factor != 1.0 for factor in sharp):
            logits *= torch.tensor(sharp, device=logits.device).unsqueeze(1)
        best = logits[:, :-1].topk(self._candidates_each, dim=1)
        mass = (best.values - logits.logsumexp(dim=1, keepdim=True)).exp_()
        return [[self._ids[column] for column in row] for row in best.indices.tolist()], mass.tolist()

    def _sharpness(self, head: int, sampling: Sampling) -> float:
        """The factor of a head's logits that makes its probabilities those of acceptance.

        A low temperature sharpens the target, but never beyond what was measured for greedy decoding: what the head
        does not know stays unknown.
        """
        if head >= len(self._record.sharpness):
            return 1.0
        greedy, sampled = self._record.sharpness[head]
        if sampling.greedy:
            return greedy
        return min(sampled / sampling.temperature, max(greedy, sampled))

    def _embed(self, ids: list[int]) -> Tensor:
        """Normalised input embeddings [n, H]; Medusa heads have no use for them."""
        assert self._model is not None
        if self._heads.config.kind == "medusa":
            return torch.zeros(len(ids), 0)
        return normalised(self._model.embed(torch.tensor(ids, device=self._model.info.device)))
