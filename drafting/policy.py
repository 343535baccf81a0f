"""The length policy: how much to draft. Not drafting is always a legal answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.rounds import RowRound


@runtime_checkable
class Policy(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def needs_costs(self) -> bool:
        """Whether the target's passes are to be timed before `bind`."""
        ...

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        """Once per engine."""
        ...

    def budgets(self, rows: Sequence[int]) -> tuple[int, ...]:
        """Most nodes for each row this round; 0: decode one token plainly."""
        ...

    def go_on(self, signal: StepSignal) -> bool:
        """Whether to draft one more token after this one; asked by drafters that draft token by token."""
        ...

    def cut(self, rows: Sequence[int], draft: Draft) -> Draft:
        """The part of a `match` draft that is worth verifying. Never called for other laws, which it would bias."""
        ...

    def observe(self, rounds: Sequence[RowRound]) -> None:
        """What happened: one record for each row of the round."""
        ...

    def forget(self, rows: Sequence[int]) -> None:
        """The rows are done."""
        ...
