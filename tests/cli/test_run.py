"""`draftproof run`: problems in, a line for each out, everything else on standard error and in the store."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli import run_setup
from draftproof.store.verdict_store import VerdictStore
from tests.batch.stub_models import CountingJudge, CountingModel
from tests.cli.test_terminal import HOSTILE, obeyed

Cli = Callable[..., Any]
TINY = ("--set", "max_step_tokens=6", "--set", "max_steps=3", "--workers", "2")


@pytest.fixture
def problem_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes problems, given as texts or as whole records."""

    def write(*problems: str | dict[str, Any], name: str = "problems.jsonl") -> Path:
        path = tmp_path / name
        records = [
            {"id": f"p{number}", "problem": each} if isinstance(each, str) else each
            for number, each in enumerate(problems)
        ]
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        return path

    return write


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, CountingModel]:
    """Models that count, in place of checkpoints: `few` is wrong in a third of its steps, `many` seldom."""
    models = {"few": CountingModel("few", wrong=0.35), "many": CountingModel("many", wrong=0.05)}
    monkeypatch.setattr(run_setup, "load_language_model", lambda name, key=None: models[name])
    return models


PAIR = ("--draft", "few", "--target", "many")


def counted(count: int) -> list[dict[str, Any]]:
    return [{"id": f"p{i}", "question": f"{1 + i % 4} steps, problem {i}", "answer": 1 + i % 4} for i in range(count)]


def test_a_checkpoint_s_steps_are_printed_and_every_decision_is_stored(
    cli: Cli, problem_file: Callable[..., Path], tiny_chat_folder: Path
) -> None:
    file = problem_file("2 apples", "3 pears")
    models = ("-d", tiny_chat_folder, "-t", tiny_chat_folder)
    ended = cli("run", "glimp-router", file, *models, *TINY, "--json", "--store", "s.db")
    assert ended.status == 0, ended.err
    first, second = ended.json_lines
    assert (first["id"], second["id"]) == ("p0", "p1")
    assert first["finish"] in ("max_steps", "repeat", "end", "budget")
    assert first["correct"] is None
    assert sum(step["tokens"] for step in first["steps"]) <= 18
    assert first["counts"]["probe_calls"] > 0
    assert "2 problems = 2 finished + 0 errored + 0 rejected + 0 remaining" in ended.err
    again = cli("run", "glimp-router", file, *models, *TINY, "--json", "--store", "s.db").json_lines
    assert [line | {"known": False} for line in again] == [first, second]
    assert [line["known"] for line in again] == [True, True]
    told = cli("verdicts", "show", first["opening"], "--store", "s.db", "--json").json
    assert told["route"]["text"] == first["text"]
    assert told["route"]["counts"] == first["counts"]


