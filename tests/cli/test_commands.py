"""Every command, for people and with --json, against a store with known contents."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from draftproof import __version__
from draftproof.cli.main import app
from draftproof.store.tables import VERSION_TABLE

Cli = Callable[..., Any]


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and sub-command there is, the program itself included."""
    yield ()
    for command in app.registered_commands:
        yield (str(command.name),)
    for group in app.registered_groups:
        assert isinstance(group.typer_instance, typer.Typer)
        yield (str(group.name),)
        for command in group.typer_instance.registered_commands:
            yield (str(group.name), str(command.name))


def test_the_commands_are_those_that_the_design_names() -> None:
    assert {
        ("verify",), ("doctor",), ("runs", "list"), ("runs", "show"), ("verdicts", "query"), ("verdicts", "show"),
        ("verdicts", "diff"), ("verdicts", "override"), ("verdicts", "export"), ("verifiers", "list"),
        ("verifiers", "info"), ("verifiers", "selftest"), ("db", "init"), ("db", "upgrade"), ("db", "status"),
    } <= set(commands())  # fmt: skip


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: "-".join(command) or "draftproof")
def test_every_command_explains_itself(command: tuple[str, ...], cli: Cli) -> None:
    ended = cli(*command, "--help")
    assert ended.status == 0
    assert "Usage: draftproof" in ended.out
    assert ended.err == ""
    assert cli(*command, "-h").out == ended.out


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").out == f"draftproof {__version__}\n"


# verify


def test_verify_shows_the_first_wrong_step_with_both_values(cli: Cli, trace_file: Callable[..., Path]) -> None:
    file = trace_file(["2 + 2 = 4", "So 3 * 3 = 10."], ["1 + 1 = 2", "x + 3 = 7"])
    ended = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "new.db")
    assert ended.status == 0
    assert "4 subjects = 2 accepted + 1 rejected + 1 abstained + 0 errored + 0 skipped" in ended.out
    assert "✗ t0  step 1" in ended.out
    assert "left side = 9, right side = 10" in ended.out
    assert "2 traces" in ended.out
    shown = next(line for line in ended.out.splitlines() if "verdicts show" in line)
    assert "left side = 9" in cli(*shown.split()[1:]).out  # the suggested command works as it stands


def test_verify_prints_one_object_for_machines_and_nothing_else(cli: Cli, trace_file: Callable[..., Path]) -> None:
    file = trace_file(["2 + 2 = 5"], ["1 + 1 = 2"])
    ended = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "new.db", "--json")
    assert ended.status == 0
    assert ended.err == ""
    assert ended.json["status"] == "finished"
    assert (ended.json["traces"], ended.json["judged"], ended.json["known"]) == (2, 2, 0)
    (total,) = ended.json["verifiers"]
    counts = ("subjects", "accepted", "rejected", "abstained", "errored", "skipped", "missing")
    assert [total[name] for name in counts] == [2, 1, 1, 0, 0, 0, 0]
    assert ended.json["store"] == "sqlite:///new.db"
    assert ended.json["rejects"] == {}


def test_verify_stops_after_the_limit(cli: Cli, trace_file: Callable[..., Path]) -> None:
    one, two = trace_file(["1 + 1 = 2"], ["1 + 2 = 3"], name="1"), trace_file(["1 + 3 = 4"], ["1 + 4 = 5"], name="2")
    command = ("verify", one, two, "-v", "arithmetic", "-w", "0", "--json", "--store", "new.db")
    assert cli(*command, "--limit", "3").json["traces"] == 3
    rest = cli(*command).json
    assert (rest["traces"], rest["judged"], rest["known"]) == (4, 1, 3)


