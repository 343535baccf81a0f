"""Exports lose nothing, run nothing and leave nothing half written."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftproof.errors import InputError, MissingExtraError, StoreUnreachableError
from draftproof.store.export import (
    COLUMNS,
    Format,
    export_verdicts,
    neutral,
    payload_of_line,
    read_jsonl,
    write_csv,
    write_jsonl,
)
from draftproof.store.leaf import leaf_digest
from draftproof.store.records import Run, StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdict, step_pair
from draftproof.verdict import Outcome

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]
TRACES = made_traces(len(FORMULAS), steps=2)


@pytest.fixture
def run(store: VerdictStore) -> Run:
    """Verdicts whose every free text starts as a formula would."""
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    hostile = [
        trace.model_copy(update={"id": text, "generator": text}) for trace, text in zip(TRACES, FORMULAS, strict=True)
    ]
    store.add_traces(run.id, hostile)
    pairs = store.missing(TRACES, [ARITHMETIC])
    store.add(
        [made_verdict(p, reason=FORMULAS[i // 2], raw={"é\ud800": '","verdict":'}) for i, p in enumerate(pairs)], run.id
    )
    store.override(1, Outcome.REJECT, author="=Ada", note='say ","verdict":{} and "\n"')
    return run


def test_json_lines_come_back_exactly(store: VerdictStore, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    rows = list(store.iter_verdicts())
    assert export_verdicts(store.iter_verdicts(), path, "jsonl") == len(rows) == 16
    with path.open(encoding="utf-8", newline="\n") as lines:
        assert list(read_jsonl(lines)) == [row.verdict for row in rows]


def test_a_leaf_can_be_checked_from_its_line_alone(store: VerdictStore, run: Run) -> None:
    stream = io.StringIO()
    write_jsonl(store.iter_verdicts(), stream)
    for line in stream.getvalue().splitlines():
        facts = json.loads(line)
        payload = payload_of_line(line)
        assert payload is not None
        assert leaf_digest(bytes.fromhex(facts["salt"]), payload.encode()).hex() == facts["leaf"]
        assert facts["verdict"]["outcome"] == facts["outcome"]
        assert list(facts) == [*COLUMNS, "verdict"]


def test_an_export_goes_into_another_store(store: VerdictStore, run: Run, tmp_path: Path) -> None:
    stream = io.StringIO()
    write_jsonl(store.iter_verdicts(), stream)
    with VerdictStore.open(str(tmp_path / "other.db")) as other:
        target = other.begin_run("import")
        added = other.add(list(read_jsonl(stream.getvalue().splitlines())), target.id)
        assert added.inserted == 16
        assert {row.payload for row in other.iter_verdicts()} == {row.payload for row in store.iter_verdicts()}


def test_an_erased_payload_is_null_in_its_line(store: VerdictStore, run: Run) -> None:
    store._database.write(lambda c: c.exec_driver_sql("UPDATE verdicts SET payload = NULL, salt = NULL"))
    stream = io.StringIO()
    assert write_jsonl(store.iter_verdicts(), stream) == 16
    assert json.loads(stream.getvalue().splitlines()[0])["verdict"] is None
    assert list(read_jsonl(stream.getvalue().splitlines())) == []


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"a":1,"verdict":', '{"a":1,"verdict":{}}', '{"a":1,"verdict":{"'])
def test_a_line_of_something_else_is_named(line: str) -> None:
    with pytest.raises(InputError, match="line 1"):
        list(read_jsonl([line]))


def test_no_cell_of_a_csv_is_a_formula(store: VerdictStore, run: Run) -> None:
    stream = io.StringIO()
    assert write_csv(store.iter_verdicts(), stream) == 16
    header, *lines = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert header == [*COLUMNS, "payload"]
    for line in lines:
        assert not [cell for cell in line if cell.startswith(tuple("=+-@\t\r\n＝"))]
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    assert {"'=1+1", "'@SUM(A1)"} <= {cell["reason"] for cell in cells}
    assert {cell["generator"] for cell in cells} == {f"'{text}" for text in FORMULAS}
    assert [cell["author"] for cell in cells if cell["author"]] == ["'=Ada"]
    payloads = {row.payload for row in store.iter_verdicts()}
    assert {cell["payload"] for cell in cells} == payloads


@pytest.mark.parametrize("text", ["", "all_equations_hold", "1 - 1", "a=b", "'=1"])
def test_harmless_text_is_left_alone(text: str) -> None:
    assert neutral(text) == text


def test_parquet_has_the_columns_with_their_types(store: VerdictStore, run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the `tables` extra")
    path = tmp_path / "verdicts.parquet"
    assert export_verdicts(store.iter_verdicts(), path, "parquet") == 16
    table = parquet.read_table(path)
    assert table.column_names == [*COLUMNS, "payload"]
    rows = list(store.iter_verdicts())
    assert table["payload"].to_pylist() == [row.payload for row in rows]
    assert table["score"].to_pylist() == [row.score for row in rows]
    assert table["id"].to_pylist() == [row.id for row in rows]
    assert table["calibrated"].to_pylist() == [row.calibrated for row in rows]


def test_an_empty_export_has_its_header(tmp_path: Path) -> None:
    assert [export_verdicts([], tmp_path / kind, kind) for kind in ("jsonl", "csv", "parquet")] == [0, 0, 0]
    assert (tmp_path / "jsonl").read_text() == ""
    assert (tmp_path / "csv").read_text().startswith('"id"')
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the `tables` extra")
    assert parquet.read_table(tmp_path / "parquet").num_rows == 0


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'draftproof\[tables\]'"):
        export_verdicts([], tmp_path / "a.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_an_export_that_breaks_leaves_the_old_file(store: VerdictStore, run: Run, tmp_path: Path, kind: Format) -> None:
    path = tmp_path / "exports" / "verdicts"
    path.parent.mkdir()
    path.write_text("old")

    def broken() -> Iterator[StoredVerdict]:
        yield next(store.iter_verdicts())
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        export_verdicts(broken(), path, kind)
    assert [each.read_text() for each in path.parent.iterdir()] == ["old"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError, match="cannot be written"):
        export_verdicts([], tmp_path / "nowhere" / "a.csv", "csv")


def test_step_pairs_are_what_is_exported(store: VerdictStore, run: Run) -> None:
    """The fixture would be worthless if its verdicts were about other steps."""
    assert step_pair(TRACES[0]).subject in {row.subject for row in store.iter_verdicts()}
