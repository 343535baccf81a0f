"""What became of one problem of a pipeline run, and the verdict that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from draftproof.batch.problems import Problem
from draftproof.canonical import digest, short
from draftproof.store.records import PlannedVerifier
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import Cost, ErrorEvidence, Guarantee, Outcome, Proposition, Verdict

MARK = "solved@"
ERROR = "error"
"""`finish` of a problem whose pipeline failed."""


@dataclass(frozen=True)
class Block:
    """A step of the answer, as much as it takes to draw it."""

    role: str
    """Who wrote it: draft, target, pipeline."""
    tokens: int
    discarded: int | None = None
    """Tokens of the other model's step in its place; None where there was none."""


@dataclass(frozen=True)
class Solved:
    """A problem that came to an end, now or in an earlier run."""

    problem: Problem
    opening: str
    """Digest of the trace that its verdicts are stored under."""
    trace: str | None
    """Digest of the finished trace; None where the pipeline failed."""
    attempt: int
    finish: str
    """`end` is a finished answer; everything else says why there is none."""
    error: str
    text: str
    answer: str | None
    """The final answer as it was read; None where none could be."""
    correct: bool | None
    """Whether it is the reference answer; None where there is no reference, or the pipeline failed."""
    blocks: tuple[Block, ...]
    counts: Mapping[str, int]
    seconds: float
    """Wall clock from its beginning to its end, whoever else was served meanwhile."""
    outcome: str | None = None
    """What the pipeline's own check said of the text: accept, reject, abstain or error. None where it has no check."""
    known: bool = False
    """Whether an earlier run, or an earlier line of this one, had solved it."""

    @property
    def failed(self) -> bool:
        return self.finish == ERROR

    def of(self, problem: Problem) -> Solved:
        """The same of another line with the same text."""
        return replace(self, problem=problem, correct=_right(self.answer, problem, self.finish), known=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.problem.id,
            "line": self.problem.line or None,
            "problem": self.problem.text,
            "text": self.text,
            "answer": self.answer,
            "reference_answer": self.problem.answer,
            "correct": self.correct,
            "finish": self.finish,
            "outcome": self.outcome,
            "error": self.error or None,
            "steps": [
                {"role": block.role, "tokens": block.tokens, "discarded_tokens": block.discarded}
                for block in self.blocks
            ],
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 6),
            "attempt": self.attempt,
            "known": self.known,
            "opening": self.opening,
            "trace": self.trace,
        }


@dataclass(frozen=True)
class Course:
    """What a graph did about one problem."""

    opening: str
    attempt: int
    output: Mapping[str, Any]
    """`draftproof.pipelines.step_state.StepOutput`, or as much of it as there was when the graph failed."""
    raised: str
    """What the graph itself failed with, `type: message`; what its models fail with is in the output."""
    seconds: float

    @property
    def failed(self) -> bool:
        return self._finish == ERROR

    @property
    def _finish(self) -> str:
        return ERROR if self.raised else str(self.output.get("finish") or ERROR)

    def solved(self, problem: Problem, trace: Trace | None) -> Solved:
        answer = None if self.failed else stated(self.output)
        return Solved(
            problem=problem,
            opening=self.opening,
            trace=None if trace is None else trace.digest,
            attempt=self.attempt,
            finish=self._finish,
            error=self.raised or str(self.output.get("error") or ""),
            text="" if self.failed else str(self.output["text"]),
            answer=answer,
            correct=_right(answer, problem, self._finish),
            blocks=blocks_of(self.output),
            counts=dict(self.output.get("counts") or {}),
            seconds=self.seconds,
            outcome=self._outcome,
        )

    @property
    def _outcome(self) -> str | None:
        """A text that nobody came to check is not found right, whatever the reason."""
        told = self.output.get("outcome")
        if told is None:
            return None
        if self.failed:
            return Outcome.ERROR.value
        return Outcome(told).value if told else Outcome.ABSTAIN.value


