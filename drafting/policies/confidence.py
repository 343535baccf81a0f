"""Stop drafting once the draft model is unsure of the token it has just drafted."""

from __future__ import annotations

from draftproof.drafting.drafter import StepSignal
from draftproof.drafting.policies.fixed import Fixed
from draftproof.errors import UsageError


class Confidence(Fixed):
    """Goes on while the draft model's largest probability reaches `threshold`, up to `draft_length` tokens.

    The unsure token itself is kept, so that drafts stay distributed as the draft model says (Kangaroo, arXiv
    2404.18911, section 3.2; dynamic lookahead, arXiv 2405.04304, stops in the same way).
    """

    name = "confidence"

    def __init__(self, threshold: float = 0.4, draft_length: int = 16) -> None:
        super().__init__(draft_length)
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"threshold is {threshold}, it must be a probability.")
        self.threshold = threshold

    def go_on(self, signal: StepSignal) -> bool:
        return signal.top_probability >= self.threshold
