"""One row of a verification: its draft, checked, and its distributions, computed where a rule looks and not before.

Nodes are numbered as in the draft; -1 is the pending token. `p(node)` is the target's law of the node's children,
`q(node)` the law that the node itself was drawn from, so that the rows to compare for node n are `p(parent[n])` and
`q(n)`. What a drafter says is checked here before anything is indexed with it: a broken draft is an error that names
the draft, never a wrong token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.drafting.checks import tree_fault
from draftproof.drafting.distributions import RowLaw, arg_max, distribution, draw, draw_from_probs, probability, row_law
from draftproof.drafting.draft import Draft
from draftproof.drafting.keyed_rng import Purpose
from draftproof.drafting.rule import Verification
from draftproof.errors import ContractError

_SUM_TOLERANCE = 1e-3
"""What a row of q may miss 1 by, rounding of half precision included; it is renormalised."""


class DraftedRow:
    """Row `index` of a verification."""

    def __init__(self, verification: Verification, index: int, q_table: QReader | None) -> None:
        self.index = index
        self.sampling = verification.sampling[index]
        self.rng = verification.rng[index]
        self._verification = verification
        self._q_table = q_table
        self._first = verification.bounds[index]
        self._laws: dict[int, RowLaw] = {}
        vocab_size = verification.logits.shape[-1]
        self.tokens, self.parents = _checked_tree(verification, index, vocab_size)
        self.depths: list[int] = []
        self._children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
            self._children.setdefault(parent, []).append(node)

    def children(self, node: int) -> list[int]:
        """In the order they stand in."""
        return self._children.get(node, [])

    def child(self, node: int, token: int) -> int | None:
        """The child of `node` that is `token`."""
        return next((child for child in self.children(node) if self.tokens[child] == token), None)

    def position_below(self, node: int) -> int:
        """Absolute position of the children of `node`: what draws that decide it are keyed by."""
        return self._verification.positions[self.index] + (0 if node < 0 else self.depths[node] + 1)

    def logits(self, node: int) -> Tensor:
        """[V], raw: the row that decides the children of `node`."""
        return self._verification.logits[self._first + 1 + node]

    def law(self, node: int) -> RowLaw:
        if node not in self._laws:
            self._laws[node] = row_law(self.logits(node), self.sampling, self.where(node))
        return self._laws[node]

    def p(self, node: int) -> Tensor:
        """[V] float32: the target's law of the children of `node`."""
        return distribution(self.logits(node), self.law(node))

    def p_of(self, node: int) -> float:
        """The target's probability of the node's token."""
        above = self.parents[node]
        return probability(self.logits(above), self.law(above), self.tokens[node])

    def q(self, node: int) -> Tensor:
        """[V] float32: what the node was drawn from."""
        if self._q_table is None:
            raise ContractError(f"The draft of row {self.index} declares a law with q and reports none.")
        return self._q_table.row(self.index, node)

    def q_of_children(self, node: int) -> Tensor:
        """[V] float32: what the children of `node` were drawn from, one after the other."""
        children = self.children(node)
        if self._q_table is not None and not self._q_table.same_row(self.index, children):
            raise ContractError(f"The siblings {children} of row {self.index} were drawn from different rows of q.")
        return self.q(children[0])

    def q_of(self, node: int) -> float:
        """The drafter's probability of the node's token."""
        return float(self.q(node)[self.tokens[node]])

    def arg_max_below(self, node: int) -> int:
        return arg_max(self.logits(node), self.where(node))

    def draw_below(self, node: int) -> int:
        """The target's own token after `node`: plain sampling's draw at that position."""
        return draw(self.logits(node), self.law(node), self.rng, Purpose.TARGET, self.position_below(node))

    def draw_left(self, left: Tensor, node: int) -> int:
        """A token after `node` from what rejections left of the target's law, [V]."""
        return draw_from_probs(left, self.rng, Purpose.RESIDUAL, self.position_below(node))

    def chance(self, node: int, lane: int) -> float:
        """The number in (0, 1) that decides on the node; its lane is the step of a chain, the sibling's in a tree.

        A chain that is drafted again from a later position so meets new numbers. Block verification looks at numbers
        beyond the tokens it emits: meeting them again would bias the text.
        """
        return self.rng.uniform(Purpose.ACCEPT, self.position_below(self.parents[node]), lane)

    def where(self, node: int) -> str:
        """How errors name the row of logits."""
        of = "its pending token" if node < 0 else f"node {node} of its draft"
        return f"Row {self.index} of the batch, logits after {of} (position {self.position_below(node)}):"


