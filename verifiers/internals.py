"""Verifiers that judge a step by what its writer knew, and verifiers made of those.

Such a verifier says what it must be told, and is told it when the step was written, before it is asked: then nothing is
read a second time. A verifier that is made of others passes on what it is told, so that it is no worse off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from draftproof.language_model import Completion
from draftproof.subject import SubjectKey
from draftproof.verifier import Verifier


@runtime_checkable
class TakesInternals(Protocol):
    """What `uncertainty-head` and the baselines beside it offer beyond `Verifier`."""

    @property
    def needs_layers(self) -> tuple[int, ...]:
        """What a `Request` must name as `hidden_layers`."""
        ...

    @property
    def needs_top(self) -> int:
        """What a `Request` must name as `top`: how many of the largest probabilities are looked at."""
        ...

    def knows(self, writer: str) -> bool:
        """Whether it judges the internals of the model of this identity."""
        ...

    def offer(self, step: SubjectKey | str, completion: Completion, *, writer: str) -> None:
        """The internals of a step that it will be asked about."""
        ...


class PassesInternalsOn:
    """What a verifier made of others does with internals. One none of whose parts takes them knows no writer."""

    @property
    def parts(self) -> Sequence[Verifier]:
        """The verifiers that it is made of."""
        raise NotImplementedError

    @property
    def needs_layers(self) -> tuple[int, ...]:
        """Of all parts together."""
        return tuple(sorted({layer for part in self._taking for layer in part.needs_layers}))

    @property
    def needs_top(self) -> int:
        """The most that a part looks at: the others take the first of them."""
        return max((part.needs_top for part in self._taking), default=0)

    def knows(self, writer: str) -> bool:
        return any(part.knows(writer) for part in self._taking)

    def offer(self, step: SubjectKey | str, completion: Completion, *, writer: str) -> None:
        """To the parts that know the writer; the others read the step. Where none does, each is told, and says so."""
        for part in [part for part in self._taking if part.knows(writer)] or self._taking:
            part.offer(step, completion, writer=writer)

    @property
    def _taking(self) -> list[TakesInternals]:
        return [part for part in self.parts if isinstance(part, TakesInternals)]
