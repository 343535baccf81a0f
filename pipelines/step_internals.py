"""Verifiers that judge a step by what its writer knew: told while it is written, so that nothing is read twice."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from draftproof.language_model import Completion
from draftproof.subject import SubjectKey


@runtime_checkable
class TakesInternals(Protocol):
    """What `uncertainty-head` and the baselines beside it offer beyond `Verifier`."""

    @property
    def needs_layers(self) -> tuple[int, ...]:
        """Whose hidden states a request must ask for."""
        ...

    def knows(self, writer: str) -> bool:
        """Whether it judges the internals of the model of this identity."""
        ...

    def offer(self, step: SubjectKey | str, completion: Completion, *, writer: str) -> None:
        """The internals of a step that it will be asked about."""
        ...


def internals_wanted(verifier: object, model: str) -> TakesInternals | None:
    """`verifier` where it judges by the internals of the model of this identity."""
    return verifier if isinstance(verifier, TakesInternals) and verifier.knows(model) else None
