"""Chains of drafted tokens while they are drawn, for drafters that run a model token by token.

Two laws. Under `match` a row takes the arg-max of its draft logits. Under `reject` it draws from the distribution
that the row's `Sampling` makes of them, with the row's keyed stream at the absolute position of the token, and reports
exactly that distribution. A greedy row takes the arg-max under either law, and its `q` is one-hot: that is the law of
an arg-max. A batch of greedy rows needs no `q` and becomes a `match` draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor

from draftproof.drafting.distributions import draw_from_probs, probabilities
from draftproof.drafting.draft import Draft, Law, QTable, Resume, chain, pack
from draftproof.drafting.drafter import DraftRequest, StepSignal
from draftproof.drafting.keyed_rng import Purpose
from draftproof.drafting.sampling import Sampling
from draftproof.errors import NumericalError


def imitated(sampling: Sampling, temperature: float | None) -> Sampling:
    """What a draft model samples with: the row's own processors, and its temperature unless another one is given."""
    return sampling if temperature is None or sampling.greedy else replace(sampling, temperature=temperature)


def penalised_row(logits: Tensor, penalty: float, seen: Sequence[int], ids: Tensor | None = None) -> Tensor:
    """A row of draft logits [W] under the target's repetition penalty, given the tokens `seen` in the text.

    `ids` [W], ascending, are the target ids of the columns; None when columns are ids.
    """
    if penalty == 1.0:
        return logits
    columns = torch.tensor(sorted(set(seen)), dtype=torch.int64, device=logits.device)
    if ids is not None:
        columns = torch.isin(ids.to(logits.device), columns).nonzero().squeeze(-1)
    values = logits[columns]
    return logits.index_put((columns,), torch.where(values > 0, values / penalty, values * penalty))


class ChainDraws:
    """The chains of one round, one for each row of a request."""

    def __init__(
        self,
        request: DraftRequest,
        texts: Sequence[Sequence[int]],
        law: Law,
        *,
        limits: Sequence[int],
        temperature: float | None = None,
        ids: Tensor | None = None,
    ) -> None:
        """
        Args:
            texts: [B] committed tokens of each row, target ids, the pending one included.
            limits: [B] most tokens that can be drafted, whatever the budget.
            temperature: of the draft; None: the row's own.
            ids: [W] int64, ascending: target id of each column of the logits; None when columns are ids.
        """
        self._request = request
        self._texts = texts
        self._ids = ids
        self._sampling = [imitated(sampling, temperature) for sampling in request.sampling]
        self._sampled = [law != "match" and not sampling.greedy for sampling in request.sampling]
        self._limits = [min(budget, limit) for budget, limit in zip(request.budget, limits, strict=True)]
        self.tokens: list[list[int]] = [[] for _ in request.rows]
        """[B] drafted tokens of each row, target ids."""
        self.columns: list[list[int]] = [[] for _ in request.rows]
        """[B] their columns in the logits."""
        self._laws: list[list[Tensor]] = [[] for _ in request.rows]
        self.scores: list[list[float]] = [[] for _ in request.rows]
        """[B] product of the probabilities up to each token."""

    def beginning(self) -> list[int]:
        """Indices of the rows that may draft at all."""
        return [index for index, limit in enumerate(self._limits) if limit > 0]

    def draw(
        self, indices: Sequence[int], logits: Tensor, hidden: Tensor | None = None, layer: int | None = None
    ) -> list[int]:
        """Draft one token more for each of `indices` from its row of `logits` [A, W]; returns the rows that go on.

        `hidden` [A, H_d] and `layer` are passed on to the length policy.
        """
        going = []
        for place, (index, (column, probability, top)) in enumerate(
            zip(indices, self._drawn(indices, self._penalised(indices, logits)), strict=True)
        ):
            drafted = self.tokens[index]
            drafted.append(column if self._ids is None else int(self._ids[column]))
            self.columns[index].append(column)
            scores = self.scores[index]
            scores.append(probability * (scores[-1] if scores else 1.0))
            signal = StepSignal(
                row=self._request.rows[index],
                step=len(drafted),
                top_probability=top,
                probability=probability,
                hidden=None if hidden is None else hidden[place],
                layer=layer,
            )
            stops = self._request.go_on is not None and not self._request.go_on(signal)
            if len(drafted) < self._limits[index] and not stops:
                going.append(index)
        return going

    def draft(self, resume: Resume | None = None) -> Draft:
        """All that was drawn."""
        trees = [chain(tokens) for tokens in self.tokens]
        if not any(self._laws):  # greedy rows only, or sampled ones that had no room to draft
            return replace(pack(trees, self.scores), resume=resume)
        draft = pack(trees)
        return replace(draft, law="reject", q=self._table(draft), resume=resume)

    def _penalised(self, indices: Sequence[int], logits: Tensor) -> Tensor:
        if all(self._sampling[index].repetition_penalty == 1.0 for index in indices):
            return logits
        rows = []
        for index, row in zip(indices, logits, strict=True):
            seen = [*self._texts[index], *self.tokens[index]]
            rows.append(penalised_row(row, self._sampling[index].repetition_penalty, seen, self._ids))
        return torch.stack(rows)

    def _drawn(self, indices: Sequence[int], logits: Tensor) -> list[tuple[int, float, float]]:
        """For each row of `logits` [A, W]: column of the drawn token, its probability, the largest probability."""
        # Of a greedy row's one-hot law the probability is always 1 and says nothing: temperature 1 is reported.
        tops = torch.softmax(logits.to(torch.float32), dim=-1).amax(dim=-1).tolist()
        drawn = [(column, top, top) for column, top in zip(logits.argmax(dim=-1).tolist(), tops, strict=True)]
        for place, index in enumerate(indices):
            if not isfinite(tops[place]):
                raise NumericalError(f"The draft logits of row {self._request.rows[index]} are not all numbers.")
            if self._sampled[index]:
                drawn[place] = self._sample(index, logits[place])
        return drawn

    def _sample(self, index: int, logits: Tensor) -> tuple[int, float, float]:
        law = probabilities(logits, self._sampling[index])
        node = len(self.tokens[index])
        position = len(self._texts[index]) + node
        # The lane makes the numbers those of this round: block verification also looks at tokens beyond those it
        # accepts, and a number that it has looked at must not draw the token for the same position again.
        token = draw_from_probs(law, self._request.rng[index], Purpose.DRAFT, position, lane=node, ids=self._ids)
        column = token if self._ids is None else int(torch.searchsorted(self._ids, token))
        self._laws[index].append(law)
        return column, float(law[column]), float(law.max())

    def _table(self, draft: Draft) -> QTable:
        """Node n of each row was drawn from its row n. Rows of no node are one-hot too, to be distributions."""
        rows, width = draft.tokens.shape
        some = next(law for laws in self._laws for law in laws)
        probs = some.new_zeros((rows, width, len(some)))
        for row, laws in enumerate(self._laws):
            columns = self.columns[row] + [0] * (width - len(self.columns[row]))
            probs[row, torch.arange(width), torch.tensor(columns)] = 1.0
            for node, law in enumerate(laws):
                probs[row, node] = law
        return QTable(probs, torch.arange(width).expand(rows, width), self._ids)
