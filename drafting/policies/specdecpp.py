"""SpecDec++: stop drafting when a trained head believes that some drafted token will be rejected.

Huang et al., arXiv 2405.19715, algorithm 1: with σ_i the head's probability that drafted token i is accepted, stop
once 1 - Π σ_i exceeds the threshold. A score needs the draft model's state after the token was consumed, so it comes
one step late, and the newest token is kept unseen: its own fate never decides whether it is verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.training.acceptance_head import AcceptanceHead, load_acceptance_head
from draftproof.errors import UsageError


class SpecDecPP(Fixed):
    """Stops by an `AcceptanceHead`, between `least` and `draft_length` tokens."""

    name = "specdec++"

    def __init__(
        self,
        head: AcceptanceHead | Path | str | None = None,
        threshold: float = 0.7,
        draft_length: int = 20,
        least: int = 2,
    ) -> None:
        """`head`: a trained head, or the folder that `draftproof train acceptance-head` wrote it to; one from a folder
        is only used with the draft model that it was trained for."""
        super().__init__(draft_length)
        if head is None:
            raise UsageError(
                "The policy 'specdec++' stops by a head that is trained for one draft model, and none was given.",
                remedy="Train one with draftproof train acceptance-head and name its folder, as in "
                "specdec++:head=FOLDER; or use the policy 'confidence', which needs no training.",
            )
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"threshold is {threshold}, it must be a probability.")
        if not 1 <= least <= max(1, draft_length):
            raise UsageError(f"least is {least}, it must be 1 … {draft_length}, the draft length.")
        self._draft_model: str | None = None
        """Digest of the draft model that the head was trained for; None where it is not known."""
        if isinstance(head, str | Path):
            self.head, record = load_acceptance_head(Path(head))
            self._draft_model = str(record["draft_digest"])
        else:
            self.head = head
        self.threshold = threshold
        self.least = least
        self._survival: dict[int, float] = {}
        """Row -> probability that all tokens judged so far in this round are accepted."""

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        super().bind(costs, drafter)
        if not drafter.stepwise:
            raise UsageError(
                f"The policy 'specdec++' looks at a draft model's states token by token, and the drafter "
                f"{drafter.name!r} does not draft that way.",
                remedy="Use it with the drafter 'small-lm', or choose the policy 'cost'.",
            )
        if self._draft_model is None or drafter.draft_model == self._draft_model:
            return
        if not drafter.draft_model:
            raise UsageError(
                f"The acceptance head was trained for one draft model ({self._draft_model[:19]}), and the states of "
                f"the drafter {drafter.name!r} are not those of one draft model.",
                remedy="Use it with the drafter 'small-lm', or choose the policy 'confidence'.",
            )
        raise UsageError(
            f"The acceptance head was trained for another draft model ({self._draft_model[:19]}), not for the one of "
            f"the drafter {drafter.name!r} ({drafter.draft_model[:19]}).",
            remedy="Train one for this draft model with draftproof train acceptance-head.",
        )

    def go_on(self, signal: StepSignal) -> bool:
        if signal.hidden is None:
            raise UsageError(
                "The policy 'specdec++' needs the draft model's hidden states, which this drafter does not report.",
                remedy="Use the policy 'confidence' instead.",
            )
        if signal.hidden.shape[-1] != self.head.hidden_size:
            raise UsageError(
                f"The acceptance head is for states of width {self.head.hidden_size}; the draft model's have "
                f"{signal.hidden.shape[-1]}.",
                remedy="Train a head for this draft model with draftproof train acceptance-head.",
            )
        if signal.step == 1:
            # The state is the one after the pending token, which is the target's own: nothing to doubt.
            self._survival[signal.row] = 1.0
        else:
            self._survival[signal.row] *= self.head.probability(signal.hidden)
        if signal.step < self.least:
            return True
        return 1.0 - self._survival[signal.row] <= self.threshold

    def forget(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._survival.pop(row, None)
