"""Draft the same number of tokens every round."""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.rounds import RowRound
from draftproof.errors import UsageError


class Fixed:
    """Up to `draft_length` nodes a round, 0 included. Other policies that only stop drafting early build on it."""

    name = "fixed"
    needs_costs = False

    def __init__(self, draft_length: int = 5) -> None:
        if draft_length < 0:
            raise UsageError(f"draft_length is {draft_length}, it must be 0 (plain decoding) or more.")
        self.draft_length = draft_length

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        self._budget = min(self.draft_length, drafter.max_nodes)

    def budgets(self, rows: Sequence[int]) -> tuple[int, ...]:
        return (self._budget,) * len(rows)

    def go_on(self, signal: StepSignal) -> bool:
        return True

    def cut(self, rows: Sequence[int], draft: Draft) -> Draft:
        return draft

    def observe(self, rounds: Sequence[RowRound]) -> None:
        pass

    def forget(self, rows: Sequence[int]) -> None:
        pass
