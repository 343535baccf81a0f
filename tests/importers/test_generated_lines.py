"""Twenty thousand malformed lines: each is read or rejected under its own number, and none ends the run."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftproof.importers import Progress, RecordError, formats, read_traces
from draftproof.importers.registry import parse_format
from draftproof.importers.strict_json import StrictReader
from draftproof.rejects import RejectCode, RejectsList
from draftproof.trace import Source

FIXTURES = Path(__file__).parents[1] / "fixtures" / "traces"
LINES_A_FILE = 50
FILES = 400

ROWS = {
    name: [line for line in (FIXTURES / file).read_bytes().split(b"\n") if line]
    for name, file in {
        "gsm8k": "gsm8k.jsonl",
        "gsm8k-models": "gsm8k_models.jsonl",
        "processbench": "processbench.jsonl",
        "prm800k": "prm800k.jsonl",
        "latebench": "latebench.jsonl",
        "mr-gsm8k": "mr_gsm8k.jsonl",
        "big-bench-mistake": "big_bench_mistake.jsonl",
        "prmbench": "prmbench.jsonl",
        "lm-eval": "lm_eval.jsonl",
        "chat": "chat.jsonl",
        "trl": "trl.jsonl",
    }.items()
}
ROWS["plain"] = [b'{"problem": "p", "steps": ["a", "b"], "step_labels": ["correct", "unknown"], "answer": 4}']
ROWS["inspect"] = [
    json.dumps(sample, allow_nan=True).encode()
    for sample in json.loads((FIXTURES / "inspect_unscored.json").read_text(encoding="utf-8"))["samples"]
]
JUNK = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    0.5,
    "",
    " ",
    "x",
    "4",
    [],
    [None],
    [[]],
    {},
    {"a": 1},
    [{}],
    ["a", 1],
    "\n\n",
    [True],
]
BYTES = [
    b"\x00",
    b"\xff",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"NaN",
    b"1e999",
    b"\r",
    b" ",
    b"\xef\xbb\xbf",
]


def malformed(row: bytes, draw: random.Random) -> bytes:
    """One line without a line feed: a real row with something done to it, or no row at all."""
    kind = draw.randrange(8)
    if kind == 0:
        return row[: draw.randrange(len(row))]
    if kind == 1:
        at = draw.randrange(len(row))
        return row[:at] + draw.choice(BYTES) + row[at + draw.randrange(3) :]
    if kind == 2:
        return draw.randbytes(draw.randrange(60)).replace(b"\n", b"")
    if kind == 3:
        return row + draw.choice([row, b" ", b"}", b"\x00"])
    if kind == 4:
        return row.replace(b'"', draw.choice([b"'", b"", b'""']), draw.randrange(1, 4))
    return json.dumps(_altered(json.loads(row), draw), allow_nan=True).encode()


def _altered(value: object, draw: random.Random) -> object:
    """The value with one thing in it, at any depth, replaced, removed or doubled."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {other: value[other] for other in value if other != key}
        return {**value, key: _altered(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        if draw.random() < 0.2:
            return value[:at] + value[at + 1 :]
        if draw.random() < 0.1:
            return value + value[at:]
        return [*value[:at], _altered(value[at], draw), *value[at + 1 :]]
    return draw.choice(JUNK)


@pytest.mark.parametrize("format", sorted(ROWS))
def test_every_malformed_line_is_read_or_rejected(tmp_path_factory, format):
    folder = tmp_path_factory.mktemp("generated")
    files = FILES // len(ROWS) + 1
    seen: set[RejectCode] = set()

    @settings(max_examples=files, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32), automatic=st.booleans())
    def check(seed: int, automatic: bool) -> None:
        draw = random.Random(seed)
        path = folder / "lines.jsonl"
        data = [malformed(draw.choice(ROWS[format]), draw) for _ in range(LINES_A_FILE)]
        # The first line is whole, so that detection has a file of one format to hold the rest to.
        path.write_bytes(b"\n".join([ROWS[format][0], *data]) + b"\n")
        rejects, progress = RejectsList(), Progress()
        traces = list(read_traces(path, "auto" if automatic else format, rejects=rejects, progress=progress))
        read = {trace.source.line for trace in traces if trace.source is not None}
        rejected = [reject.line for reject in rejects]
        assert len(set(rejected)) == len(rejected), "no line is rejected twice"
        assert not read & set(rejected), "no line is both read and rejected"
        blank = {number for number, line in enumerate(data, start=2) if not line.strip()}
        accounted = read | set(rejected) | blank
        missing = set(range(1, LINES_A_FILE + 2)) - accounted
        assert len(missing) == progress.skipped
        assert not missing or format == "lm-eval", "only repeats for another filter give neither trace nor reject"
        seen.update(reject.code for reject in rejects)
        faults = [reject for reject in rejects if reject.code is RejectCode.IMPORTER_FAILED]
        assert not faults, faults[0]
        for trace in traces:
            assert trace.steps
            assert trace.digest.startswith("sha256:")
            assert trace.model_dump_json()

    check()
    assert {RejectCode.INVALID_JSON, RejectCode.INVALID_UTF8} < seen, "the mutations must reach beyond the first check"


def test_the_lines_generated_are_twenty_thousand():
    assert (FILES // len(ROWS) + 1) * len(ROWS) * LINES_A_FILE >= 20_000
    assert set(ROWS) == {known.name for known in formats()}


@settings(max_examples=500, deadline=None)
@given(
    record=st.dictionaries(
        st.sampled_from(
            [
                "problem",
                "steps",
                "response",
                "messages",
                "choices",
                "question",
                "answer",
                "label",
                "labels",
                "completions",
                "doc_id",
                "resps",
                "doc",
                "input",
                "output",
                "scores",
                "target",
                "id",
                "epoch",
                "solution",
                "custom_id",
                "labeler",
                "mistake_index",
                "error_steps",
                "modified_process",
                "original_process",
                "model_output_steps",
                "model_output_solution_correctness",
                "ground_truth",
                "final_answer_correct",
                "arguments",
                "metrics",
            ]
        ),
        st.sampled_from(JUNK),
    ),
    format=st.sampled_from(sorted(ROWS)),
)
def test_any_record_is_read_or_refused_by_any_importer(record, format):
    known, options = parse_format(format)
    assert known is not None
    value = StrictReader().decode(json.dumps(record).encode()).value
    # Anything but a refusal would be a fault of the importer, and fails here.
    with contextlib.suppress(RecordError):
        list(known.importer(options).parse(value, source=Source(format=format, file="f", line=1)))