def test_a_row_says_answer_reference_and_who_wrote(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    ended = cli("run", "glimp-router", problem_file(*counted(8)), *PAIR, "--store", "s.db")
    assert ended.status == 0, ended.err
    rows = ended.out.splitlines()
    assert len(rows) == 8
    assert all(re.match(r"[✓✗] p\d", row) and "■" in row for row in rows)
    assert any("▪" in row for row in rows)  # the answer that the draft model wrote is thrown away
    assert "accuracy" in ended.err
    assert "acceptance" in ended.err
    assert re.search(r"draftproof verdicts show [0-9a-f]{12} --store s.db", ended.err)


def test_lines_that_cannot_be_read_are_rejected_and_the_others_solved(
    cli: Cli, tmp_path: Path, counting: dict[str, CountingModel]
) -> None:
    file = tmp_path / "mixed.jsonl"
    lines = [
        '{"problem": "2 steps", "answer": "2"}',
        "no json",
        '{"solution": "x"}',
        '{"problem": "   "}',
        '{"problem": 7}',
        "",
        '["2 steps"]',
        '{"question": "1 step", "answer": "so\\n#### 1"}',
    ]
    file.write_text("\n".join(lines) + "\n")
    ended = cli("run", "arbitrage", file, *PAIR, "-v", "arithmetic", "--json", "--store", "s.db")
    assert ended.status == 3
    assert len(ended.json_lines) == 2
    assert ended.json_lines[1]["reference_answer"] == "1"
    assert "7 problems = 2 finished + 0 errored + 5 rejected + 0 remaining" in ended.err
    rejects = [json.loads(line) for line in Path("mixed.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [(reject["line"], reject["code"]) for reject in rejects] == [
        (2, "invalid_json"),
        (3, "missing_field"),
        (4, "empty_text"),
        (5, "wrong_type"),
        (7, "not_an_object"),
    ]


def test_compressed_files_and_standard_input_are_read(
    cli: Cli, tmp_path: Path, counting: dict[str, CountingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(json.dumps(each) + "\n" for each in counted(4)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    packed = cli("run", "glimp-router", "a.jsonl.gz", *PAIR, "--json", "--store", "s.db").json_lines
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    piped = cli("run", "glimp-router", "-", *PAIR, "--json", "--store", "s.db").json_lines
    assert [line["text"] for line in packed] == [line["text"] for line in piped]
    assert all(line["known"] for line in piped)


def test_a_model_that_fails_is_told_and_the_status_says_so(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    counting["few"].fails_on = "problem 1"
    ended = cli("run", "glimp-router", problem_file(*counted(3)), *PAIR, "--store", "s.db")
    assert ended.status == 3
    assert "the server hung up" in ended.out
    assert "3 problems = 2 finished + 1 errored + 0 rejected + 0 remaining" in ended.err
    counting["few"].fails_on = ""
    assert cli("run", "glimp-router", "problems.jsonl", *PAIR, "--store", "s.db").status == 3
    assert cli("run", "glimp-router", "problems.jsonl", *PAIR, "--store", "s.db", "--retry-errors").status == 0
    assert cli("run", "glimp-router", "problems.jsonl", *PAIR, "--store", "s.db").status == 0


def test_limit_and_settings_are_heeded(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    file = problem_file(*counted(9))
    ended = cli("run", "spec-reason", file, *PAIR, "-n", "3", "--set", "first_steps=2", "--json", "--store", "s.db")
    assert len(ended.json_lines) == 3
    assert all([step["role"] for step in line["steps"][:2]] == ["target"] * 2 for line in ended.json_lines)
    hot = ("--set", "temperature=0.5", "--seed", "7")
    ended = cli("run", "arbitrage", file, *PAIR, "-p", "draft-only", "-n", "2", *hot, "--store", "s.db")
    assert ended.status == 0
    assert {request.decoding.seed for request in counting["few"].asked[-3:]} == {7}
    assert counting["few"].asked[-1].decoding.temperature == 0.5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("glimp", "problems.jsonl"), "glimp-router", id="no-such-pipeline"),
        pytest.param(("glimp-router", "nowhere.jsonl"), "no file", id="no-file"),
        pytest.param(("glimp-router", "problems.jsonl", "--policy", "rsd"), "no policies", id="a-policy-of-none"),
        pytest.param(("arbitrage", "problems.jsonl", "--policy", "best"), "draft-only", id="no-such-policy"),
        pytest.param(("arbitrage", "problems.jsonl"), "--verifier", id="a-reward-without-a-verifier"),
        pytest.param(("arbitrage", "problems.jsonl", "-p", "router"), "train router", id="no-router"),
        pytest.param(
            ("arbitrage", "problems.jsonl", "-p", "router", "-v", "arithmetic"), "target_better", id="no-odds"
        ),
        pytest.param(("arbitrage", "problems.jsonl", "-p", "draft-only", "-v", "lean"), "judges nothing", id="idle"),
        pytest.param(("glimp-router", "problems.jsonl", "--set", "colour=red"), "max_steps", id="no-such-setting"),
        pytest.param(("glimp-router", "problems.jsonl", "--set", "max_steps"), "key=value", id="no-value"),
        pytest.param(("glimp-router", "problems.jsonl", "--set", "max_steps=0"), "at least 1", id="a-wrong-value"),
        pytest.param(("glimp-router", "problems.jsonl", "--set", "temperature=hot"), "temperature", id="no-number"),
        pytest.param(("glimp-router", "problems.jsonl", "--threshold", "nan"), "nan", id="no-threshold"),
        pytest.param(("glimp-router", "problems.jsonl", "--thresholds", "1"), "--sweep", id="thresholds-of-no-sweep"),
        pytest.param(("glimp-router", "problems.jsonl", "--rejects", "problems.jsonl"), "written over", id="rejects"),
        pytest.param(("glimp-router", "problems.jsonl", "--workers", "0"), "--workers", id="nobody-works"),
    ],
)
def test_what_cannot_be_is_said_before_anything_begins(
    words: Sequence[str],
    says: str,
    cli: Cli,
    problem_file: Callable[..., Path],
    counting: dict[str, CountingModel],
    tmp_path: Path,
) -> None:
    problem_file("2 steps")
    ended = cli("run", *words, *PAIR, "--store", "s.db")
    assert ended.status == (3 if "nowhere.jsonl" in words else 2), ended.err
    assert says in ended.err
    assert ended.out == ""
    assert not (tmp_path / "s.db").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("solve-detect-verify", "-v", "arithmetic", "--set", "detect=no"), "true or false", id="detect"),
        pytest.param(("solve-detect-verify", "-v", "arithmetic", "--set", "k=3"), "slow=VERIFIER", id="no-slow-one"),
        pytest.param(
            ("solve-detect-verify", "-v", "arithmetic", "--set", "slow=arithmetic", "--set", "tau=2"), "tau", id="tau"
        ),
        pytest.param(("solve-detect-verify", "-v", "arithmetic", "--draft", "few"), "--draft", id="nobody-drafts"),
        pytest.param(("best-of-n", "--set", "aggregation=min"), "aggregation", id="nothing-to-aggregate"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(
    words: Sequence[str], says: str, cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    ended = cli("run", words[0], problem_file("2 steps"), *words[1:], "--target", "many", "--store", "s.db")
    assert ended.status == 2, ended.err
    assert says in ended.err
    assert counting["many"].asked == []


def test_without_options_it_is_the_pocket_pair_and_the_verifier_of_its_problems() -> None:
    from draftproof.cli.run_setup import POCKET, listing_of, verifier_for

    verifier = verifier_for(listing_of("arbitrage"), "rsd", None, POCKET)
    assert verifier is not None
    assert verifier.name == "pocket-step"


def test_pipelines_of_one_model_solve_check_and_choose(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    file = problem_file(*counted(6))
    for words in (
        ("solve-detect-verify", "-v", "arithmetic"),
        ("solve-detect-verify", "-v", "arithmetic", "--set", "detect=true", "--set", "hesitation="),
        ("best-of-n", "--set", "n=3"),
        ("best-of-n", "-p", "score", "-v", "arithmetic", "--set", "n=2"),
    ):
        ended = cli("run", words[0], file, *words[1:], "--target", "many", "--json", "--store", "s.db")
        assert ended.status == 0, ended.err
        assert {line["finish"] for line in ended.json_lines} == {"end"}, words
        assert "6 problems = 6 finished + 0 errored + 0 rejected + 0 remaining" in ended.err
        shown = cli("verdicts", "show", ended.json_lines[0]["opening"], "--store", "s.db")
        assert shown.status == 0, shown.err
        assert "So 0+1=1." in shown.out
        finished = cli("verdicts", "show", ended.json_lines[0]["trace"], "--store", "s.db")
        assert "So 0+1=1." in finished.out
        assert "solved@1" in finished.out or "ended: end" in finished.out
    assert counting["few"].asked == []


def test_pipelines_and_their_settings_are_listed(cli: Cli) -> None:
    ended = cli("run", "--list")
    assert ended.status == 0
    for name in ("arbitrage", "glimp-router", "spec-reason", "first_steps", "max_step_tokens", "temperature"):
        assert name in ended.out
    assert "on_trace" not in ended.out


def test_steps_that_nobody_could_judge_are_told_with_the_reason(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    """Two answers without a claim that a checker of sums could judge."""
    file = problem_file({"id": "a", "question": "1 steps", "answer": 1}, {"id": "b", "question": "1 steps!"})
    ended = cli("run", "arbitrage", file, *PAIR, "-v", "arithmetic", "--json", "--store", "s.db")
    assert ended.status == 0, ended.err
    assert "2 of 4 steps could not be judged: no_claims 2" in ended.err
    (run,) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    assert run["counts"]["unjudged"] == {"no_claims": 2}
    assert cli("runs", "show", run["id"], "--store", "s.db", "--json").json["pipeline"]["unjudged"] == {"no_claims": 2}
    assert "2 of 4 steps could not be judged" in cli("runs", "show", run["id"], "--store", "s.db").out


def test_what_its_own_check_came_to_is_shown(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    counting["few"].wrong = 1.0  # arithmetic finds each of its attempts wrong
    words = ("solve-detect-verify", problem_file(*counted(3)), "-t", "few", "-v", "arithmetic", "--store", "s.db")
    ended = cli("run", *words, "--out", "kept")
    assert ended.status == 0, ended.err
    assert "of the solutions, its own check rejected 3" in ended.err
    assert ended.out.count("its check: reject") == 3
    told = [json.loads(line)["outcome"] for line in Path("kept/results.jsonl").read_text().splitlines()]
    assert told == ["reject"] * 3
    (run,) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    assert run["counts"]["outcomes"] == {"reject": 3}


def test_a_check_that_fails_is_no_success(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(CountingJudge):
        def check(self, subjects: Any) -> Any:
            raise TimeoutError("down")

    monkeypatch.setattr(run_setup, "verifier_for", lambda *asked: Broken())
    words = ("run", "solve-detect-verify", problem_file(*counted(2)), "-t", "many", "--store", "s.db")
    for _ in range(2):  # now, and when it is read from the store
        ended = cli(*words)
        assert ended.status == 3, ended.err
        assert "its own check failed on 2" in ended.err


def test_below_all_entropies_the_target_is_alone(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    ended = cli("run", "glimp-router", problem_file(*counted(2)), *PAIR, "--threshold", "-inf", "--store", "s.db")
    assert ended.status == 0, ended.err
    assert counting["few"].asked == []
    assert "acceptance 0.0%" in ended.err
    assert "could not be judged" not in ended.err


def test_rows_for_a_router_are_written(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel], tmp_path: Path
) -> None:
    words = ("run", "arbitrage", problem_file(*counted(6)), *PAIR, "-p", "collect", "-v", "arithmetic")
    ended = cli(*words, "--store", "s.db", "--out", "rows")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    assert rows
    assert {"draft", "target", "advantage", "features", "pair"} <= rows[0].keys()
    assert cli(*words, "--store", "s.db", "--out", "again").status == 0
    assert (tmp_path / "again" / "rows.jsonl").read_text() == (tmp_path / "rows" / "rows.jsonl").read_text()
    results = (tmp_path / "rows" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in results] == [f"p{i}" for i in range(6)]


def test_runs_show_tells_what_became_of_the_problems(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    cli("run", "glimp-router", problem_file(*counted(7)), *PAIR, "--store", "s.db")
    (run,) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    assert (run["counts"]["finished"], run["settings"]["pipeline"]) == (7, "glimp-router")
    shown = cli("runs", "show", run["id"][:8], "--store", "s.db")
    assert "7 problems = 7 finished + 0 errored + 0 rejected + 0 remaining" in shown.out
    assert "tokens: draft" in shown.out
    told = cli("runs", "show", run["id"], "--store", "s.db", "--json").json
    assert told["pipeline"]["finished"] == 7
    assert told["pipeline"]["counts"] == run["counts"]["counts"]
    assert cli("runs", "show", run["id"], "--store", "s.db", "--sweep").status == 2


def test_verdicts_show_tells_a_route_step_by_step(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel]
) -> None:
    file = problem_file(*counted(12))
    lines = cli("run", "arbitrage", file, *PAIR, "-v", "arithmetic", "--json", "--store", "s.db").json_lines
    line = next(line for line in lines if len({step["role"] for step in line["steps"][:-1]}) == 2)
    for name in (line["opening"], line["trace"], line["id"]):
        shown = cli("verdicts", "show", name, "--store", "s.db")
        assert shown.status == 0, shown.err
        assert "rsd: 0 against 0.7 → target  reward_below_threshold" in shown.out
        assert "rsd: 1 against 0.7 → draft  reward_reaches_threshold" in shown.out
        assert re.search(r"▪ discarded draft, \d+ tokens?, stop, score 0: So", shown.out)
        assert "ended: end" in shown.out
    raw = cli("verdicts", "show", line["opening"], "--store", "s.db", "--verifier", "arbitrage-rsd")
    assert "rsd: 0 against 0.7 → target" in raw.out


def test_verdicts_of_others_about_a_finished_text_stand_beside_its_route(
    cli: Cli, problem_file: Callable[..., Path], counting: dict[str, CountingModel], tmp_path: Path
) -> None:
    from draftproof.registry import create_verifier
    from draftproof.subject import step_subjects
    from draftproof.verifier import run_verifier

    line, *_ = cli("run", "glimp-router", problem_file(*counted(1)), *PAIR, "--json", "--store", "s.db").json_lines
    with VerdictStore.open(str(tmp_path / "s.db")) as store:
        trace = store.get_trace(line["trace"]).trace
        run = store.begin_run("test")
        run_verifier(create_verifier("arithmetic"), list(step_subjects(trace)), log=store.log(run.id))
    shown = cli("verdicts", "show", line["trace"], "--store", "s.db").out
    assert "glimpse: " in shown
    assert "arithmetic@" in shown
    assert "arithmetic@" not in cli("verdicts", "show", line["opening"], "--store", "s.db").out


class Hostile(CountingModel):
    """Writes what a terminal might obey."""

    saying = ""

    def generate(self, requests: Any) -> Any:
        from dataclasses import replace

        return [
            replace(each, text=each.text.replace("So", f"So {self.saying}").replace("is", f"is {self.saying}"))
            for each in super().generate(requests)
        ]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_models_and_problems_say_is_shown_and_not_obeyed(
    text: str, cli: Cli, problem_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"few": Hostile("few", wrong=0.5), "many": Hostile("many")}
    for model in models.values():
        model.saying = text
    monkeypatch.setattr(run_setup, "load_language_model", lambda name, key=None: models[name])
    file = problem_file({"id": f"id {text}", "problem": f"2 {text}", "answer": text})
    ran = cli("run", "glimp-router", file, *PAIR, "--store", "s.db")
    (run,) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    shown = [
        ran,
        cli("verdicts", "show", f"id {text}", "--store", "s.db"),
        cli("verdicts", "query", "--store", "s.db"),
        cli("runs", "show", run["id"], "--store", "s.db"),
    ]
    for ended in shown:
        assert ended.status == 0, ended.err
        assert obeyed(ended.out + ended.err) == []
    if "[red]" in text:
        assert "[red]" in shown[1].out
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = cli("verdicts", "show", f"id {text}", "--store", "s.db")
    assert obeyed(re.sub(r"\x1b\[[\d;]*m", "", coloured.out)) == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_each_kind_of_evidence_of_a_pipeline_is_one_safe_line(text: str) -> None:
    from draftproof.cli.trace_view import evidence_line
    from draftproof.verdict import FeatureEvidence, RouteEvidence, StepEvidence, VotesEvidence

    lines = {
        "draft wrote (discarded, 3 tokens, stop)": StepEvidence(
            text=text, role="draft", model=text, cause="stop", tokens=3, kept=False
        ),
        "0.5 against 0.7 → target": RouteEvidence(policy=text, to="target", score=0.5, threshold=0.7),
        "nothing to compare → draft": RouteEvidence(policy=text, to="draft", score=None, threshold=None),
        "with 50% of the votes": VotesEvidence(votes=(text, ""), winner=text, agreement=0.5),
        "0.25": FeatureEvidence(values={text: 0.25}),
    }
    for says, evidence in lines.items():
        line = evidence_line(evidence)  # type: ignore[arg-type]  # a dict of several kinds
        assert says in line.plain
        assert obeyed(line.plain) == []
        assert "\n" not in line.plain


def waiting_program(tmp_path: Path, folder: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """The program itself, reading problems from a pipe that stays open."""
    command = [sys.executable, "-P", "-m", "draftproof", "run", "glimp-router", "-", "-d", folder, "-t", folder, *TINY]
    return subprocess.Popen(
        [*map(str, command), *words], cwd=tmp_path, stdin=subprocess.PIPE, start_new_session=True, **options
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, id="int"),
        pytest.param(signal.SIGTERM, 143, id="term", marks=pytest.mark.slow),
    ],
)
def test_stopped_it_says_how_to_go_on(
    number: signal.Signals, status: int, tmp_path: Path, tiny_chat_folder: Path
) -> None:
    process = waiting_program(tmp_path, tiny_chat_folder, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"problem": "a"}\n' * 20)  # a file's worth of them, so that the first is told while it waits
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["problem"] == "a"
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert b"To go on: draftproof run glimp-router -" in err
    with VerdictStore.open(str(tmp_path / "draftproof.db")) as store:
        (run,) = store.runs()
        assert run.status == "interrupted"


def test_on_a_terminal_it_is_drawn_and_leaves_its_rows(tmp_path: Path, tiny_chat_folder: Path) -> None:
    (tmp_path / "p.jsonl").write_text("".join(f'{{"problem": "{i} apples", "id": "p{i}"}}\n' for i in range(6)))
    command = [
        sys.executable, "-P", "-m", "draftproof", "run", "glimp-router", "p.jsonl", "-d", str(tiny_chat_folder),
        "-t", str(tiny_chat_folder), *TINY,
    ]  # fmt: skip
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(slave)
    seen, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait(30) == 0
    text = seen.decode()
    assert "\x1b[32m■" in text or "\x1b[35m■" in text  # green or magenta
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    assert all(f"p{i} " in plain for i in range(6))
    assert "6 problems = 6 finished" in plain
