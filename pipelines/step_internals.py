"""Which verifiers are told what a step's writer knew, so that nothing is read twice, and which would never be."""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.errors import UsageError
from draftproof.verifier import Verifier
from draftproof.verifiers.internals import TakesInternals


def internals_wanted(verifier: object, model: str) -> TakesInternals | None:
    """`verifier` where it judges by the internals of the model of this identity."""
    return verifier if isinstance(verifier, TakesInternals) and verifier.knows(model) else None


def require_told(verifier: Verifier, writers: Sequence[str], purpose: str) -> None:
    """Raises UsageError for a verifier that would abstain from all: it cannot read, and nobody tells it anything.

    `writers`: identities of the models that write what it is asked about, and whose internals are told.
    """
    parts: Sequence[Verifier] = getattr(verifier, "parts", ())
    reads = verifier.arguments.get("model") is not None
    if parts or reads or not isinstance(verifier, TakesInternals):
        return
    if not any(verifier.knows(writer) for writer in writers):
        by = " and ".join(writers) if writers else "nobody that tells"
        raise UsageError(
            f"{purpose} asks {verifier.name} about steps written by {by}: it knows the internals of another model only,"
            " and has no model to read steps with.",
            remedy="Name the model that it belongs to (model=…), or take one that belongs to the writer.",
        )
