"""The nodes of solve-detect-verify: begin, write on, see whether the solution is complete, check it, and close."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langgraph.errors import GraphBubbleUp

from draftproof.errors import ContextLengthError
from draftproof.pipelines.sampled_log import shifted
from draftproof.pipelines.second_attempt import second_prompt
from draftproof.pipelines.solution_check import Checked, SolutionCheck
from draftproof.pipelines.solve_output import attempt_facts, solve_output, unchecked
from draftproof.pipelines.solve_state import SolveAttempt, SolveState
from draftproof.pipelines.step_audit import Audit, Pipeline, RouteVerdict, finished_trace
from draftproof.pipelines.step_loop import Writer, after, closed_thinking, closing_step, context_of, phase_of
from draftproof.pipelines.step_nodes import Update, attempt_of, failure, opened
from draftproof.pipelines.step_state import Route, StepInput, WrittenStep
from draftproof.pipelines.whole_texts import write_whole
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import Outcome
from draftproof.verifier import VerdictLog, Verifier, run_verifier

NOT_CHECKED = "not_checked"
"""Reason of the verdict about an attempt whose writing broke off."""


@dataclass(frozen=True)
class SolveNodes:
    """The nodes. Each takes the state and returns what it changes."""

    pipeline: Pipeline
    writer: Writer
    log: VerdictLog
    solution_check: SolutionCheck
    detector: Verifier | None
    hesitation: str
    max_attempts: int
    whole: bool
    on_trace: Callable[[Trace], None] | None

    def open(self, state: StepInput) -> Update:
        """Raises InputError for what is no problem."""
        opening = opened(
            state,
            self.pipeline.signature(attempt_of(state)),
            verifier=self.solution_check.identity,
            proposition=self.solution_check.fast.proposition.value,
        )
        spent = {"probe_calls": 0, "judge_calls": 0, "probe_seconds": 0.0, "judge_seconds": 0.0}
        return {**opening, **_blank(), "attempts": [], "dropped": [], "spent": spent, "error": ""}

    def solve(self, state: SolveState) -> Update:
        """One step more, or the whole solution."""
        number, model = len(state["attempts"]), self.writer.model
        audit = Audit(shifted(self.log, number))
        try:
            update = self._written(state, number)
        except GraphBubbleUp:  # LangGraph's own way to say that a graph was interrupted
            raise
        except Exception as error:  # whatever a backend does when it fails
            full = isinstance(error, ContextLengthError)
            evidence = failure(error)
            audit.failed(state, len(state["steps"]), "target", model.identity, evidence, full=full)
            if full:
                return {"stop": "context"}
            return {"stop": "error", "error": f"solver: {evidence.type}: {evidence.message}"}
        for position in range(len(state["steps"]), len(update["steps"])):
            step: WrittenStep = update["steps"][position]
            audit.written(state, position, [(step, True)], step["phase"])
        return update

    def _written(self, state: SolveState, number: int) -> Update:
        settings, seed = self.writer.settings, state["attempt"] * self.max_attempts + number
        prompt = _prompt(state)
        if self.whole:
            decoding = replace(self.writer.decoding, seed=self.writer.decoding.seed + seed)
            context = context_of(prompt, [], settings.system)
            ((steps, finish),) = write_whole(self.writer.model, context, [decoding], settings)
            return {"steps": steps, "phase": steps[-1]["phase"], "stop": finish}
        text = self.writer.write(prompt, state["steps"], state["phase"], attempt=seed, opening=state["opening"])
        phase = phase_of(text["text"], state["phase"], settings)
        steps = [*state["steps"], {**text, "phase": phase, "route": None, "discarded": None}]
        following, stop = after(steps, settings)
        if following != phase and not closed_thinking(steps):
            steps.append(closing_step(settings.separator))
        return {"steps": steps, "phase": following, "stop": stop}

    def after_solve(self, state: SolveState) -> str:
        stop, steps = state["stop"], state["steps"]
        if stop == "error" or not steps:
            return "close"
        if stop != "end" and self.detector is not None and self._shortened(steps) is not None:
            return "detect"
        return "verify" if stop else "solve"

    def detect(self, state: SolveState) -> Update:
        """Whether what stands before the hesitation is complete already. Only a verdict that accepts cuts."""
        assert self.detector is not None, "without a detector there is no such node"
        shorter = self._shortened(state["steps"])
        assert shorter is not None, "the way leads here only where there is something to ask about"
        subject = Subject(
            key=_key(state, Granularity.STEP, len(state["steps"]) - 1),
            problem=state["problem"],
            text=shorter[-1]["text"],
            context=tuple(step["text"] for step in shorter[:-1]),
        )
        (verdict,) = run_verifier(self.detector, [subject], log=shifted(self.log, len(state["attempts"])))
        spent = state["spent"]
        update: Update = {
            "spent": {
                **spent,
                "probe_calls": spent["probe_calls"] + 1,
                "probe_seconds": spent["probe_seconds"] + verdict.cost.wall_seconds,
            }
        }
        if verdict.outcome is not Outcome.ACCEPT:
            return update
        dropped = [*state["dropped"], *state["steps"][len(shorter) :]]
        return {**update, "steps": shorter, "dropped": dropped, "stop": "complete"}

    def _shortened(self, steps: Sequence[WrittenStep]) -> list[WrittenStep] | None:
        """The steps up to where the last one hesitates; None where it does not, or where nothing stands before."""
        last = steps[-1]
        if not self.hesitation:
            return list(steps)
        found = re.search(self.hesitation, last["text"])
        if found is None:
            return None
        text = last["text"][: found.start()]
        if text.strip():
            return [*steps[:-1], {**last, "text": text, "ids": []}]
        return list(steps[:-1]) or None

    def verify(self, state: SolveState) -> Update:
        """Checks the attempt, and begins another where an error was found."""
        number, spent = len(state["attempts"]), state["spent"]
        checked = self.solution_check(state, number)
        rejected = checked.outcome is Outcome.REJECT
        again = rejected and number + 1 < self.max_attempts
        attempt: SolveAttempt = {
            **unchecked(state["steps"], state["stop"]),
            "outcome": checked.outcome.value,
            "reason": checked.reason,
            "score": checked.score,
            "first_error": checked.first_error,
            "critique": checked.critique,
        }
        reason = "error_found" if again else "attempts_spent" if rejected else f"check_{checked.outcome.value}"
        self._told(state, number, attempt, reason, checked)
        return {
            "attempts": [*state["attempts"], attempt],
            "outcome": checked.outcome.value,
            "spent": {
                **spent,
                "judge_calls": spent["judge_calls"] + checked.calls,
                "judge_seconds": spent["judge_seconds"] + checked.seconds,
            },
            **(_blank() if again else {}),
        }

    def _told(
        self, state: SolveState, number: int, attempt: SolveAttempt, reason: str, checked: Checked | None = None
    ) -> None:
        """The verdict about what became of an attempt."""
        route: Route = {
            "policy": "verify",
            "to": "target",
            "score": attempt["score"],
            "threshold": None,
            "reason": reason,
            "calls": checked.calls if checked else 0,
            "seconds": checked.seconds if checked else 0.0,
        }
        outcome = checked.outcome if checked else Outcome.ABSTAIN
        facts = attempt_facts(attempt, state["spent"], whole=self.whole)
        proposition = self.solution_check.fast.proposition
        claim = RouteVerdict(state["pipeline"], proposition, outcome, attempt["score"], facts)
        Audit(self.log).routed(state, number, route, claim)

    def close(self, state: SolveState) -> Update:
        """The attempt that is the text, its trace, and the verdict about how it ended."""
        attempts = state["attempts"]
        no_room = attempts and state["stop"] == "context" and not state["steps"]  # to begin another: it is none
        if not state["outcome"] and not no_room:
            attempt = unchecked(state["steps"], state["stop"])
            self._told(state, len(attempts), attempt, NOT_CHECKED)
            attempts = [*attempts, attempt]
        output = solve_output(state, attempts, state["dropped"], state["spent"], error=state["error"], whole=self.whole)
        Audit(self.log).closed(output)
        if self.on_trace is not None:
            self.on_trace(finished_trace(output))
        return {**output}


def _blank() -> Update:
    """An attempt that has not begun."""
    return {"steps": [], "phase": "thinking", "stop": None, "outcome": ""}


def _prompt(state: SolveState) -> str:
    """The problem; after a rejected attempt, with its mistake."""
    if not state["attempts"]:
        return state["problem"]
    last = state["attempts"][-1]
    texts = [step["text"] for step in last["steps"]]
    return second_prompt(state["problem"], texts, last["first_error"], last["critique"])


def _key(state: SolveState, granularity: Granularity, position: int) -> SubjectKey:
    return SubjectKey(trace_digest=state["opening"], granularity=granularity, position=position)
