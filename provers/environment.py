"""What a proof environment is asked and what it answers; the backends are elsewhere.

A backend checks whole claims and keeps their order. Two things are never left to it: the statement, which
is printed from an expression tree of ours (`draftproof.provers.statement`), and what counts as proved,
which is an accepted declaration together with its own, empty axiom report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from draftproof.provers.statement import Statement


class Status(StrEnum):
    PROVED = "proved"
    REFUTED = "refuted"
    """The negation was proved."""
    VACUOUS = "vacuous"
    """The hypotheses were proved to contradict each other."""
    UNKNOWN = "unknown"
    """Neither was established within the limits. Says nothing about the claim."""
    ERROR = "error"
    """The backend failed on this claim. Says nothing about it either."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one claim may cost. Whatever exceeds a limit ends as `unknown`, never as an answer."""

    seconds: float = 10.0
    """Wall clock; then the process and everything it started is killed."""
    heartbeats: int = 20_000
    """Lean's own measure of work, in thousands of small allocations."""
    megabytes: int = 2_048
    """Memory of one checking process."""


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class LeanClaim:
    """A statement to settle, or a statement and somebody's proof of it."""

    statement: Statement
    proof: str | None = None
    """Text of a term or of a tactic block (`by ...`) by an outsider; None to let our theorems settle it."""
    expected: bool | None = None
    """What is tried first, a matter of speed alone: the answer is the kernel's."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the kernel said of one claim."""

    status: Status
    proof: str | None = None
    """The term that the kernel accepted; of a refuted claim, a proof of the statement's negation."""
    axioms: tuple[str, ...] | None = None
    """The claim's own axiom report; None when there is none."""
    messages: tuple[str, ...] = ()
    reason: str = ""
    """Machine-readable: why a claim was refuted, or why it was left open."""
    seconds: float = 0.0
    backend: str = ""
    cached: bool = False


class ProofEnvironment(Protocol):
    """A place where claims are checked. Used as a context manager, it closes itself."""

    @property
    def toolchain(self) -> str:
        """Version of the kernel, as it names itself."""
        ...

    @property
    def prelude_digest(self) -> str:
        """SHA-256 of the library the statements are written in."""
        ...

    def check(self, claims: Sequence[LeanClaim], limits: Limits = ...) -> list[CheckResult]:
        """One result a claim, in order. A claim's content never raises and never harms another's result."""
        ...

    def close(self) -> None: ...
