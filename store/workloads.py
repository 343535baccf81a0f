"""Made traces and verdicts of realistic size, shared by tests and benchmarks. All of it is seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from draftproof.store.records import Pair, PlannedVerifier
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Source, Span, Step, Trace
from draftproof.verdict import Cost, EquationEvidence, ErrorEvidence, Guarantee, Outcome, Proposition, Verdict

ARITHMETIC = PlannedVerifier(
    identity="arithmetic@1#0123456789ab",
    granularity=Granularity.STEP,
    proposition=Proposition.CORRECT,
    guarantee=Guarantee.EXACT,
    arguments={"tolerance": "shown digits"},
)
WHOLE = PlannedVerifier(
    identity="whole@2#ba9876543210",
    granularity=Granularity.TRACE,
    proposition=Proposition.LEADS_TO_ANSWER,
    guarantee=Guarantee.OPINION,
)


def made_traces(count: int, *, steps: int = 8, seed: int = 0, **fields: Any) -> list[Trace]:
    """Word problems whose steps add two numbers. No two traces of one seed are alike."""
    random = Random(seed)  # noqa: S311
    traces = []
    for number in range(count):
        texts = []
        for _ in range(steps):
            a, b = random.randrange(1000), random.randrange(1000)
            texts.append(Step(text=f"Together that makes {a} + {b} = {a + b}.\n"))
        described = {
            "id": f"made-{seed}-{number}",
            "generator": "made",
            "source": Source(format="made", file=f"made-{seed}.jsonl", line=number + 1),
            **fields,
        }
        traces.append(Trace(problem=f"Problem {seed}.{number}: how many in all?", steps=tuple(texts), **described))
    return traces


def made_verdict(pair: Pair, outcome: Outcome = Outcome.ACCEPT, **fields: Any) -> Verdict:
    """A verdict about `pair` with the evidence that an arithmetic check would leave."""
    position = pair.subject.position
    left, right = f"{position} + 417", str(position + 417)
    equation = EquationEvidence(
        span=Span(start=20, end=20 + len(left) + 3 + len(right)),
        text=f"{left} = {right}",
        relation="=",
        left=left,
        right=right,
        left_value=right,
        right_value=right,
        holds=outcome is Outcome.ACCEPT,
    )
    broke = outcome is Outcome.ERROR
    given = {
        "subject": pair.subject,
        "verifier": pair.verifier,
        "sample": pair.sample,
        "proposition": Proposition.CORRECT,
        "outcome": outcome,
        "score": 1.0 if outcome is Outcome.ACCEPT else 0.0 if outcome is Outcome.REJECT else None,
        "guarantee": Guarantee.EXACT,
        "reason": _REASONS[outcome],
        "evidence": (ErrorEvidence(type="ValueError", message="no digits"),) if broke else (equation,),
        "cost": Cost(wall_seconds=0.000125),
    }
    return Verdict(**{**given, **fields})


def made_verdicts(pairs: Sequence[Pair], *, seed: int = 0) -> Iterator[Verdict]:
    """One verdict a pair: mostly accepted, some rejected, a few abstained."""
    random = Random(seed)  # noqa: S311
    for pair in pairs:
        outcome = random.choices((Outcome.ACCEPT, Outcome.REJECT, Outcome.ABSTAIN), (80, 15, 5))[0]
        yield made_verdict(pair, outcome)


def step_pair(trace: Trace, position: int = 0, *, verifier: str = ARITHMETIC.identity, sample: int = 0) -> Pair:
    subject = SubjectKey(trace_digest=trace.digest, granularity=Granularity.STEP, position=position)
    return Pair(subject, verifier, sample)


_REASONS = {
    Outcome.ACCEPT: "all_equations_hold",
    Outcome.REJECT: "false_equation",
    Outcome.ABSTAIN: "no_equation",
    Outcome.ERROR: "verifier_crashed",
}
