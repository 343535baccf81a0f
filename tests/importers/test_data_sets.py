"""Whole published data sets, where a folder has them: every row is read and the labels fit."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from draftproof.importers import Progress, read_traces
from draftproof.rejects import RejectsList
from draftproof.trace import StepLabel

DATA = Path(os.environ.get("DRAFTPROOF_DATA") or Path(__file__).parents[2] / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets at {DATA}; DRAFTPROOF_DATA names their folder")

# Rows as the data sets' own pages give them; each row of gsm8k's model solutions holds four models.
FILES = {
    "gsm8k/example_model_solutions": ("gsm8k-models", 786, 3144),
    "gsm8k/test": ("gsm8k", 786, 786),
    "gsm8k/test_socratic": ("gsm8k", 786, 786),
    "gsm8k/train": ("gsm8k", 5972, 5972),
    "processbench/gsm8k": ("processbench", 246, 246),
    "processbench/math": ("processbench", 608, 608),
    "processbench/olympiadbench": ("processbench", 552, 552),
    "processbench/omnimath": ("processbench", 600, 600),
    "mr_gsm8k/items": ("mr-gsm8k", 353, 353),
    "mr_gsm8k/judged_by_Claude": ("mr-gsm8k", 191, 191),
    "mr_gsm8k/judged_by_GPT3_5": ("mr-gsm8k", 111, 111),
    "mr_gsm8k/judged_by_llama2_70b": ("mr-gsm8k", 196, 196),
    "mr_gsm8k/judged_by_mammoth_70B": ("mr-gsm8k", 1, 1),
    "mr_gsm8k/judged_by_metamath_70B": ("mr-gsm8k", 13, 13),
    "mr_gsm8k/judged_by_wizardmath_70B": ("mr-gsm8k", 2, 2),
    "big_bench_mistake/dyck_languages": ("big-bench-mistake", 586, 586),
    "big_bench_mistake/logical_deduction": ("big-bench-mistake", 179, 179),
    "big_bench_mistake/multistep_arithmetic": ("big-bench-mistake", 164, 164),
    "big_bench_mistake/tracking_shuffled_objects": ("big-bench-mistake", 171, 171),
    "big_bench_mistake/word_sorting": ("big-bench-mistake", 190, 190),
    "prm800k_sample/level5_late_errors": ("latebench", 130, 130),
    "prmbench/prm_test_p12_multi_solutions": ("prmbench", 96, 96),
}
PRMBENCH_ROWS = 3667


def import_set(name, format="auto"):
    rejects, progress = RejectsList(), Progress()
    traces = list(read_traces(DATA / f"{name}.jsonl.gz", format, rejects=rejects, progress=progress))
    assert rejects == []
    return traces, progress


def rows(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_read_and_nothing_is_rejected(name):
    format, lines, count = FILES[name]
    traces, progress = import_set(name)
    assert (progress.lines, progress.read, len(traces)) == (lines, lines, count)
    assert {trace.source.format for trace in traces} == {format}
    assert len({trace.id for trace in traces}) == len(traces)


def test_prmbench_is_read_whole_with_unique_ids():
    files = sorted((DATA / "prmbench").glob("*.jsonl.gz"))
    ids, read, beyond = set(), 0, 0
    for file in files:
        traces, progress = import_set(f"prmbench/{file.name.removesuffix('.jsonl.gz')}", "prmbench:process=both")
        read += progress.read
        ids.update(trace.id for trace in traces)
        for modified, original in zip(traces[::2], traces[1::2], strict=True):
            assert original.first_error is None
            wrong = modified.meta["error_steps"]
            inside = [step for step in wrong if step <= len(modified.steps)]
            beyond += len(inside) < len(wrong)
            expected = min(wrong) - 1 if wrong and min(wrong) <= len(modified.steps) else None
            assert modified.first_error == expected
    assert (len(files), read) == (25, PRMBENCH_ROWS)
    assert len(ids) == 2 * PRMBENCH_ROWS
    assert 0.01 < beyond / read < 0.03, "the page of the set says about 2%"


@pytest.mark.parametrize(
    ("name", "key", "base"),
    [
        ("processbench/omnimath", "label", 0),
        ("big_bench_mistake/dyck_languages", "mistake_index", 0),
        ("mr_gsm8k/items", "model_output_solution_first_error_step", 1),
    ],
)
def test_the_first_error_is_the_one_that_the_row_names(name, key, base):
    traces, _progress = import_set(name)
    for row, trace in zip(rows(name), traces, strict=True):
        expected = None if row[key] in (None, -1) else row[key] - base
        assert trace.first_error == expected
        labels = trace.step_labels or ()
        assert len(labels) == len(trace.steps)
        if expected is not None:
            assert set(labels[:expected]) <= {StepLabel.CORRECT}
            assert set(labels[expected + 1 :]) <= {StepLabel.UNKNOWN}


def test_mr_gsm8k_error_steps_name_the_step_that_says_so():
    """`Step 2: …` is the second step: the texts themselves prove the base."""
    traces, _progress = import_set("mr_gsm8k/items")
    agree = sum(trace.steps[trace.first_error].text.startswith(f"Step {trace.first_error + 1}:") for trace in traces)
    assert agree / len(traces) > 0.99


def test_gsm8k_models_are_as_often_right_as_the_page_says():
    traces, _progress = import_set("gsm8k/example_model_solutions")
    right = Counter(trace.generator for trace in traces if trace.answer_correct)
    assert right == {"6b_finetuning": 176, "6b_verification": 306, "175b_finetuning": 278, "175b_verification": 459}
    for trace in traces:
        if trace.final_answer is not None and trace.reference_answer is not None:
            same = trace.final_answer.replace(",", "") == trace.reference_answer.replace(",", "")
            assert same is trace.answer_correct


def test_processbench_answers_and_labels_are_as_the_page_says():
    surprising = {
        name: sum(bool(t.answer_correct) and t.first_error is not None for t in import_set(f"processbench/{name}")[0])
        for name in ("gsm8k", "math", "olympiadbench", "omnimath")
    }
    assert surprising == {"gsm8k": 4, "math": 59, "olympiadbench": 87, "omnimath": 159}


def test_the_late_errors_are_the_last_steps():
    traces, _progress = import_set("prm800k_sample/level5_late_errors")
    assert all(trace.first_error == len(trace.steps) - 1 >= 11 for trace in traces)


def test_reading_is_fast_enough():
    """Half of the floor of 5,000 traces a second, since the machine may be busy; about 30,000 are usual."""
    begin = time.process_time()
    traces, _progress = import_set("gsm8k/train")
    assert len(traces) / (time.process_time() - begin) > 2_500
