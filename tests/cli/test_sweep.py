"""Sweeps: every setting a run of its own, measured alike, drawn to be read, and told again from the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from draftproof.batch.problems import Problem
from draftproof.batch.route_counts import RouteCounts
from draftproof.batch.solved import Block, Solved
from draftproof.batch.sweep_measures import Setting, measure
from draftproof.cli import run_setup
from draftproof.cli.sweep_run import GRIDS, parse_thresholds, sweep_settings
from draftproof.errors import UsageError
from draftproof.language_model import FirstToken
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from tests.batch.stub_models import CountingModel

Cli = Callable[..., Any]
SVG = "{http://www.w3.org/2000/svg}"
CHARTS = ("accuracy-by-acceptance.svg", "accuracy-by-latency.svg", "accuracy-by-target-tokens.svg")
WORDS = ("--draft", "few", "--target", "many", "-v", "arithmetic", "--sweep", "--store", "s.db")


class Curt(CountingModel):
    """Tells one token, whatever is asked for."""

    def first_token(self, contexts: Any, top: int = 20) -> Any:
        return [FirstToken(0.0, 1, (("So", 0.05),)) for _ in contexts]


@pytest.fixture
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of problems, and models that count their solutions."""
    models = {
        "few": CountingModel("few", wrong=0.35),
        "many": CountingModel("many", wrong=0.05),
        "curt": Curt("curt"),
    }
    monkeypatch.setattr(run_setup, "load_language_model", lambda name, key=None: models[name])
    path = tmp_path / "problems.jsonl"
    records = ({"id": f"p{i}", "problem": f"{1 + i % 3} steps, problem {i}", "answer": 1 + i % 3} for i in range(9))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def points(picture: ElementTree.Element) -> dict[str, int]:
    """How many points each series has."""
    return {
        str(group.get("data-name")): sum(each.get("class") == "point" for each in group)
        for group in picture.iter(f"{SVG}g")
    }


def test_a_sweep_measures_and_draws_every_setting_and_tells_it_again(cli: Cli, problems: Path, tmp_path: Path) -> None:
    ended = cli("run", "arbitrage", problems, *WORDS, "--thresholds", "0,0.5,1")
    assert ended.status == 0, ended.err
    names = ["draft only", "target only"]
    names += [f"RSD {t}" for t in ("0", "0.5", "1")] + [f"oracle {t}" for t in ("0", "0.5", "1")]
    names += [f"GlimpRouter {t:g}" for t in GRIDS["glimp-router"]]
    rows = {line.split("  ")[0].strip(): line for line in ended.out.splitlines()[1:]}
    assert list(rows) == names
    assert "100.0 %" in rows["draft only"]

    folder = tmp_path / "problems.sweep"
    measured = [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]
    by_name = {f"{m['setting']['series']}:{m['setting']['threshold']}": m for m in measured}
    assert by_name["draft only:None"]["acceptance"]["value"] == 1.0
    assert by_name["target only:None"]["target_tokens"]["value"] > 0
    assert by_name["draft only:None"]["target_tokens"]["value"] == 0
    # a reward of 0 keeps every draft that could be judged; one above all rewards would keep none
    assert by_name["RSD:0.0"]["acceptance"]["value"] >= by_name["RSD:1.0"]["acceptance"]["value"]
    for each in measured:
        value = each["accuracy"]
        assert value["low"] <= value["value"] <= value["high"]
    assert len((folder / "results.jsonl").read_text().splitlines()) == 9 * len(names)

    for chart in CHARTS:
        picture = ElementTree.fromstring((folder / chart).read_text())
        drawn = points(picture)
        assert drawn == {
            "draft only": 1,
            "target only": 1,
            "RSD": 3,
            "oracle": 3,
            "GlimpRouter": len(GRIDS["glimp-router"]),
        }
        texts = [each.text or "" for each in picture.iter(f"{SVG}text")]
        assert "accuracy (% of problems)" in texts
        assert any("bootstrap" in text and "9 problems" in text for text in texts)
        assert sum(each.get("class") == "interval" for each in picture.iter()) == len(names)

    runs = cli("runs", "list", "--store", "s.db", "--json").json_lines
    assert len(runs) == len(names)
    assert len({run["settings"]["sweep"] for run in runs}) == 1
    told = cli("runs", "show", runs[3]["id"], "--sweep", "--store", "s.db", "--json", "--out", "again")
    assert told.status == 0, told.err
    again = told.json_lines
    assert [{**each, "run": ""} for each in again] == [{**each, "run": ""} for each in measured]
    for chart in CHARTS:
        assert points(ElementTree.fromstring((tmp_path / "again" / chart).read_text())) == drawn
    assert cli("runs", "show", runs[0]["id"], "--sweep", "--store", "s.db").out == ended.out


