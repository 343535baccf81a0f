"""What the step-level graphs leave behind: a verdict for all that was written, decided and ended, and a finished trace.

Verdicts need a subject before the text they are about is finished. They are stored under the *opening*: a trace of the
problem without steps, whose segmentation names the graph and the digest of all that its course depends on. Positions
are the steps'. Of two candidates for one step the draft's is sample 0 and the target's sample 1.

    granularity  verifier                  says
    step         draft-writer@1#…          what the draft model wrote there, and whether it was kept
    step         target-writer@1#…         the same of the target
    step         the judge's own           its score
    route        the graph's signature     who writes the step, and what was compared
    route        final-answer@1#…          that a finished draft is the answer, and so the target's to write
    trace        the graph's signature     how it ended

Nothing else is needed to tell the whole course again: see `replay`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from draftproof.canonical import digest, short
from draftproof.language_model import Decoding, LanguageModel
from draftproof.pipelines.stated_answer import stated_answer
from draftproof.pipelines.step_state import Finish, Opening, Phase, Route, StepOutput, StepSettings, WrittenText
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Step, Trace
from draftproof.verdict import (
    Cost,
    ErrorEvidence,
    FeatureEvidence,
    Guarantee,
    Outcome,
    Proposition,
    RouteEvidence,
    StepEvidence,
    Verdict,
)
from draftproof.verifier import VerdictLog

SEGMENTATION = "written_steps@1"
"""Of finished traces: a step is what was written in one go. Digests of traces rest on it."""

WRITTEN = "written"
WRITER = "-writer@1#"
FINAL_ANSWER = "final-answer@1#"


@dataclass(frozen=True)
class Pipeline:
    """What a graph is, by name: all that the course of a text depends on is in its configuration."""

    name: str
    version: int
    configuration: Mapping[str, Any]
    """JSON values."""

    def signature(self, attempt: int = 0) -> str:
        """`name@version#digest`."""
        return f"{self.name}@{self.version}#{short(digest({**self.configuration, 'attempt': attempt}))}"


def opening_trace(problem: str, signature: str) -> Trace:
    """What stands for the problem while nothing is written yet; its digest is known to whoever begins."""
    return Trace(problem=problem, steps=(), segmentation=signature)


def finished_trace(output: StepOutput) -> Trace:
    """The text as a trace, cut where it was written."""
    return Trace(
        id=output["id"],
        problem=output["problem"],
        steps=tuple(Step(text=step["text"]) for step in output["steps"]),
        segmentation=SEGMENTATION,
        final_answer=stated_answer(output["answer"]),
        reference_answer=output["reference_answer"],
        generator=output["pipeline"],
        meta={
            "pipeline": output["pipeline"],
            "opening": output["opening"],
            "attempt": output["attempt"],
            "finish": output["finish"],
            "roles": [step["role"] for step in output["steps"]],
            "counts": dict(output["counts"]),
        },
    )


@dataclass(frozen=True)
class Audit:
    """Writes the verdicts of one graph, each before anything is done about what it says."""

    log: VerdictLog

    def routed(self, opening: Opening, position: int, route: Route, verdict: RouteVerdict) -> None:
        self.log.add([_route_verdict(opening["opening"], position, route, verdict)])

    def written(self, opening: Opening, position: int, texts: Sequence[tuple[WrittenText, bool]], phase: Phase) -> None:
        """`texts` with whether each was kept, all that was written for one step."""
        self.log.add([_written_verdict(opening, position, text, kept, phase) for text, kept in texts])

    def failed(
        self, opening: Opening, position: int, role: str, model: str, error: ErrorEvidence, *, full: bool
    ) -> None:
        """A model gave no text: it failed, or (`full`) its context has no room."""
        self.log.add(
            [
                Verdict(
                    subject=_key(opening["opening"], Granularity.STEP, position),
                    verifier=writer_identity(role, model),
                    proposition=Proposition.CORRECT,
                    outcome=Outcome.ABSTAIN if full else Outcome.ERROR,
                    guarantee=Guarantee.EXECUTED,
                    reason="context_full" if full else "model_failed",
                    evidence=(error,),
                    raw={"pipeline": opening["pipeline"]},
                    cost=Cost(calls=1),
                )
            ]
        )

    def closed(self, output: StepOutput) -> None:
        """How it ended. `complete` is accepted where the model itself ended its answer, and nowhere else."""
        finish = output["finish"]
        self.log.add(
            [
                Verdict(
                    subject=_key(output["opening"], Granularity.TRACE, 0),
                    verifier=output["pipeline"],
                    proposition=Proposition.COMPLETE,
                    outcome=_ENDED.get(finish, Outcome.REJECT),
                    guarantee=Guarantee.EXECUTED,
                    lossless=False,
                    reason=finish,
                    raw={
                        "steps": len(output["steps"]),
                        "trace": output["trace"],
                        "attempt": output["attempt"],
                        "verifier": output["verifier"],
                        "proposition": output["proposition"],
                        "error": output["error"],
                    },
                )
            ]
        )


_ENDED: dict[Finish, Outcome] = {"end": Outcome.ACCEPT, "error": Outcome.ERROR}


@dataclass(frozen=True)
class RouteVerdict:
    """What a decision claims, beside who writes."""

    verifier: str
    proposition: Proposition
    """easy: the draft model can write it; target_better: the target's would be better."""
    outcome: Outcome
    """Whether that holds. Abstain: nobody knows, and the target writes for that reason."""
    score: float | None = None
    """Probability of the proposition."""
    raw: Mapping[str, Any] | None = None
    """On the probe's own scale."""
    error: ErrorEvidence | None = None


