"""Tell the course of a text again from its verdicts alone.

The verdicts of one opening say what was written, kept and thrown away at each position, what was compared and decided,
and how it ended: the output of the graph follows from them, to the last number (of a course that was begun twice, the
store keeps what was said first, and so its times). So a stored route can be checked by
somebody who has neither the models nor the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from draftproof.errors import InputError
from draftproof.pipelines.candidate_replay import candidates_told
from draftproof.pipelines.replay_rows import closing_of, ended, hold_finished, opening_told, written_text
from draftproof.pipelines.solve_replay import solve_told
from draftproof.pipelines.step_audit import FINAL_ANSWER, WRITTEN
from draftproof.pipelines.step_judging import SAMPLES, score_of
from draftproof.pipelines.step_nodes import opened
from draftproof.pipelines.step_output import output_of
from draftproof.pipelines.step_state import (
    Phase,
    Role,
    Route,
    StepInput,
    StepOutput,
    Undecided,
    WrittenStep,
    WrittenText,
)
from draftproof.subject import Granularity
from draftproof.verdict import RouteEvidence, StepEvidence, Verdict


def replay(verdicts: Iterable[Verdict], given: StepInput) -> StepOutput:
    """The output of the graph that gave `verdicts` about the problem `given`. A pure function.

    Of solve-detect-verify it is a `SolveOutput`, of best-of-N a `BestOfNOutput`, of the others a `StepOutput`.

    Verdicts may come in any order and be about other openings too, if only one of them is of this problem. A run that
    was cut off gives what there was of it, with `finish` "error".

    Raises InputError where the verdicts tell of no such problem, of several courses, or contradict themselves.
    """
    by_opening: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_opening[verdict.subject.trace_digest].append(verdict)
    found = [(rows, signature) for digest, rows in by_opening.items() for signature in _signatures(rows, given, digest)]
    if len(found) != 1:
        raise InputError(
            f"The verdicts tell of {len(found)} courses of this problem.",
            remedy="Give those of one opening, and the problem as it was put.",
        )
    try:
        rows, signature = found[0]
        return _TELLERS.get(signature.partition("@")[0], _told)(rows, signature, given)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"These are no verdicts of a step-level graph: {error!r}.") from error


@dataclass
class _Position:
    """What the verdicts say about one step."""

    texts: list[tuple[WrittenText, bool, Phase]] = field(default_factory=list)
    route: Route | None = None
    handed_over: Route | None = None
    scores: dict[Role, float | None] = field(default_factory=dict)


def _signatures(rows: Sequence[Verdict], given: StepInput, digest: str) -> set[str]:
    """Which of the signatures in `rows` makes their opening of this problem: at most one does."""
    named = {row.raw.get("pipeline", row.verifier) for row in rows}
    return {name for name in named if opened(given, name, verifier="", proposition="")["opening"] == digest}


def _told(rows: Sequence[Verdict], signature: str, given: StepInput) -> StepOutput:
    positions: dict[int, _Position] = defaultdict(_Position)
    closing = closing_of(rows, signature)
    for row in rows:
        if row.subject.granularity is not Granularity.TRACE:
            _read(row, positions[row.subject.position])
    opening = opening_told(given, signature, closing)
    finish, error = ended(closing)
    steps: list[WrittenStep] = []
    undecided: Undecided | None = None
    for number in sorted(positions):
        position = positions[number]
        step = _step(position)
        if step is not None:
            if number != len(steps):
                raise InputError(f"Nothing is said about what became of step {len(steps)}.")
            steps.append(step)
        elif position.texts or position.route:
            if undecided is not None:
                raise InputError("Two steps were left undecided, and a text ends with the first.")
            written = sorted(_scored(position), key=lambda text: text["role"])  # the draft's is the first to be written
            undecided = {"written": written, "route": position.handed_over or position.route}
    output = output_of(opening, steps, undecided, finish=finish, error=error)
    hold_finished(output, closing)
    return output


_TELLERS: dict[str, Callable[[Sequence[Verdict], str, StepInput], StepOutput]] = {
    "solve-detect-verify": solve_told,
    "best-of-n": candidates_told,
}
"""Of graphs that write several whole solutions."""


def _read(row: Verdict, position: _Position) -> None:
    evidence = row.evidence[0] if row.evidence else None
    if isinstance(evidence, StepEvidence) and row.reason == WRITTEN:
        position.texts.append((written_text(row, evidence), evidence.kept, row.raw["phase"]))
    elif isinstance(evidence, RouteEvidence):
        route: Route = {
            "policy": evidence.policy,
            "to": "draft" if evidence.to == "draft" else "target",
            "score": evidence.score,
            "threshold": evidence.threshold,
            "reason": row.reason,
            "calls": row.cost.calls,
            "seconds": row.cost.wall_seconds,
        }
        if row.verifier.startswith(FINAL_ANSWER):
            position.handed_over = route
        else:
            position.route = route
    elif row.subject.granularity is Granularity.STEP and not row.verifier.startswith(_WRITERS):
        role: Role = "draft" if row.sample == SAMPLES["draft"] else "target"
        position.scores[role] = score_of(row)


_WRITERS = ("draft-writer@", "target-writer@", "pipeline-writer@")


def _scored(position: _Position) -> list[WrittenText]:
    return [{**text, "score": position.scores.get(text["role"])} for text, _kept, _phase in position.texts]


def _step(position: _Position) -> WrittenStep | None:
    """The step that was kept at a position, if one was."""
    kept = [index for index, (_text, kept, _phase) in enumerate(position.texts) if kept]
    if not kept:
        return None
    if len(kept) > 1 or len(position.texts) > 2:
        raise InputError("The verdicts tell of two texts that were both kept as one step.")
    texts = _scored(position)
    others = [text for index, text in enumerate(texts) if index != kept[0]]
    return {
        **texts[kept[0]],
        "phase": position.texts[kept[0]][2],
        "route": position.handed_over or position.route,
        "discarded": others[0] if others else None,
    }