def test_a_sweep_goes_on_where_it_was(cli: Cli, problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "run",
        "glimp-router",
        problems,
        "-d",
        "few",
        "-t",
        "many",
        "--sweep",
        "--thresholds",
        "0.5",
        "--store",
        "s.db",
    )
    first = cli(*words)
    assert first.status == 0, first.err

    def refuse(self: CountingModel, requests: Any) -> Any:
        raise AssertionError("everything is known")

    monkeypatch.setattr(CountingModel, "generate", refuse)
    again = cli(*words, "--json")
    assert again.status == 0, again.err
    measured = [json.loads(line) for line in Path("problems.sweep/sweep.jsonl").read_text().splitlines()]
    told = cli("runs", "list", "--store", "s.db", "--json").json_lines
    before = cli("runs", "show", told[-1]["id"], "--sweep", "--store", "s.db", "--json").json_lines
    for now, then in zip(measured, before, strict=True):
        for name in ("accuracy", "acceptance", "target_tokens", "counts", "unjudged"):
            assert now[name] == then[name]
        # what was solved in another run took its time there
        assert (then["timed"], now["timed"]) == (9, 0)
        assert then["seconds"]["value"] > 0
        assert now["seconds"]["value"] is now["p95_seconds"] is None
    table = cli(*words)
    assert table.out.splitlines()[0].split()[-2:] == ["timed", "errors"]
    assert "timed" not in first.out


def test_latencies_are_of_what_the_run_solved_itself(cli: Cli, problems: Path) -> None:
    words = ("-d", "few", "-t", "many", "--sweep", "--thresholds", "0.5", "--store", "s.db")
    lines = problems.read_text().splitlines(keepends=True)
    problems.write_text("".join(lines[:4]))
    assert cli("run", "glimp-router", problems, *words).status == 0
    problems.write_text("".join(lines))
    ended = cli("run", "glimp-router", problems, *words)
    assert ended.status == 0, ended.err
    measured = [json.loads(line) for line in Path("problems.sweep/sweep.jsonl").read_text().splitlines()]
    assert {(each["problems"], each["timed"]) for each in measured} == {(9, 5)}
    assert {each["seconds"]["problems"] for each in measured} == {5}
    assert "of the 5 that this run solved itself" in Path("problems.sweep/accuracy-by-latency.svg").read_text()
    (run, *_) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    shown = cli("runs", "show", run["id"], "--sweep", "--store", "s.db")
    assert shown.out == ended.out


def test_settings_are_compared_over_the_same_problems(cli: Cli, problems: Path, tmp_path: Path) -> None:
    """A sweep that was stopped in its last setting, and whose file was changed while it ran."""
    words = ("run", "glimp-router", problems, "-d", "few", "-t", "many", "--sweep", "--thresholds", "0.5,0.9")
    assert cli(*words, "--store", "s.db").status == 0
    with VerdictStore.open(str(tmp_path / "s.db")) as store:
        newest, *others = store.runs()
        settings, inputs = dict(newest.settings), [dict(each) for each in newest.inputs]
        mark = newest.verifiers[0]
        cut = store.begin_run("stopped", verifiers=[mark], settings={**settings, "threshold": 0.95}, inputs=inputs)
        store.add_traces(cut.id, list(store.run_traces(newest.id))[:1])
        store.finish_run(cut.id, RunStatus.INTERRUPTED)
        fewer = store.begin_run("fewer", verifiers=[mark], settings={**settings, "threshold": 1.0}, inputs=inputs)
        store.add_traces(fewer.id, list(store.run_traces(newest.id))[:6])
        store.finish_run(fewer.id)
    shown = cli("runs", "show", newest.id, "--sweep", "--store", "s.db")
    assert shown.status == 0, shown.err
    assert "left out: GlimpRouter 0.95" in shown.err
    assert "interrupted" in shown.err
    assert "6 problems that all settings have" in shown.err
    head, *rows = [line.split() for line in shown.out.splitlines()]
    assert head[1] == "problems"
    assert [row[2] for row in rows] == ["6"] * (len(others) + 2)
    assert "0.95" not in shown.out


