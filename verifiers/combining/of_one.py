"""What verifiers share that are another verifier, decided otherwise: by a calibrator or by thresholds from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from draftproof.subject import Granularity, Subject
from draftproof.verdict import Proposition, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.parts import ask, described
from draftproof.verifiers.internals import PassesInternalsOn


class OfOne(PassesInternalsOn, ABC):
    """Judges what its part judges. Subclasses are frozen dataclasses with these fields."""

    verifier: Verifier
    generator: str
    """Which model wrote what is judged."""
    file: str
    """Where the calibrator or the thresholds were read from, by which a name re-creates this verifier."""
    log: VerdictLog | None
    """Gets the verifier's own verdicts; without it they are told in `raw` alone."""

    @property
    def parts(self) -> Sequence[Verifier]:
        return (self.verifier,)

    @property
    def granularity(self) -> Granularity:
        return self.verifier.granularity

    @property
    def proposition(self) -> Proposition:
        return self.verifier.proposition

    @property
    def _made_by(self) -> dict[str, Any]:
        """The arguments that both kinds have."""
        by: dict[str, Any] = {"file": self.file} if self.file else {"of": described(self.verifier)}
        return by | {"generator": self.generator}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)  # type: ignore[arg-type]  # the subclass has what a verifier has
        return [self._verdict(part, signature) for part in ask(self.verifier, subjects, self.log)]

    @abstractmethod
    def _verdict(self, part: Verdict, signature: str) -> Verdict:
        """What follows from the verifier's own verdict."""
