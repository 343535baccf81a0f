"""Which steps are right: what a head is taught.

A source of labels is the traces' own, or any verifier of steps whose score is about correctness: an exact one, a
judge, another head. What a verifier abstains from or breaks on is unknown, and so is everything after a trace's first
wrong step: what rests on an error is neither right nor wrong. Unknown steps teach nothing; they are counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import InputError, UsageError
from draftproof.subject import Granularity, step_subjects
from draftproof.trace import StepLabel, Trace
from draftproof.verdict import Outcome, Proposition, Verdict
from draftproof.verifier import Verifier, identity, run_verifier

TRACES = "traces"
"""The source that is the traces' own labels."""


@dataclass(frozen=True)
class LabelCounts:
    """What became of all steps: the five add up to them."""

    correct: int = 0
    incorrect: int = 0
    after_error: int = 0
    """Behind the first wrong step of their trace."""
    unknown: int = 0
    """The source says nothing of them."""
    errors: int = 0
    """The source broke on them."""

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Labelled:
    """Traces with a label for each step."""

    traces: tuple[Trace, ...]
    labels: tuple[tuple[StepLabel, ...], ...]
    counts: LabelCounts
    source: str
    """`traces`, or a verifier's identity."""
    neutral: tuple[str, ...] = ()
    """What the importer of PRM800K took a neutral rating for, where such traces are among these: sources disagree
    (Qwen's counts it right, TRL's converter wrong), and `--format prm800k:neutral=…` decides."""

    @property
    def provenance(self) -> dict[str, Any]:
        """JSON values that say where the labels come from."""
        said: dict[str, Any] = {"source": self.source, "steps": asdict(self.counts)}
        return said | ({"neutral": list(self.neutral)} if self.neutral else {})


def label(
    traces: Sequence[Trace], source: Verifier | None, *, file: Path | None = None, report: Report = silent
) -> Labelled:
    """Labels of `traces` by a verifier; None takes their own.

    `file` keeps what a verifier said, trace by trace: provers and judges take their time, and a run that was killed
    asks no trace twice.

    Raises UsageError for a verifier of something else, InputError where no trace has labels of its own.
    """
    neutral = tuple(sorted({str(trace.meta["neutral"]) for trace in traces if _is_prm800k(trace)}))
    if source is None:
        own = [_own(trace) for trace in traces]
        if not any(trace.step_labels for trace in traces):
            raise InputError(
                f"None of the {len(traces)} traces says which of its steps are right.",
                remedy="Have a verifier label them, such as --labels arithmetic.",
            )
        return _labelled(traces, own, TRACES, neutral)
    if source.granularity is not Granularity.STEP or source.proposition is not Proposition.CORRECT:
        raise UsageError(
            f"{source.name} judges whether a {source.granularity.value} is {source.proposition.value}; labels need a "
            "verifier that judges whether a step is correct."
        )
    signature = identity(source)
    known = {} if file is None else _known(file, signature)
    said = []
    for number, trace in enumerate(traces, start=1):
        names = known.get(trace.digest)
        if names is None or len(names) != len(trace.steps):
            verdicts = run_verifier(source, list(step_subjects(trace)), log=_Unlogged())
            names = [_NAMES[verdict.outcome] for verdict in verdicts]
            if file is not None and _ERROR not in names:  # what broke is asked again
                _append(file, {"verifier": signature, "trace": trace.digest, "labels": names})
        said.append(names)
        report("labelling", number, len(traces), "")
    return _labelled(traces, said, signature, ())


def _known(file: Path, signature: str) -> dict[str, list[str]]:
    """Labels that an earlier run of this very verifier has left, by trace. A line that a kill cut off is passed over,
    and ended."""
    found: dict[str, list[str]] = {}
    if not file.is_file():
        return found
    held = file.read_bytes()
    if held and not held.endswith(b"\n"):
        with file.open("ab") as out:
            out.write(b"\n")
    for line in held.splitlines():
        try:
            record = json.loads(line)
            if record["verifier"] == signature:
                found[str(record["trace"])] = [StepLabel(name).value for name in record["labels"]]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _append(file: Path, record: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        out.write(json.dumps(record).encode() + b"\n")


class _Unlogged:
    """Labels are kept with the head that is trained on them, not as verdicts."""

    def add(self, verdicts: Sequence[Verdict]) -> None:
        pass


_ERROR = "error"
_NAMES = {
    Outcome.ACCEPT: StepLabel.CORRECT.value,
    Outcome.REJECT: StepLabel.INCORRECT.value,
    Outcome.ABSTAIN: StepLabel.UNKNOWN.value,
    Outcome.ERROR: _ERROR,
}


def _own(trace: Trace) -> list[str]:
    if trace.step_labels is None:
        return [StepLabel.UNKNOWN.value] * len(trace.steps)
    return [each.value for each in trace.step_labels]


def _is_prm800k(trace: Trace) -> bool:
    return trace.source is not None and trace.source.format == "prm800k" and "neutral" in trace.meta


def _labelled(
    traces: Sequence[Trace], said: Sequence[Sequence[str]], source: str, neutral: tuple[str, ...]
) -> Labelled:
    kept: list[tuple[StepLabel, ...]] = []
    counts = LabelCounts()
    for each in said:
        wrong = next((place for place, name in enumerate(each) if name == StepLabel.INCORRECT.value), len(each))
        upto = each[: wrong + 1]
        counts += LabelCounts(
            correct=upto.count(StepLabel.CORRECT.value),
            incorrect=upto.count(StepLabel.INCORRECT.value),
            after_error=len(each) - len(upto),
            unknown=upto.count(StepLabel.UNKNOWN.value),
            errors=upto.count(_ERROR),
        )
        known = [StepLabel.UNKNOWN if name == _ERROR else StepLabel(name) for name in upto]
        kept.append((*known, *[StepLabel.UNKNOWN] * (len(each) - len(upto))))
    return Labelled(tuple(traces), tuple(kept), counts, source, neutral)
