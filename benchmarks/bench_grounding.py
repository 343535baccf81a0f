"""The exact checks of the verifier `grounding` on right answers, and on the same with something wrong planted.

    python benchmarks/bench_grounding.py > benchmarks/results/grounding.jsonl

Answers are made as `grounding_answers` tells, each with the gold passages that it cites. Told are the share of planted
answers that are rejected and the share of right ones, by data set, form and kind, with bootstrap intervals over
passages. No model is asked: what the exact checks leave open counts as not rejected.

The readers' rules were made while looking at one half of the passages (by digest); figures are of the other half, or
with `--half tuned` of that. `--show` tells what went wrong, one by one, in place of figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from grounding_answers import Answer, planted, right_answers

from draftproof.metrics.bootstrap import bootstrap
from draftproof.store.runs import git_commit
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome, Verdict
from draftproof.verifiers.grounding.verifier import GroundingVerifier

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DRAFTPROOF_DATA") or ROOT / "data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("reported", "tuned"), default="reported")
    parser.add_argument("--show", action="store_true", help="right answers that are rejected, and plants that are not")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "grounding", "not_run": "no data sets; DRAFTPROOF_DATA names their folder"}))
        return
    right = list(right_answers(DATA))
    answers = [each for each in [*right, *planted(right)] if each.tuned == (arguments.half == "tuned")]
    verdicts = [judged(each) for each in answers]
    if arguments.show:
        for answer, verdict in zip(answers, verdicts, strict=True):
            if bool(answer.kind) != (verdict.outcome is Outcome.REJECT):
                print(json.dumps(shown(answer, verdict), ensure_ascii=False))
        return
    origin = {
        "benchmark": "grounding",
        "half": arguments.half,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "commit": git_commit(ROOT),
    }
    for line in figures(answers, verdicts):
        print(json.dumps(origin | line))
        print(json.dumps(line), file=sys.stderr)


def judged(answer: Answer) -> Verdict:
    subject = Subject(
        key=SubjectKey(trace_digest=f"sha256:{answer.problem}", granularity=Granularity.CLAIM, position=0),
        problem=answer.question,
        text=answer.text,
        documents=answer.documents,
    )
    return GroundingVerifier().check([subject])[0]


def figures(answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> Iterator[dict[str, Any]]:
    """Shares that are rejected: of all, by data set, by kind, and by all three."""
    groups: dict[tuple[str, str, str], list[tuple[str, bool]]] = defaultdict(list)
    for answer, verdict in zip(answers, verdicts, strict=True):
        said = (answer.problem, verdict.outcome is Outcome.REJECT)
        kind = answer.kind or "right"
        for data in (answer.data, "all"):
            for form in (answer.form, "all"):
                for each in {kind, "planted"} if answer.kind else {kind}:
                    groups[data, form, each].append(said)
    for (data, form, kind), said in sorted(groups.items()):
        problems, rejected = zip(*said, strict=True)
        share = bootstrap(lambda column: float(np.mean(column)), problems, [float(each) for each in rejected])
        yield {
            "data": data,
            "form": form,
            "kind": kind,
            "answers": len(said),
            "passages": share.problems,
            "rejected": share.value,
            "low": share.low,
            "high": share.high,
        }


def shown(answer: Answer, verdict: Verdict) -> dict[str, Any]:
    return {
        "data": answer.data,
        "form": answer.form,
        "planted": f"{answer.kind}: {answer.answer} -> {answer.planted}" if answer.kind else None,
        "question": answer.question,
        "text": answer.text,
        "passage": answer.passage,
        "evidence": [f"{each.text}: {each.reason}" for each in verdict.evidence if each.kind == "grounding"],
    }


if __name__ == "__main__":
    main()