def test_a_sweep_without_a_finished_run_compares_nothing(cli: Cli, problems: Path, tmp_path: Path) -> None:
    words = ("run", "glimp-router", problems, "-d", "few", "-t", "many", "--sweep", "--thresholds", "0.5")
    assert cli(*words, "--store", "s.db").status == 0
    with VerdictStore.open(str(tmp_path / "s.db")) as store:
        last = store.runs()[0]
        settings = {**last.settings, "sweep": "another"}
        cut = store.begin_run("stopped", verifiers=[last.verifiers[0]], settings=settings)
    shown = cli("runs", "show", cut.id, "--sweep", "--store", "s.db")
    assert shown.status == 2
    assert "No setting of this sweep was finished" in shown.err


def test_what_could_not_be_judged_stands_in_the_table(cli: Cli, problems: Path) -> None:
    """The probes of a model that tells one token say nothing of any step."""
    problems.write_text('{"problem": "2 steps", "answer": 2}\n')
    words = ("--sweep", "--thresholds", "0.5", "--store", "s.db", "-d", "curt", "-t", "many")
    ended = cli("run", "glimp-router", problems, *words)
    assert ended.status == 0, ended.err
    last = next(line for line in ended.out.splitlines() if "GlimpRouter 0.5 " in line)
    assert "3 of 3" in last
    assert "GlimpRouter 0.5: 3 of 3 steps could not be judged: probe_gave_no_entropy 3" in ended.err
    measured = [json.loads(line) for line in Path("problems.sweep/sweep.jsonl").read_text().splitlines()]
    assert [each["unjudged"] for each in measured] == [{}, {}, {"probe_gave_no_entropy": 3}]


def test_the_exact_truth_is_not_called_rsd() -> None:
    """Of the pocket pair everything is known: what decides by that is no reward-guided decoding."""
    from draftproof.cli.run_setup import POCKET

    def series(**named: Any) -> list[str]:
        asked = {"policy": None, "verifier": None, "router": None, "thresholds": None} | named
        made = sweep_settings("arbitrage", models=POCKET, given=(), seed=0, **asked)
        return list(dict.fromkeys(setting.series for setting, _ in made))

    assert series() == ["draft only", "target only", "oracle", "GlimpRouter"]
    assert series(verifier="arithmetic")[2] == "RSD"
    assert series(verifier="pocket-step")[2] == "exact rewards"
    assert series(policy="rsd", verifier="pocket-step") == ["draft only", "target only", "exact rewards"]
    with pytest.raises(UsageError, match="rewards that a model gives"):
        series(policy="rsd")


