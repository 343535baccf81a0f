"""Which verifiers are told what a step's writer knew, so that nothing is read twice."""

from __future__ import annotations

from draftproof.verifiers.internals import TakesInternals


def internals_wanted(verifier: object, model: str) -> TakesInternals | None:
    """`verifier` where it judges by the internals of the model of this identity."""
    return verifier if isinstance(verifier, TakesInternals) and verifier.knows(model) else None