def test_verify_writes_unreadable_lines_to_the_rejects_file(
    cli: Cli, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = trace_file(["1 + 1 = 2"])
    with file.open("a") as more:
        more.write('not json\n{"problem": "p", "steps": []}\n{"problem": "p", "steps": ["1 + 2 = 3"]}\n')
    ended = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "new.db", "--json")
    assert ended.status == 3
    assert ended.json["traces"] == 2
    rejects = tmp_path / "traces.jsonl.rejects.jsonl"
    assert ended.json["rejects"] == {rejects.name: 2}
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(line["line"], line["code"]) for line in lines] == [(2, "invalid_json"), (3, "empty_steps")]

    for _ in range(2):  # a run that is repeated does not say everything twice
        named = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "new.db", "--rejects", "bad.jsonl")
        assert named.status == 3
        assert "2 lines could not be read" in named.out
        assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 2


def test_two_inputs_share_the_rejects_file_that_the_user_named(
    cli: Cli, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    files = [trace_file(["1 + 1 = 2"], name=name) for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        with file.open("a") as more:
            more.write("not json\n")
    ended = cli("verify", *files, "-v", "arithmetic", "-w", "0", "--store", "n.db", "--rejects", "bad.jsonl", "--json")
    assert ended.status == 3
    assert ended.json["rejects"] == {"bad.jsonl": 2}
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("a.jsonl", "--rejects", "a.jsonl"), id="named"),
        pytest.param(("a.jsonl", "--rejects", "./folder/../a.jsonl"), id="named-otherwise"),
        pytest.param(("a.jsonl", "a.jsonl.rejects.jsonl"), id="by-default"),
    ],
)
def test_an_input_is_never_written_over_as_a_rejects_file(
    arguments: tuple[str, ...], cli: Cli, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    inputs = [trace_file(["1 + 1 = 2"], name=name) for name in ("a.jsonl", "a.jsonl.rejects.jsonl")]
    before = [path.read_bytes() for path in inputs]
    ended = cli("verify", *arguments, "-v", "arithmetic", "-w", "0", "--store", "n.db", "--json")
    assert ended.status == 2
    assert "is also an input" in ended.json["error"]["message"]
    assert [path.read_bytes() for path in inputs] == before


def test_verify_lists_the_formats_that_it_reads(cli: Cli) -> None:
    ended = cli("verify", "--list-formats")
    assert ended.status == 0
    for name in ("plain", "gsm8k", "processbench", "prm800k", "chat", "inspect"):
        assert any(line.startswith(f"{name} ") for line in ended.out.splitlines())


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        pytest.param("rejected>0", 4, id="met"),
        pytest.param("rejected>1", 0, id="not-met"),
        pytest.param("rejected>=1", 4, id="at-equality"),
        pytest.param("accepted<100%", 4, id="a-share"),
        pytest.param("rejected>50%", 0, id="exactly-half-is-not-more"),
        pytest.param("rejected>=50%", 4, id="exactly-half"),
        pytest.param("arithmetic.errored==0", 4, id="one-verifier"),
        pytest.param(" arithmetic.subjects <= 2 ", 4, id="white-space"),
        pytest.param("subjects>2.5", 0, id="a-fraction"),
    ],
)
def test_a_gate_decides_the_exit_status(gate: str, status: int, cli: Cli, trace_file: Callable[..., Path]) -> None:
    file = trace_file(["2 + 2 = 5"], ["1 + 1 = 2"])
    ended = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db", "--fail-on", gate, "--json")
    assert ended.status == status
    assert bool(ended.json["gates_met"]) == (status == 4)


