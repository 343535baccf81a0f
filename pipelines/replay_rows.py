"""What every replay reads off the verdicts of one opening, whatever graph gave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import get_args

from draftproof.errors import InputError
from draftproof.pipelines.step_audit import WRITTEN
from draftproof.pipelines.step_nodes import opened
from draftproof.pipelines.step_state import Finish, Opening, StepInput, StepOutput, WrittenStep, WrittenText
from draftproof.subject import Granularity
from draftproof.verdict import FeatureEvidence, StepEvidence, Verdict

CUT_OFF = "There is no verdict about how the text ended: the run was cut off."


def closing_of(rows: Sequence[Verdict], signature: str) -> Verdict | None:
    """The graph's own verdict about how the text ended; None of a run that was cut off."""
    found = [row for row in rows if row.subject.granularity is Granularity.TRACE and row.verifier == signature]
    return found[-1] if found else None


def opening_told(given: StepInput, signature: str, closing: Verdict | None) -> Opening:
    """Raises InputError where the closing verdict is of another attempt than the problem that is `given`."""
    raw: Mapping[str, str] = {"verifier": "", "proposition": ""} if closing is None else closing.raw
    opening = opened(given, signature, verifier=raw["verifier"], proposition=raw["proposition"])
    if raw.get("attempt", opening["attempt"]) != opening["attempt"]:
        raise InputError(f"The verdicts are of attempt {raw['attempt']}, not of {opening['attempt']}.")
    return opening


def ended(closing: Verdict | None) -> tuple[Finish, str]:
    """`finish` and `error`. Raises InputError for what is no way to end."""
    if closing is None:
        return "error", CUT_OFF
    if closing.reason not in get_args(Finish):
        raise InputError(f"A text does not end by {closing.reason!r}.")
    return closing.reason, str(closing.raw["error"])  # type: ignore[return-value]  # just checked


def hold_finished(output: StepOutput, closing: Verdict | None) -> None:
    """Raises InputError where the closing verdict speaks of another text than the other verdicts tell of."""
    if closing is None:
        return
    told = len(output["steps"]), output["trace"], output["finish"]
    if (closing.raw["steps"], closing.raw["trace"], closing.reason) != told:
        raise InputError("The steps that the verdicts tell of are not those of the finished text: some are missing.")


def written_text(row: Verdict, evidence: StepEvidence) -> WrittenText:
    """What a model wrote in one go, by its verdict."""
    features = next((e.values for e in row.evidence if isinstance(e, FeatureEvidence)), {})
    return {
        "text": evidence.text,
        "role": evidence.role,  # type: ignore[typeddict-item]
        "model": evidence.model,
        "ids": list(row.raw["ids"]),
        "tokens": evidence.tokens,
        "cause": evidence.cause,
        "prompt_tokens": row.cost.prompt_tokens,
        "seconds": row.cost.wall_seconds,
        "score": None,
        "features": dict(features),
    }


def written_by_sample(rows: Sequence[Verdict]) -> dict[int, list[WrittenStep]]:
    """Sample -> the steps of that attempt or candidate, in their order, as they were written.

    Raises InputError where one of them is missing, or there twice.
    """
    found: dict[int, dict[int, WrittenStep]] = defaultdict(dict)
    for row in rows:
        evidence = row.evidence[0] if row.evidence else None
        if row.reason != WRITTEN or not isinstance(evidence, StepEvidence):
            continue
        if row.subject.position in found[row.sample]:
            raise InputError(f"Two texts were written as step {row.subject.position} of solution {row.sample}.")
        text = written_text(row, evidence)
        step: WrittenStep = {**text, "phase": row.raw["phase"], "route": None, "discarded": None}
        found[row.sample][row.subject.position] = step
    for sample, steps in found.items():
        missing = set(range(len(steps))) - steps.keys()
        if missing:
            raise InputError(f"Nothing is said about step {min(missing)} of solution {sample}.")
    return {sample: [steps[position] for position in range(len(steps))] for sample, steps in found.items()}
