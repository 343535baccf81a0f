"""A verifier that says what the text of its subject tells it to say, and counts what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity
from draftproof.verifiers.combining.labelled import Labelled


class Log:
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts.extend(verdicts)

    def of(self, verifier: Any) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.verifier == identity(verifier)]


@dataclass(frozen=True)
class Scripted:
    """Reads the `column`-th word of its text: a score, `-` to abstain, `~0.9` with an estimate, `!` to crash."""

    column: int = 0
    edition: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    asked: list[int] = field(default_factory=list, compare=False)
    """Sizes of the batches that it was asked about."""
    name: str = "scripted"

    @property
    def version(self) -> int:
        return self.edition

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"column": self.column, "edition": self.edition}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        self.asked.append(len(subjects))
        return [self._verdict(subject) for subject in subjects]

    def _verdict(self, subject: Subject) -> Verdict:
        word = subject.text.split()[self.column]
        if word == "!":
            raise RuntimeError("told to crash")
        score = None if word == "-" else float(word.removeprefix("~"))
        outcome = Outcome.ACCEPT if score is not None and score >= 0.5 else Outcome.REJECT
        if word[0] in "-~":
            outcome = Outcome.ABSTAIN
        return Verdict(
            subject=subject.key, verifier=identity(self), proposition=self.proposition, outcome=outcome,
            score=score, guarantee=self.guarantee, reason="told",
        )  # fmt: skip


def subject(text: str, position: int = 0, granularity: Granularity = Granularity.STEP) -> Subject:
    key = SubjectKey(trace_digest="sha256:" + "0" * 64, granularity=granularity, position=position)
    return Subject(key=key, problem="p", text=text)


def subjects(*texts: str) -> list[Subject]:
    return [subject(text, position) for position, text in enumerate(texts)]


def labelled(
    score: float | None,
    truth: bool,
    *,
    trace: str = "t",
    position: int = 0,
    problem: str = "p",
    generator: str = "",
    verifier: Any = None,
) -> Labelled:
    """What the scripted verifier would have said, beside the truth."""
    by = verifier or Scripted()
    outcome = Outcome.ABSTAIN if score is None else Outcome.ACCEPT if score >= 0.5 else Outcome.REJECT
    verdict = Verdict(
        subject=SubjectKey(trace_digest=trace, granularity=by.granularity, position=position),
        verifier=identity(by), proposition=by.proposition, outcome=outcome, score=score,
        guarantee=by.guarantee, reason="told",
    )  # fmt: skip
    return Labelled(verdict, truth, problem, generator)


def overconfident(count: int, *, seed: int = 0, sharpness: float = 3.0, problems: int = 200) -> list[Labelled]:
    """Labelled scores of a judge whose log-odds are `sharpness` times what they should be."""
    draw = np.random.default_rng(seed)
    honest = draw.uniform(0.05, 0.95, count)
    truths = draw.uniform(size=count) < honest
    said = 1 / (1 + ((1 - honest) / honest) ** sharpness)
    return [
        labelled(float(s), bool(t), trace=f"t{i}", problem=f"p{i % problems}", generator="weak")
        for i, (s, t) in enumerate(zip(said, truths, strict=True))
    ]