@pytest.mark.parametrize(
    "gate",
    [
        pytest.param("", id="nothing"),
        pytest.param("rejected", id="no-comparison"),
        pytest.param("rejected>", id="no-number"),
        pytest.param("refused>0", id="no-such-count"),
        pytest.param("rejected>0 or errored>0", id="two-at-once"),
        pytest.param("rejected=0", id="a-single-equals-sign"),
        pytest.param("rejected>-1", id="a-negative-number"),
        pytest.param("rejected>0;import os", id="code"),
        pytest.param("lean.rejected>0", id="a-verifier-that-does-not-run"),
    ],
)
def test_a_gate_that_cannot_be_read_or_can_never_trip_is_refused_before_anything_runs(
    gate: str, cli: Cli, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = trace_file(["2 + 2 = 5"])
    ended = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db", "--fail-on", gate, "--json")
    assert ended.status == 2
    assert ended.json["error"]["code"] == "usage"
    assert not (tmp_path / "n.db").exists()


# runs


def test_runs_are_listed_newest_first(cli: Cli, judged: str, trace_file: Callable[..., Path]) -> None:
    cli("verify", trace_file(["1 + 1 = 2"], name="other"), "-v", "arithmetic", "-w", "0", "--store", judged)
    ended = cli("runs", "list", "--store", judged)
    assert ended.status == 0
    assert ended.out.count("finished") == 2
    rows = cli("runs", "list", "--store", judged, "--json").json_lines
    assert [row["counts"]["traces"] for row in rows] == [1, 3]
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert len(cli("runs", "list", "--store", judged, "--json", "--limit", "1").json_lines) == 1


def test_a_run_shows_where_it_came_from_and_where_its_pairs_went(cli: Cli, judged: str) -> None:
    (run,) = cli("runs", "list", "--store", judged, "--json").json_lines
    shown = cli("runs", "show", run["id"][:6], "--store", judged)
    assert "6 subjects = 3 accepted + 1 rejected + 2 abstained" in shown.out
    assert "draftproof verify" in shown.out
    facts = cli("runs", "show", run["id"], "--store", judged, "--json").json
    assert facts["conservation"][0]["accepted"] == 3
    assert facts["packages"]["pydantic"]
    assert facts["inputs"][0]["name"].endswith("traces.jsonl")


def test_a_run_is_measured_against_step_labels(cli: Cli, trace_file: Callable[..., Path]) -> None:
    """One erroneous trace found, one missed; both correct traces kept: 1/2 and 2/2, so F1 is 2/3."""
    files = [
        trace_file(["1 + 1 = 3"], name="a", step_labels=["incorrect"], id="a"),
        trace_file(["I guess."], name="b", step_labels=["incorrect"], id="b"),
        trace_file(["1 + 1 = 2"], name="c", step_labels=["correct"], id="c"),
        trace_file(["1 + 2 = 3"], name="d", step_labels=["correct"], id="d"),
    ]
    run = cli("verify", *files, "-v", "arithmetic", "-w", "0", "--store", "n.db", "--json").json["run"]
    measures = cli("runs", "show", run, "--against-labels", "--store", "n.db", "--json").json["against_labels"]
    assert set(measures) == {"arithmetic@1"}
    found = measures["arithmetic@1"]
    assert (found["error_accuracy"]["hits"], found["error_accuracy"]["of"]) == (1, 2)
    assert (found["correct_accuracy"]["hits"], found["correct_accuracy"]["of"]) == (2, 2)
    assert found["processbench_f1"]["value"] == pytest.approx(2 / 3)
    shown = cli("runs", "show", run, "--against-labels", "--store", "n.db").out
    assert "processbench_f1" in shown
    assert "66.7 %" in shown


# verdicts


def test_verdicts_are_found_by_what_they_say(cli: Cli, judged: str) -> None:
    everything = cli("verdicts", "query", "--store", judged, "--json").json_lines
    assert len(everything) == 6
    rejected = cli("verdicts", "query", "--store", judged, "--outcome", "reject", "--json").json_lines
    assert [row["verdict"]["evidence"][0]["text"] for row in rejected] == ["3 * 3 = 10"]
    assert rejected[0]["trace_id"] == "t0"
    for filters, count in (
        (["--trace", "t1"], 2),
        (["--reason", "false_equation"], 1),
        (["--verifier", "arithmetic"], 6),
        (["--verifier", "lean"], 0),
        (["--granularity", "step"], 6),
        (["--granularity", "token_block"], 0),
        (["--guarantee", "exact"], 6),
        (["--guarantee", "proof"], 0),
        (["--since", "2020-01-01"], 6),
        (["--until", "2020-01-01"], 0),
        (["--generator", "nobody"], 0),
        (["--limit", "2"], 2),
    ):
        found = cli("verdicts", "query", "--store", judged, "--json", *filters)
        assert found.status == 0
        assert len(found.json_lines) == count, filters
    shown = cli("verdicts", "query", "--store", judged, "--outcome", "reject")
    assert "3 * 3 = 10" in shown.out
    assert "1 of 1 verdicts (1 reject)" in shown.err


def test_label_mismatches_are_found(cli: Cli, trace_file: Callable[..., Path]) -> None:
    file = trace_file(["1 + 1 = 2", "1 + 1 = 3"], step_labels=["incorrect", "incorrect"])
    cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db")
    (found,) = cli("verdicts", "query", "--label-mismatch", "--store", "n.db", "--json").json_lines
    assert (found["position"], found["outcome"]) == (0, "accept")


def test_a_trace_is_shown_step_by_step(cli: Cli, judged: str) -> None:
    shown = cli("verdicts", "show", "t0", "--store", judged)
    assert shown.status == 0
    assert shown.out.index("✓ step 0") < shown.out.index("✗ step 1") < shown.out.index("· step 2")
    assert "So 3 * 3 = 10." in shown.out
    facts = cli("verdicts", "show", "t0", "--store", judged, "--json").json
    assert [verdict["outcome"] for verdict in facts["verdicts"]] == ["accept", "reject", "abstain"]
    assert facts["trace"]["steps"][1]["text"] == "So 3 * 3 = 10."


def test_an_override_stands_in_place_of_a_verdict_that_stays_in_the_log(cli: Cli, judged: str) -> None:
    (rejected,) = cli("verdicts", "query", "--store", judged, "--outcome", "reject", "--json").json_lines
    ended = cli(
        "verdicts", "override", str(rejected["id"]), "accept", "--author", "Ada", "--note", "base 9", "--store", judged
    )
    assert ended.status == 0
    assert f"in place of verdict {rejected['id']}" in ended.out
    assert cli("verdicts", "query", "--store", judged, "--outcome", "reject", "--json").out == ""
    with_history = cli("verdicts", "query", "--store", judged, "--outcome", "reject", "--json", "--history").json_lines
    assert [row["id"] for row in with_history] == [rejected["id"]]
    assert "by Ada: base 9" in cli("verdicts", "show", "t0", "--store", judged).out


def test_two_runs_are_compared(cli: Cli, judged: str, trace_file: Callable[..., Path]) -> None:
    cli("verify", trace_file(["1 + 1 = 2"], name="other"), "-v", "arithmetic", "-w", "0", "--store", judged)
    newer, older = (run["id"] for run in cli("runs", "list", "--store", judged, "--json").json_lines)
    same = cli("verdicts", "diff", older, older, "--store", judged)
    assert (same.status, same.out) == (0, "")
    assert "0 differences" in same.err
    lines = cli("verdicts", "diff", older, newer, "--store", judged, "--json").json_lines
    assert len(lines) == 7
    assert {(line["a"] is None, line["b"] is None) for line in lines} == {(False, True), (True, False)}
    assert "arithmetic@1 reject (false_equation)  |  –" in cli("verdicts", "diff", older, newer, "--store", judged).out
    assert len(cli("verdicts", "diff", older, newer, "--store", judged, "--limit", "2").out.splitlines()) == 2


def test_verdicts_are_exported_in_three_formats(cli: Cli, judged: str, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        ended = cli("verdicts", "export", "-o", name, "--store", judged)
        assert ended.status == 0
        assert "6 verdicts" in ended.err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
    with (tmp_path / "out.csv").open() as file:
        assert [row["outcome"] for row in csv.DictReader(file)].count("reject") == 1
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the `tables` extra")
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 6

    standard = cli("verdicts", "export", "-o", "-", "--format", "csv", "--store", judged, "--outcome", "reject")
    assert len(standard.out.splitlines()) == 2
    for wrong in (["-o", "out.xlsx"], ["-o", "-", "--format", "parquet"]):
        refused = cli("verdicts", "export", *wrong, "--store", judged)
        assert refused.status == 2
        assert "error: " in refused.err


# verifiers, db, doctor


def test_verifiers_are_listed_and_explained(cli: Cli) -> None:
    assert "arithmetic" in cli("verifiers", "list").out
    names = [row["name"] for row in cli("verifiers", "list", "--json").json_lines]
    assert {"arithmetic", "lean"} <= set(names)
    facts = cli("verifiers", "info", "arithmetic", "--json").json
    assert (facts["guarantee"], facts["granularity"], facts["proposition"]) == ("exact", "step", "correct")
    assert facts["identity"].startswith("arithmetic@1#")
    assert facts["about"].startswith("Recompute every equation")
    assert facts["identity"] in cli("verifiers", "info", "arithmetic").out


def test_the_arithmetic_verifier_passes_its_selftest(cli: Cli) -> None:
    ended = cli("verifiers", "selftest", "arithmetic")
    assert ended.status == 0, ended.out
    assert ended.out.startswith("✓ arithmetic: ")
    facts = cli("verifiers", "selftest", "arithmetic", "--json").json
    assert facts["failed"] == []
    assert facts["cases"] > 10


def test_a_selftest_that_fails_is_a_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from draftproof.batch import selftest
    from draftproof.verdict import Outcome

    monkeypatch.setattr(selftest, "KNOWN", (*selftest.KNOWN, ("2 + 2 = 4", Outcome.REJECT)))
    ended = cli("verifiers", "selftest", "arithmetic")
    assert ended.status == 1
    assert "expected reject, got accept" in ended.out
    (case,) = cli("verifiers", "selftest", "arithmetic", "--json").json["failed"]
    assert case == {"text": "2 + 2 = 4", "expected": "reject", "outcome": "accept", "reason": "all_claims_hold"}


def test_a_store_is_made_and_its_schema_is_shown(cli: Cli) -> None:
    assert cli("db", "status", "--store", "new.db").status == 6
    assert "new.db is ready" in cli("db", "init", "--store", "new.db").out
    assert cli("db", "init", "--store", "new.db").status == 0
    facts = cli("db", "status", "--store", "new.db", "--json").json
    assert facts["installed"] == facts["required"]
    assert cli("db", "upgrade", "--store", "new.db").status == 0
    assert cli("db", "status", "--store", "new.db").out.startswith("installed ")


def test_a_store_of_another_schema_is_refused_and_nothing_is_changed(cli: Cli, judged: str, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / judged)) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'from_the_future'")
        connection.commit()
    assert cli("db", "status", "--store", judged).status == 6
    ended = cli("verify", tmp_path / "traces.jsonl", "-v", "arithmetic", "--store", judged, "--json")
    assert ended.status == 6
    assert ended.json["error"]["code"] == "schema_mismatch"
    assert ended.json["error"]["remedy"]


def test_the_doctor_says_what_is_there_and_what_is_broken(cli: Cli, judged: str, tmp_path: Path) -> None:
    checks = {row["check"]: row["status"] for row in cli("doctor", "--store", judged, "--json").json_lines}
    assert (checks["python"], checks["store"], checks["arithmetic"]) == ("ok", "ok", "ok")
    unmade = {row["check"]: row["status"] for row in cli("doctor", "--store", "none.db", "--json").json_lines}
    assert unmade["store"] == "note"
    (tmp_path / "text.db").write_text("this is no database, and never was" * 40)
    broken = cli("doctor", "--store", "text.db")
    assert broken.status == 1
    assert "✗ store" in broken.out