def test_problems_without_reference_answers_have_no_accuracy_and_no_chart(
    cli: Cli, problems: Path, tmp_path: Path
) -> None:
    problems.write_text('{"problem": "2 steps"}\n{"problem": "1 step"}\n')
    ended = cli(
        "run", "spec-reason", problems, "-d", "few", "-t", "many", "--sweep", "--thresholds", "7", "--store", "s.db"
    )
    assert ended.status == 0, ended.err
    assert "–" in ended.out
    assert not list((tmp_path / "problems.sweep").glob("*.svg"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("arbitrage", "-"), "Give it a file", id="standard-input"),
        pytest.param(("arbitrage", "problems.jsonl", "--threshold", "0.5"), "--thresholds", id="one-threshold"),
        pytest.param(("arbitrage", "problems.jsonl", "--thresholds", "a,b"), "0,0.5,1", id="no-numbers"),
        pytest.param(("arbitrage", "problems.jsonl", "-p", "collect"), "rsd", id="a-policy-without-threshold"),
        pytest.param(("best-of-n", "problems.jsonl"), "no threshold", id="a-pipeline-without-threshold"),
        pytest.param(("arbitrage", "problems.jsonl", "-p", "nope"), "rsd, router, oracle", id="no-such-policy"),
        pytest.param(("glimp-router", "problems.jsonl", "--thresholds", "nan"), "not NaN", id="no-threshold"),
        pytest.param(("arbitrage", "problems.jsonl", "-p", "rsd"), "process-reward", id="no-rewards"),
    ],
)
def test_what_cannot_be_swept_is_refused(words: tuple[str, ...], says: str, cli: Cli, problems: Path) -> None:
    ended = cli("run", *words, "--draft", "few", "--target", "many", "--sweep", "--store", "s.db")
    assert ended.status == 2, ended.err
    assert says in ended.err


def test_thresholds_are_read_once_each_in_order() -> None:
    assert parse_thresholds("1,0,0.5,1") == [0.0, 0.5, 1.0]
    assert parse_thresholds("inf") == [float("inf")]
    assert parse_thresholds(None) is None
    with pytest.raises(UsageError):
        parse_thresholds("0,nan")


def one(number: int, *, correct: bool | None, roles: str, seconds: float = 1.0, failed: bool = False) -> Solved:
    blocks = tuple(Block({"d": "draft", "t": "target"}[role], 1) for role in roles)
    counts = {"target_tokens": 10 * roles.count("t"), "draft_tokens_kept": roles.count("d")}
    problem = Problem(f"problem {number}", f"p{number}", None if correct is None else "1", "f", number + 1)
    return Solved(
        problem,
        "o",
        None if failed else "t",
        0,
        "error" if failed else "end",
        "",
        "",
        "1",
        correct,
        blocks,
        counts,
        seconds,
    )


def test_measures_are_means_over_problems_and_shares_over_steps() -> None:
    solved = [
        one(0, correct=True, roles="dddt", seconds=1.0),
        one(1, correct=False, roles="tt", seconds=3.0),
        one(2, correct=None, roles="dd", seconds=2.0),
        one(3, correct=False, roles="", seconds=99.0, failed=True),
    ]
    routes = lambda opening: RouteCounts(Counter(a=2, b=1), Counter(a=2))  # noqa: E731
    found = measure(Setting("RSD", "arbitrage", "rsd", 0.5), "run", solved, routes)
    assert found.accuracy.value == pytest.approx(
        1 / 3
    )  # a failure is wrong, a problem without reference is not counted
    assert found.acceptance.value == pytest.approx(5 / 8)
    assert found.seconds.value == pytest.approx(2.0)  # of those that came to an end
    assert found.target_tokens.value == pytest.approx(10.0)
    assert (found.problems, found.failed, found.timed) == (4, 1, 3)
    assert (found.decided, found.unjudged) == (12, {"a": 8})
    assert str(found.setting) == "RSD 0.5"
    assert measure(found.setting, "run", solved[::-1], routes) == found
    endless = measure(Setting("RSD", "arbitrage", "rsd", float("inf")), "run", solved, routes)
    assert json.loads(json.dumps(endless.as_json(), allow_nan=False))["setting"]["threshold"] == "inf"


def test_lines_of_one_problem_are_no_independent_evidence() -> None:
    """Ten copies of two problems: the interval is that of two problems, from 0 to 1."""
    solved = [one(index % 2, correct=index % 2 == 0, roles="d") for index in range(20)]
    interval = measure(Setting("s", "arbitrage", None, None), "run", solved, lambda opening: RouteCounts()).accuracy
    assert (interval.low, interval.high, interval.problems) == (0.0, 1.0, 2)
