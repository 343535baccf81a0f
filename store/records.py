"""What the store gives and takes, beside traces and verdicts: plain frozen records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from draftproof.store.leaf import leaf_digest
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import Verifier, identity


class RunStatus(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class PlannedVerifier:
    """A verifier as a run remembers it: enough to plan its pairs and to make it again."""

    identity: str
    granularity: Granularity
    proposition: Proposition
    guarantee: Guarantee
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1
    """How many draws of each subject; more than one only for verifiers that are not deterministic."""

    @classmethod
    def of(cls, verifier: Verifier, *, samples: int = 1) -> PlannedVerifier:
        return cls(
            identity=identity(verifier),
            granularity=verifier.granularity,
            proposition=verifier.proposition,
            guarantee=verifier.guarantee,
            arguments=dict(verifier.arguments),
            fingerprint=dict(verifier.fingerprint),
            samples=samples,
        )


@dataclass(frozen=True)
class Run:
    """One execution of a command."""

    id: str
    number: int
    """Counts up within one database, for people."""
    command: str
    status: RunStatus
    started_at: str
    finished_at: str | None
    host: str
    platform: str
    python_version: str
    draftproof_version: str
    git_commit: str | None
    packages: Mapping[str, str]
    settings: Mapping[str, Any]
    config_digest: str
    inputs: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, Any]
    verifiers: tuple[PlannedVerifier, ...]


@dataclass(frozen=True)
class Pair:
    """A subject and a verifier: what is judged once and never again."""

    subject: SubjectKey
    verifier: str
    sample: int = 0


@dataclass(frozen=True)
class Attempt:
    """A try at a pair that did not end in a verdict about its subject."""

    pair: Pair
    attempt: int
    """1 for the first try of this run."""
    outcome: str
    """Machine-readable, snake_case: `error`, `timeout`, `worker_lost` and the like."""
    message: str = ""
    started_at: str = ""
    """UTC, ISO 8601; the time of storing when left out."""


@dataclass(frozen=True)
class Skip:
    """A pair that a run leaves unjudged on purpose."""

    pair: Pair
    reason: str
    """Machine-readable, snake_case."""


@dataclass(frozen=True)
class Added:
    """What one call of `VerdictStore.add` did."""

    inserted: int
    duplicates: int
    """Verdicts whose pair was judged already: left as it is."""
    attempts: int = 0


@dataclass(frozen=True)
class StoredTrace:
    """A trace and every import that brought it."""

    trace: Trace
    """With the facts of the latest import."""
    sightings: tuple[Trace, ...]
    """The trace as each import described it, oldest first."""

    @property
    def digest(self) -> str:
        return self.trace.digest


@dataclass(frozen=True)
class StoredVerdict:
    """A row of the verdict log.

    `verifier` is the one whose pair the row settles. In a human override that is the overridden
    verifier, while the payload's own `verifier` names the human: a person's opinion never carries
    a program's signature.
    """

    id: int
    run: str
    subject: SubjectKey
    verifier: str
    sample: int
    revision: int
    """0 for the first verdict about the pair; retries and overrides count up."""
    supersedes: int | None
    """`id` of the row that this one replaces."""
    author: str | None
    note: str | None
    proposition: Proposition
    outcome: Outcome
    score: float | None
    calibrated: bool
    guarantee: Guarantee
    lossless: bool | None
    reason: str
    wall_seconds: float
    calls: int
    prompt_tokens: int
    output_tokens: int
    recorded_at: str
    payload: str | None
    """The verdict as JSON, byte for byte what `leaf` covers; None once erased."""
    salt: bytes | None
    leaf: bytes
    tree_index: int | None
    trace_id: str | None
    """The name that the first import gave the trace; None when the trace itself is not stored."""
    generator: str | None
    source_file: str | None
    source_line: int | None

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict as it was given. Raises ValueError when its payload was erased."""
        if self.payload is None:
            raise ValueError(f"the payload of verdict {self.id} was erased; its columns and leaf digest remain")
        return parse_verdict(self.payload)

    @property
    def intact(self) -> bool:
        """Whether payload and salt still give the stored leaf digest; False once erased."""
        if self.payload is None or self.salt is None:
            return False
        return leaf_digest(self.salt, self.payload.encode()) == self.leaf


@dataclass(frozen=True)
class Conservation:
    """Where the pairs of one run and one verifier went. The law: `subjects` equals the sum of the rest."""

    verifier: str
    granularity: Granularity
    planned: bool
    """False for subjects that came into being during the run: what was recorded is all there is to count."""
    subjects: int
    accepted: int
    rejected: int
    abstained: int
    errored: int
    skipped: int
    strays: int
    """Verdicts and skips about positions that the trace does not have: always a bug."""

    @property
    def missing(self) -> int:
        """Pairs that nothing was recorded of: zero once a run has finished."""
        return self.subjects - self.accepted - self.rejected - self.abstained - self.errored - self.skipped

    @property
    def settled(self) -> bool:
        return self.missing == 0 and self.strays == 0


@dataclass(frozen=True)
class Judgement:
    """One side of a difference."""

    id: int
    verifier: str
    outcome: Outcome
    score: float | None
    reason: str


@dataclass(frozen=True)
class Difference:
    """A subject on which two runs, or two verifiers, do not agree; None where one has no verdict."""

    subject: SubjectKey
    sample: int
    a: Judgement | None
    b: Judgement | None


def parse_verdict(payload: str) -> Verdict:
    """A stored or exported payload as a Verdict."""
    try:
        return Verdict.model_validate_json(payload)
    except ValidationError:
        # pydantic's parser refuses escaped lone surrogates, which a text cut in the middle may hold
        return Verdict.model_validate(json.loads(payload), strict=False)


def utc_now() -> str:
    """The time, in the one form that the store holds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