@lru_cache(64)
def writer_identity(role: str, model: str) -> str:
    """Who signs for what a model wrote: the role and the model. How it was asked is in the opening."""
    return f"{role}{WRITER}{short(digest({'model': model}))}"


def finite(value: float | None) -> float | None:
    """As JSON can hold it: None for what is no finite number."""
    return value if value is not None and isfinite(value) else None


def configured(
    draft: LanguageModel, target: LanguageModel, settings: StepSettings, decoding: Decoding, **own: Any
) -> dict[str, Any]:
    """What the course of a text depends on, as JSON; `own` is what one graph alone has."""
    return {
        "draft": draft.identity,
        "target": target.identity,
        "settings": asdict(settings),
        "decoding": {**asdict(decoding), "seed": str(decoding.seed)},  # may be larger than JSON's numbers are exact
        **own,
    }


def described(value: float | None) -> float | str | None:
    """A threshold as part of a configuration."""
    return value if value is None or isfinite(value) else str(value)


def _key(opening: str, granularity: Granularity, position: int) -> SubjectKey:
    return SubjectKey(trace_digest=opening, granularity=granularity, position=position)


def _route_verdict(opening: str, position: int, route: Route, verdict: RouteVerdict) -> Verdict:
    evidence = RouteEvidence(
        policy=route["policy"], to=route["to"], score=finite(route["score"]), threshold=finite(route["threshold"])
    )
    return Verdict(
        subject=_key(opening, Granularity.ROUTE, position),
        verifier=verdict.verifier,
        proposition=verdict.proposition,
        outcome=verdict.outcome,
        score=verdict.score,
        guarantee=Guarantee.OPINION,
        lossless=False,
        reason=route["reason"],
        evidence=(evidence,) if verdict.error is None else (evidence, verdict.error),
        cost=Cost(wall_seconds=route["seconds"], calls=route["calls"]),
        raw=dict(verdict.raw or {}),
    )


def _written_verdict(opening: Opening, position: int, text: WrittenText, kept: bool, phase: Phase) -> Verdict:
    """Writing claims nothing about what is written: it abstains from calling it correct."""
    step = StepEvidence(
        text=text["text"],
        role=text["role"],
        model=text["model"],
        cause=text["cause"],
        tokens=text["tokens"],
        kept=kept,
    )
    return Verdict(
        subject=_key(opening["opening"], Granularity.STEP, position),
        verifier=writer_identity(text["role"], text["model"]),
        proposition=Proposition.CORRECT,
        outcome=Outcome.ABSTAIN,
        guarantee=Guarantee.EXECUTED,
        reason=WRITTEN,
        evidence=(step, FeatureEvidence(values=text["features"])) if text["features"] else (step,),
        cost=Cost(
            wall_seconds=text["seconds"],
            calls=1 if text["model"] else 0,
            prompt_tokens=text["prompt_tokens"],
            output_tokens=text["tokens"],
        ),
        raw={"pipeline": opening["pipeline"], "ids": text["ids"], "phase": phase},
    )