def mark_of(signature: str) -> PlannedVerifier:
    """Who says that a problem is solved by the pipeline of this signature: one name for all attempts."""
    arguments = {"pipeline": signature}
    return PlannedVerifier(
        identity=f"{MARK}1#{short(digest(arguments))}",
        granularity=Granularity.TRACE,
        proposition=Proposition.COMPLETE,
        guarantee=Guarantee.EXECUTED,
        arguments=arguments,
    )


def opening_key(opening: str) -> SubjectKey:
    return SubjectKey(trace_digest=opening, granularity=Granularity.TRACE, position=0)


def solved_verdict(solved: Solved, mark: PlannedVerifier) -> Verdict:
    """That a problem came to its end and its finished trace is stored, with all that it takes to tell it again."""
    kind, _, message = solved.error.partition(": ")
    return Verdict(
        subject=opening_key(solved.opening),
        verifier=mark.identity,
        proposition=mark.proposition,
        outcome=_decided(solved),
        guarantee=mark.guarantee,
        lossless=False,
        reason=solved.finish,
        evidence=(ErrorEvidence(type=kind, message=message),) if solved.failed else (),
        cost=Cost(
            wall_seconds=solved.seconds,
            calls=sum(count for name, count in solved.counts.items() if name.endswith("_calls")),
            output_tokens=sum(solved.counts.get(name, 0) for name in _WRITTEN_TOKENS),
        ),
        raw={
            "trace": solved.trace,
            "attempt": solved.attempt,
            "error": solved.error,
            "counts": dict(solved.counts),
            "steps": [[block.role, block.tokens, block.discarded] for block in solved.blocks],
            **({} if solved.outcome is None else {"outcome": solved.outcome}),
        },
    )


def _decided(solved: Solved) -> Outcome:
    """Accepted is a finished answer that the pipeline's check, where it has one, accepted as well."""
    if solved.failed:
        return Outcome.ERROR
    if solved.finish != "end":
        return Outcome.REJECT
    return Outcome.ACCEPT if solved.outcome is None else Outcome(solved.outcome)


def recalled(problem: Problem, known: Verdict, trace: Trace | None) -> Solved:
    """What `solved_verdict` was made of, for `problem`. `trace` is the finished one; None for a failure."""
    raw = known.raw
    answer = None if trace is None else trace.final_answer
    return Solved(
        problem=problem,
        opening=known.subject.trace_digest,
        trace=None if trace is None else trace.digest,
        attempt=int(raw["attempt"]),
        finish=known.reason,
        error=str(raw["error"]),
        text="" if trace is None else "".join(step.text for step in trace.steps),
        answer=answer,
        correct=_right(answer, problem, known.reason),
        blocks=tuple(Block(role, tokens, discarded) for role, tokens, discarded in raw["steps"]),
        counts=dict(raw["counts"]),
        seconds=known.cost.wall_seconds,
        outcome=raw.get("outcome"),
        known=True,
    )


def blocks_of(output: Mapping[str, Any]) -> tuple[Block, ...]:
    """The steps of an output, or of a graph's state on the way to it."""
    return tuple(
        Block(step["role"], step["tokens"], step["discarded"]["tokens"] if step.get("discarded") else None)
        for step in output.get("steps") or ()
    )


def stated(output: Mapping[str, Any]) -> str | None:
    """The final answer that a text states; a text that was cut off states none."""
    from draftproof.pipelines.stated_answer import stated_answer

    if output.get("finish") != "end":
        return None
    return stated_answer(str(output.get("answer") or output.get("text") or ""))


def same_answer(given: str | None, reference: str | None) -> bool | None:
    """Whether an answer is the reference answer, numbers by their exact value; None where there is no reference.

    What cannot be compared is wrong, never right.
    """
    from draftproof.pipelines.answers import normal_answer

    if reference is None:
        return None
    read = None if given is None else normal_answer(given)
    return read is not None and read == normal_answer(reference)


def _right(answer: str | None, problem: Problem, finish: str) -> bool | None:
    return None if finish == ERROR else same_answer(answer, problem.answer)


_WRITTEN_TOKENS = ("draft_tokens_kept", "draft_tokens_discarded", "target_tokens")