class QReader:
    """The drafter's distributions in target ids, checked when first looked at."""

    def __init__(self, draft: Draft, vocab_size: int, device: torch.device) -> None:
        if draft.q is None:
            raise ContractError(f"The draft declares the law {draft.law!r} and reports no q.")
        self._table, self._vocab_size, self._device = draft.q, vocab_size, device
        self._rows: dict[tuple[int, int], Tensor] = {}
        probs, of, ids = draft.q.probs, draft.q.of, draft.q.ids
        if probs.dim() != 3 or probs.shape[0] != draft.rows or of.shape != draft.tokens.shape:
            raise ContractError(
                f"The draft's q has probs {tuple(probs.shape)} and of {tuple(of.shape)}; expected "
                f"[{draft.rows}, M, W] and {tuple(draft.tokens.shape)}."
            )
        width = probs.shape[-1]
        if ids is None:
            if width != vocab_size:
                raise ContractError(
                    f"The draft's q has {width} columns without ids, and the target's vocabulary {vocab_size} tokens.",
                    remedy="Report the target id of each column in `QTable.ids`.",
                )
        elif ids.shape != (width,) or bool((ids < 0).any()) or bool((ids >= vocab_size).any()):
            raise ContractError(
                f"The draft's q has ids {tuple(ids.shape)} for {width} columns, which must lie in 0 … {vocab_size - 1}."
            )
        elif bool((ids[1:] <= ids[:-1]).any()):
            raise ContractError("The ids of the draft's q are not ascending: columns would take each other's tokens.")

    def row(self, index: int, node: int) -> Tensor:
        """[V] float32, sums to 1: what node `node` of row `index` was drawn from."""
        which = int(self._table.of[index, node])
        if (index, which) not in self._rows:
            self._rows[index, which] = self._read(index, node, which)
        return self._rows[index, which]

    def same_row(self, index: int, nodes: list[int]) -> bool:
        return len({int(self._table.of[index, node]) for node in nodes}) == 1

    def checked(self, lengths: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor | None]:
        """All of it at once on the logits' device: probs [B, M, W] renormalised, of [B, N] and ids.

        `lengths` are rows with the number of their nodes. Raises ContractError for what `row` would raise for.
        """
        probs = self._table.probs.to(device=self._device, dtype=torch.float32)
        of = self._table.of.to(self._device)
        total = probs.sum(dim=-1)
        fine = ((total - 1.0).abs() <= _SUM_TOLERANCE) & (probs.amin(dim=-1) >= 0.0)
        inside = (of >= 0) & (of < probs.shape[1])
        good = (inside & fine.gather(1, torch.where(inside, of, 0))).tolist()
        for index, count in lengths:
            for node in range(count):
                if not good[index][node]:
                    self.row(index, node)  # says what is wrong
        ids = None if self._table.ids is None else self._table.ids.to(self._device)
        return probs / total.unsqueeze(-1), of, ids

    def _read(self, index: int, node: int, which: int) -> Tensor:
        if not 0 <= which < self._table.probs.shape[1]:
            raise ContractError(
                f"Node {node} of row {index} says that it was drawn from row {which} of q, which has "
                f"{self._table.probs.shape[1]}."
            )
        given = self._table.probs[index, which].to(device=self._device, dtype=torch.float32)
        total = float(given.sum())
        if not abs(total - 1.0) <= _SUM_TOLERANCE or float(given.min()) < 0.0:
            raise ContractError(
                f"The q of node {node} in row {index} is no distribution: it sums to {total:.6g} and its smallest "
                f"value is {float(given.min()):.6g}.",
                remedy="Report what the token was drawn from, after every processor.",
            )
        if self._table.ids is None:
            return given / total
        full = torch.zeros(self._vocab_size, dtype=torch.float32, device=self._device)
        return full.index_copy_(0, self._table.ids.to(self._device), given / total)


def drafted_rows(verification: Verification) -> tuple[list[DraftedRow], QReader | None]:
    """All rows, and their drafter's laws where there are any.

    Raises ContractError for a draft that does not fit its logits, or is broken.
    """
    draft, logits = verification.draft, verification.logits
    rows = draft.rows
    if not (
        len(verification.bounds) == rows + 1
        and len(verification.sampling) == len(verification.rng) == len(verification.positions) == rows
        and verification.bounds[-1] == logits.shape[0]
    ):
        raise ContractError(
            f"{rows} rows are drafted, and the verification has bounds {verification.bounds} over {logits.shape[0]} "
            f"rows of logits, {len(verification.sampling)} samplings, {len(verification.rng)} streams and "
            f"{len(verification.positions)} positions."
        )
    has_q = draft.law != "match" and draft.tokens.shape[1] > 0 and bool((draft.n_nodes > 0).any())
    q_table = QReader(draft, logits.shape[-1], logits.device) if has_q else None
    return [DraftedRow(verification, index, q_table) for index in range(rows)], q_table


def _checked_tree(verification: Verification, index: int, vocab_size: int) -> tuple[list[int], list[int]]:
    draft = verification.draft
    count, width = int(draft.n_nodes[index]), draft.tokens.shape[1]
    rows = verification.bounds[index + 1] - verification.bounds[index]
    if not 0 <= count <= width or draft.parent.shape != draft.tokens.shape or rows != count + 1:
        raise ContractError(
            f"Row {index} has {count} drafted nodes in a draft of {width}, parents {tuple(draft.parent.shape)}, and "
            f"{rows} rows of logits; expected one for the pending token and one for each node."
        )
    tokens, parents = draft.tree(index)
    fault = tree_fault(tokens, parents, vocab_size)
    if fault:
        raise ContractError(f"The draft of row {index} is a broken tree: {fault}.")
    branch = next((node for node, parent in enumerate(parents) if parent != node - 1), None)
    if draft.law == "reject" and branch is not None and not verification.sampling[index].greedy:
        raise ContractError(
            f"Node {branch} of row {index} hangs under {parents[branch]}; drafts of law 'reject' are chains."
        )
    return tokens, parents
