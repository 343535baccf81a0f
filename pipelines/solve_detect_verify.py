"""Solve, see when the solution is complete, check it, and try again with the check's critique (arXiv 2505.11966).

    open ─> solve ─┬─hesitates──> detect ──complete──> verify ──accepted, undecided, or attempts spent──> close
              ^    ├─ended───────────────────────────────^ │
              └────┴─goes on <──────incomplete─────────────┴──rejected: a new attempt begins

    solve    a model writes, step by step or all at once
    detect   where a step hesitates (or at every step), a verifier is asked whether the solution is complete; then it is
             cut there, before the model talks itself out of it. The paper pauses in the middle of a step; here the step
             is written to its end first, and cut at the word it hesitated with
    verify   k fast draws, the slow verifier where too few of them agree; the first error is read from their verdicts
    again    a rejected attempt is quoted to the solver up to its first error, with what the check said; where the
             context has no room for that, the rejected attempt stays

A check that abstains or fails finds no error: the attempt stays, and `outcome` says that nobody found it right. The
last attempt is the text; what came before is kept beside it. Unanimous fast draws are never corrected by the slow
verifier, however wrong they are; `k=0` asks the slow one always.

Verdicts stand under the problem's opening. The sample number tells attempts apart: it is the attempt's own for what was
written and detected, and `attempt · k` and above for checks. What was written is told as it was written, and as kept
with regard to its own attempt; the verdict of granularity `route` at the attempt's number says what became of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from draftproof.errors import ContextLengthError, UsageError
from draftproof.language_model import GREEDY, Decoding, LanguageModel
from draftproof.pipelines.long_runs import for_long_runs
from draftproof.pipelines.sampled_log import shifted
from draftproof.pipelines.second_attempt import second_prompt
from draftproof.pipelines.solution_check import SolutionCheck
from draftproof.pipelines.solve_state import SolveAttempt, SolveOutput, SolveState, Stop
from draftproof.pipelines.step_audit import Audit, Pipeline, RouteVerdict, configured, finished_trace
from draftproof.pipelines.step_counts import counts_of, seconds_of
from draftproof.pipelines.step_loop import Writer, after, closed_thinking, closing_step, context_of, phase_of
from draftproof.pipelines.step_nodes import Update, attempt_of, failure, opened
from draftproof.pipelines.step_state import Route, StepInput, StepSettings, Undecided, WrittenStep
from draftproof.pipelines.whole_texts import write_whole
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Proposition
from draftproof.verifier import VerdictLog, Verifier, identity, run_verifier

VERSION = 1
ATTEMPTS = 2
HESITATION = r"(?i)\b(?:wait|hmm+|hold on|alternatively|on second thought|actually|let me (?:re-?)?check)\b"
"""Words that solvers hesitate with. They differ from solver to solver."""

SolveGraph = StateGraph[SolveState, None, StepInput, SolveOutput]
CompiledSolveGraph = CompiledStateGraph[SolveState, None, StepInput, SolveOutput]


def create_solve_detect_verify(
    solver: LanguageModel,
    *,
    checkpointer: Checkpointer = None,
    interrupt_before: Sequence[str] = (),
    **options: Any,
) -> CompiledSolveGraph:
    """The graph of `build_solve_detect_verify`, ready to be invoked, however many steps its settings allow."""
    graph = build_solve_detect_verify(solver, **options).compile(
        checkpointer, interrupt_before=list(interrupt_before), name="solve_detect_verify"
    )
    steps = 2 * (options.get("settings") or StepSettings()).max_steps  # of thinking and of the answer
    attempts = options.get("max_attempts", ATTEMPTS)
    return for_long_runs(graph, attempts * (2 * steps + 2) + 10)


def build_solve_detect_verify(
    solver: LanguageModel,
    *,
    log: VerdictLog,
    fast: Verifier,
    slow: Verifier | None = None,
    k: int = 8,
    tau: float = 0.75,
    detector: Verifier | None = None,
    hesitation: str = HESITATION,
    max_attempts: int = ATTEMPTS,
    whole: bool = False,
    settings: StepSettings | None = None,
    decoding: Decoding = GREEDY,
    on_trace: Callable[[Trace], None] | None = None,
) -> SolveGraph:
    """One problem a run; any number of runs at once.

    Args:
        log: Where every verdict goes before anything is decided by it.
        fast: Verifier of steps or of whole solutions, asked k times; alone and once where there is no slow one.
        slow: Asked where less than a share `tau` of the fast draws agree.
        detector: Verifier of steps, of the proposition `complete`: whether the solution is, with this step. For one
            that asks a model, see `CompletenessProbe`. None detects nothing.
        hesitation: Regular expression of the places at which the detector is asked; empty for the end of every step.
        max_attempts: Solutions in all.
        whole: Write each solution in one request, for servers that cannot go on from a text. Nothing is detected then.

    Raises UsageError for what does not fit together.
    """
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise UsageError(f"There must be one attempt at least, not {max_attempts!r}.")
    if isinstance(k, bool) or not isinstance(k, int) or not isinstance(tau, (int, float)):
        raise UsageError(f"k is a whole number and tau a share, not {k!r} and {tau!r}.")
    try:
        re.compile(hesitation)
    except (re.error, TypeError) as error:
        raise UsageError(f"hesitation is no regular expression: {error}.") from error
    if detector is not None:
        _require_detector(detector, whole)
    check = SolutionCheck(fast, slow, k, tau, log)
    settings = settings or StepSettings()
    configuration = configured(
        solver, solver, settings, decoding, check=check.identity, max_attempts=max_attempts, whole=whole,
        detector="" if detector is None else identity(detector), hesitation=hesitation if detector else "",
    )  # fmt: skip
    nodes = SolveNodes(
        Pipeline("solve-detect-verify", VERSION, configuration),
        Writer("target", solver, decoding, settings),
        log,
        check,
        detector,
        hesitation,
        max_attempts,
        whole,
        on_trace,
    )
    graph: SolveGraph = StateGraph(SolveState, input_schema=StepInput, output_schema=SolveOutput)
    graph.add_node("open", nodes.open)
    graph.add_node("solve", nodes.solve)
    graph.add_node("verify", nodes.verify)
    graph.add_node("close", nodes.close)
    graph.add_edge(START, "open")
    graph.add_edge("open", "solve")
    after_solve = ["solve", "verify", "close"]
    if detector is not None:
        graph.add_node("detect", nodes.detect)
        graph.add_conditional_edges("detect", after_detect, ["solve", "verify"])
        after_solve.append("detect")
    graph.add_conditional_edges("solve", nodes.after_solve, after_solve)
    graph.add_conditional_edges("verify", after_verify, ["solve", "close"])
    graph.add_edge("close", END)
    return graph


def after_detect(state: SolveState) -> str:
    return "verify" if state["stop"] else "solve"


def after_verify(state: SolveState) -> str:
    return "close" if state["stop"] else "solve"


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
        text = self.writer.write(prompt, state["steps"], state["phase"], attempt=seed)
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
        number = len(state["attempts"])
        checked = self.solution_check(state, number)
        rejected, stop = checked.outcome is Outcome.REJECT, state["stop"]
        again = rejected and number + 1 < self.max_attempts
        reason = "error_found" if again else "attempts_spent" if rejected else f"check_{checked.outcome.value}"
        route: Route = {
            "policy": "verify", "to": "target", "score": checked.score, "threshold": None, "reason": reason,
            "calls": checked.calls, "seconds": checked.seconds,
        }  # fmt: skip
        claim = RouteVerdict(state["pipeline"], self.solution_check.fast.proposition, checked.outcome, checked.score)
        Audit(self.log).routed(state, number, route, claim)
        attempt: SolveAttempt = {
            **_unchecked(state),
            "outcome": checked.outcome.value,
            "reason": checked.reason,
            "score": checked.score,
            "first_error": checked.first_error,
            "critique": checked.critique,
        }
        spent = state["spent"]
        return {
            "attempts": [*state["attempts"], attempt],
            "outcome": checked.outcome.value,
            "spent": {
                **spent,
                "judge_calls": spent["judge_calls"] + checked.calls,
                "judge_seconds": spent["judge_seconds"] + checked.seconds,
            },
            **(_blank() if again else {"stop": stop}),
        }

    def close(self, state: SolveState) -> Update:
        """The last attempt as the text, its trace, and the verdict about how it ended."""
        attempts, spent, steps = state["attempts"], state["spent"], state["steps"]
        stop, outcome = state["stop"] or "error", state["outcome"]
        if attempts and stop == "context" and not steps:  # no room to begin another: the one before is the last
            steps, stop, outcome = attempts[-1]["steps"], attempts[-1]["stop"], attempts[-1]["outcome"]
        elif not outcome:
            attempts = [*attempts, _unchecked(state)]
        rejected = [step for each in attempts[:-1] for step in each["steps"]]
        lost: Undecided = {"written": [*rejected, *state["dropped"]], "route": None}
        counts = counts_of(steps, lost)
        counts = {**counts, "probe_calls": spent["probe_calls"], "judge_calls": spent["judge_calls"]}
        if self.whole:
            counts["target_calls"] = len(attempts)
        output: SolveOutput = {
            "problem": state["problem"],
            "id": state["id"],
            "reference_answer": state["reference_answer"],
            "attempt": state["attempt"],
            "pipeline": state["pipeline"],
            "verifier": state["verifier"],
            "proposition": state["proposition"],
            "opening": state["opening"],
            "steps": steps,
            "undecided": None,
            "text": "".join(step["text"] for step in steps),
            "answer": "".join(step["text"] for step in steps if step["phase"] == "answer"),
            "finish": "end" if stop == "complete" else stop,
            "error": state["error"],
            "trace": "",
            "counts": counts,
            "seconds": {
                **seconds_of(steps, lost),
                "probe": spent["probe_seconds"],
                "judge": spent["judge_seconds"],
            },
            "attempts": attempts,
            "outcome": outcome,
        }
        trace = finished_trace(output)
        output["trace"] = trace.digest
        Audit(self.log).closed(output)
        if self.on_trace is not None:
            self.on_trace(trace)
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


def _unchecked(state: SolveState) -> SolveAttempt:
    stop: Stop = state["stop"] or "error"
    return {
        "steps": state["steps"],
        "text": "".join(step["text"] for step in state["steps"]),
        "stop": stop,
        "outcome": "",
        "reason": "",
        "score": None,
        "first_error": None,
        "critique": "",
    }


def _key(state: SolveState, granularity: Granularity, position: int) -> SubjectKey:
    return SubjectKey(trace_digest=state["opening"], granularity=granularity, position=position)


def _require_detector(detector: Verifier, whole: bool) -> None:
    if whole:
        raise UsageError("A solution that is written at once is not looked at on the way: there is nothing to detect.")
    if (detector.granularity, detector.proposition) != (Granularity.STEP, Proposition.COMPLETE):
        raise UsageError(
            f"A detector judges of steps whether the solution is complete with them; {detector.name} judges of a"
            f" {detector.granularity.value} whether it is {detector.proposition.value}."
        )
