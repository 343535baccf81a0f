"""Tell the course of a best-of-N run again: each candidate with its own steps, scores and standing."""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.errors import InputError
from draftproof.pipelines.candidate_output import NOBODY, SELECTION, Chosen, best_of_output, candidate_of
from draftproof.pipelines.candidate_state import BestOfNOutput, Candidate
from draftproof.pipelines.replay_rows import closing_of, ended, hold_finished, opening_told, written_by_sample
from draftproof.pipelines.step_judging import score_of
from draftproof.pipelines.step_state import StepInput, WrittenStep
from draftproof.pipelines.whole_texts import WholeText, finish_of
from draftproof.subject import Granularity
from draftproof.verdict import FeatureEvidence, Verdict


def candidates_told(rows: Sequence[Verdict], signature: str, given: StepInput) -> BestOfNOutput:
    """The output of the graph that gave `rows`, all about one opening. Raises InputError where they contradict
    themselves, or one of them is missing."""
    closing = closing_of(rows, signature)
    opening = opening_told(given, signature, closing)
    written = written_by_sample(rows)
    standings = {row.sample: row for row in rows if row.verifier.startswith(SELECTION)}
    numbers = sorted(standings)
    if numbers != list(range(len(numbers))) or (closing is not None and written.keys() - standings.keys()):
        raise InputError(f"The verdicts tell how the candidates {numbers} stand: some are missing.")
    judged = [row for row in rows if opening["verifier"] and row.verifier == opening["verifier"]]
    candidates = [
        _candidate(standings[number], written.get(number, []), judged, opening["reference_answer"])
        for number in numbers
    ]
    first = standings[0] if numbers else None
    finish, error = ended(closing)
    output = best_of_output(
        opening,
        candidates,
        NOBODY if first is None else Chosen(first.raw["winner"], first.raw["by"], first.reason),
        finish=finish,
        error=error,
        judge_calls=len(judged),
        judge_seconds=0.0 if first is None else first.raw["judge_seconds"],
    )
    if closing is None:
        output["finish"] = finish
    hold_finished(output, closing)
    return output


def _candidate(
    standing: Verdict, steps: list[WrittenStep], judged: Sequence[Verdict], reference: str | None
) -> Candidate:
    number = standing.sample
    if len(steps) != standing.raw["steps"]:
        raise InputError(f"Candidate {number} has {standing.raw['steps']} steps, and {len(steps)} are told of.")
    scores = [each.values for each in standing.evidence if isinstance(each, FeatureEvidence)]
    mine = [row for row in judged if row.sample == number and row.subject.granularity is Granularity.STEP]
    by_step = {row.subject.position: score_of(row) for row in mine}
    if by_step and by_step.keys() != set(range(len(steps))):
        raise InputError(f"Not every step of candidate {number} was judged.")
    return {
        **candidate_of(WholeText(steps, finish_of(steps[-1]["cause"])), reference),
        "score": scores[0]["score"] if scores else None,
        "step_scores": [by_step[position] for position in sorted(by_step)],
    }
