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
last attempt that ended by itself is the text (a retry that is cut off or goes in circles replaces nothing); the others
are kept beside it. A solver has to follow instructions to try again: one that was never shown a critique, as the pocket
models, gets better with `max_attempts=1`. Unanimous fast draws are never corrected by the slow
verifier, however wrong they are; `k=0` asks the slow one always.

Verdicts stand under the problem's opening. The sample number tells attempts apart: it is the attempt's own for what was
written and detected, and `attempt · k` and above for checks. What was written is told as it was written, and as kept
with regard to its own attempt; the verdict of granularity `route` at the attempt's number says what became of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from draftproof.errors import UsageError
from draftproof.language_model import GREEDY, Decoding, LanguageModel
from draftproof.pipelines.long_runs import for_long_runs
from draftproof.pipelines.solution_check import SolutionCheck
from draftproof.pipelines.solve_nodes import SolveNodes
from draftproof.pipelines.solve_state import SolveOutput, SolveState
from draftproof.pipelines.step_audit import Pipeline, configured
from draftproof.pipelines.step_internals import internals_wanted, require_told
from draftproof.pipelines.step_loop import Writer
from draftproof.pipelines.step_state import StepInput, StepSettings, number, whole_number
from draftproof.subject import Granularity
from draftproof.trace import Trace
from draftproof.verdict import Proposition
from draftproof.verifier import VerdictLog, Verifier, identity

VERSION = 3
"""3: parts of one step are no repetition; the check is told what the solver knew."""
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
        max_attempts: Solutions in all. More than one asks the solver to mend a mistake that it is told of, which takes
            a model that follows instructions.
        whole: Write each solution in one request, for servers that cannot go on from a text. Nothing is detected then.

    Raises UsageError for what does not fit together.
    """
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise UsageError(f"There must be one attempt at least, not {max_attempts!r}.")
    whole_number("k", k, least=0)
    if not 0.5 <= number("tau", tau) <= 1.0:
        raise UsageError(f"tau is a share from ½ to 1, not {tau!r}.")
    try:
        re.compile(hesitation)
    except (re.error, TypeError) as error:
        raise UsageError(f"hesitation is no regular expression: {error}.") from error
    if detector is not None:
        _require_detector(detector, whole)
    check = SolutionCheck(fast, slow, k, tau, log)
    told = () if whole else (solver.identity,)
    for verifier in (fast,) if slow is None else (fast, slow):
        require_told(verifier, told, "Checking a solution")
    settings = settings or StepSettings()
    configuration = configured(
        solver, solver, settings, decoding, check=check.identity, max_attempts=max_attempts, whole=whole,
        detector="" if detector is None else identity(detector), hesitation=hesitation if detector else "",
    )  # fmt: skip
    nodes = SolveNodes(
        Pipeline("solve-detect-verify", VERSION, configuration),
        Writer("target", solver, decoding, settings, internals_wanted(check.verifier(log), solver.identity)),
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


def _require_detector(detector: Verifier, whole: bool) -> None:
    if whole:
        raise UsageError("A solution that is written at once is not looked at on the way: there is nothing to detect.")
    if (detector.granularity, detector.proposition) != (Granularity.STEP, Proposition.COMPLETE):
        raise UsageError(
            f"A detector judges of steps whether the solution is complete with them; {detector.name} judges of a"
            f" {detector.granularity.value} whether it is {detector.proposition.value}."
        )
