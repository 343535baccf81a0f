"""A reward model's verdicts go the way of all others: verified from a file, stored, measured against labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from draftproof.batch.metrics import count, measure
from draftproof.importers.processbench import ProcessBenchImporter
from draftproof.subject import step_subjects
from draftproof.trace import Source, Trace
from draftproof.verdict import Outcome
from draftproof.verifiers.process_reward.verifier import ProcessRewardVerifier

ROWS = [
    {"steps": ["Ben has 4.", "Then 4 + 3 = 8.", "The answer is 8."], "label": 1, "final_answer_correct": False},
    {"steps": ["Ben has 4.", "Then 4 + 3 = 7.", "The answer is 7."], "label": -1, "final_answer_correct": True},
    {"steps": ["First we count: 3 pens.", "Then 4 - 3 = 1."], "label": 0, "final_answer_correct": False},
    {"steps": ["It is 7."], "label": -1, "final_answer_correct": True},
    {
        "steps": ["More pens, 4 + 3 = 7.", "So he buys 7.", "The answer is 3."],
        "label": 2,
        "final_answer_correct": False,
    },
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [
        {"id": f"gsm8k-{number}", "generator": "nobody", "problem": f"Ben has {number} pens. How many has he?", **row}
        for number, row in enumerate(ROWS)
    ]
    path = tmp_path / "processbench.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def ran(folder: Path, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "draftproof", *words, "--store", "sqlite:///v.db", "--json"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "REPORT" not in done.stderr, "transformers' own talk belongs nowhere"
    return json.loads(done.stdout.splitlines()[-1])


def test_processbench_measures_are_those_of_the_models_own_scores(file: Path, classifier: Path) -> None:
    importer = ProcessBenchImporter()
    traces: list[Trace] = [
        trace
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        for trace in importer.parse(json.loads(line), source=Source(format="processbench", file="f", line=number))
    ]
    scorer = ProcessRewardVerifier(str(classifier))
    scores = [[verdict.score or 0.0 for verdict in scorer.check(list(step_subjects(trace)))] for trace in traces]
    threshold = round(sorted(score for each in scores for score in each)[5], 4)  # some steps on either side

    run = ran(file.parent, "verify", str(file), "--workers", "1",
              "--verifier", f"process-reward:model={classifier},threshold={threshold}")  # fmt: skip
    (counts,) = run["verifiers"]
    assert counts["errored"] == counts["abstained"] == 0
    assert counts["rejected"] == sum(score < threshold for each in scores for score in each)

    shown = ran(file.parent, "runs", "show", run["run"], "--against-labels")["against_labels"]
    rejected = [[place for place, score in enumerate(each) if score < threshold] for each in scores]
    pairs = [(trace.problem, count(trace, places)) for trace, places in zip(traces, rejected, strict=True)]
    expected = {each.name: each.value for each in measure([(p, c) for p, c in pairs if c is not None])}
    assert set(shown) == {"process-reward@1"}
    measures = {name: each["value"] for name, each in shown["process-reward@1"].items()}
    assert measures == expected
    assert measures["processbench_f1"] is not None


def test_a_threshold_of_zero_rejects_nothing_and_one_everything(file: Path, classifier: Path) -> None:
    """The extremes of a rule that accepts at equality."""
    for threshold, outcome in ((0.0, Outcome.ACCEPT), (1.0, Outcome.REJECT)):
        verifier = ProcessRewardVerifier(str(classifier), threshold=threshold)
        problem = "Ben has 4 pens."
        trace = Trace.model_validate({"problem": problem, "steps": [{"text": "4 + 3 = 7."}, {"text": "It is 7."}]})
        assert {verdict.outcome for verdict in verifier.check(list(step_subjects(trace)))} == {outcome}
