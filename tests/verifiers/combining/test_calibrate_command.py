"""`draftproof verifiers calibrate`, from a file of labelled traces to verdicts with calibrated scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draftproof import registry
from draftproof.cli.main import run
from draftproof.registry import Listing


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    scripted = Listing("scripted", "tests.verifiers.combining.scripted:Scripted", "")
    monkeypatch.setattr(registry, "_BUILT_IN", (*registry._BUILT_IN, scripted))

    def call(*words: str) -> Ended:
        status = run([*words, "--store", "s.db", "--workers", "0"])
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    return call


@pytest.fixture
def labelled_file(tmp_path: Path) -> Callable[..., str]:
    """Traces whose steps are scores of an overconfident judge; some name their generator, some steps have no label."""

    def write(traces: int, name: str = "t.jsonl", **fields: Any) -> str:
        draw = np.random.default_rng(0)
        lines = []
        for number in range(traces):
            honest = draw.uniform(0.05, 0.95, 4)
            said = 1 / (1 + ((1 - honest) / honest) ** 3)
            labels = ["correct" if u < p else "incorrect" for u, p in zip(draw.uniform(size=4), honest, strict=True)]
            lines.append(
                {
                    "id": f"t{number}",
                    "problem": f"problem {number % 50}",
                    "steps": [f"{score:.6f} {number}" for score in said],
                    "step_labels": [*labels[:3], "unknown"],
                    "generator": "weak" if number % 2 else "strong",
                    **fields,
                }
            )
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return name

    return write


def test_from_labels_to_calibrated_verdicts(
    cli: Callable[..., Ended], labelled_file: Callable[..., str], tmp_path: Path
) -> None:
    file = labelled_file(150)
    ended = cli("verifiers", "calibrate", "scripted", file, "--out", "c.json")
    assert (ended.status, ended.err) == (0, "")
    assert "held out" in ended.out
    assert "strong (" in ended.out
    assert "--verifier calibrated:file=c.json" in ended.out
    content = json.loads((tmp_path / "c.json").read_text())
    tallies = [content[part][kind] for part in ("fitted_on", "measured_on") for kind in ("right", "wrong")]
    assert sum(tallies) == 450  # the unknown steps are in neither
    assert content["log_loss"]["change"]["high"] < 0

    judged = cli("verify", file, "--verifier", "calibrated:file=c.json,generator=weak", "--json")
    assert judged.status == 0, judged.err
    shown = cli_query(tmp_path)
    assert shown
    assert all(verdict.calibrated and verdict.score is not None for verdict in shown)
    assert max(verdict.score or 0.0 for verdict in shown) < 0.97


def cli_query(folder: Path) -> list[Any]:
    from draftproof.store.queries import VerdictFilter
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(f"sqlite:///{folder / 's.db'}", create=False, read_only=True) as store:
        return [row.verdict for row in store.iter_verdicts(VerdictFilter(verifier="calibrated"))]


def test_calibrating_again_judges_nothing_again(cli: Callable[..., Ended], labelled_file: Callable[..., str]) -> None:
    file = labelled_file(150)
    first = json.loads(cli("verifiers", "calibrate", "scripted", file, "--out", "a.json", "--json").out)
    again = json.loads(cli("verifiers", "calibrate", "scripted", file, "--out", "b.json", "--json").out)
    assert first["digest"] == again["digest"]
    other = cli("verifiers", "calibrate", "scripted", file, "--out", "c.json", "--json", "--seed", "1")
    assert json.loads(other.out)["digest"] != first["digest"]


def test_conformal_thresholds_for_each_generator(cli: Callable[..., Ended], labelled_file: Callable[..., str]) -> None:
    file = labelled_file(150)
    ended = cli("verifiers", "calibrate", "scripted", file, "-m", "conformal", "--alpha", "0.1", "--out", "c.json")
    assert ended.status == 0
    assert "weak" in ended.out
    assert "strong" in ended.out
    judged = cli("verify", file, "--verifier", "conformal:file=c.json,generator=weak")
    assert judged.status == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("scripted", "few.jsonl"), "too few labels", id="too-few-labels"),
        pytest.param(("scripted", "few.jsonl", "--method", "conformal", "--alpha", "0.01"), "99 traces", id="no-bound"),
        pytest.param(("scripted", "few.jsonl", "--method", "magic"), "no method", id="no-such-method"),
        pytest.param(("scripted", "few.jsonl", "--alpha", "0.1"), "conformal", id="alpha-without-conformal"),
        pytest.param(("scripted", "few.jsonl", "-m", "conformal", "--alpha", "2"), "(0, 1)", id="alpha-above-1"),
        pytest.param(("magic", "few.jsonl"), "no verifier", id="no-verifier"),
        pytest.param(("scripted", "unlabelled.jsonl"), "too few labels", id="no-labels"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(
    cli: Callable[..., Ended], labelled_file: Callable[..., str], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    labelled_file(15, "few.jsonl")
    labelled_file(15, "unlabelled.jsonl", step_labels=None)
    ended = cli("verifiers", "calibrate", *words, "--out", "c.json")
    assert ended.status == 2, ended.err
    assert says in ended.err
    assert not (tmp_path / "c.json").exists()


def test_a_file_that_is_not_there_is_named(cli: Callable[..., Ended]) -> None:
    ended = cli("verifiers", "calibrate", "scripted", "nowhere.jsonl", "--out", "c.json")
    assert (ended.status, "nowhere.jsonl" in ended.err) == (3, True)


def test_an_unreadable_line_is_no_reason_to_fit_on_the_rest(
    cli: Callable[..., Ended], labelled_file: Callable[..., str], tmp_path: Path
) -> None:
    file = labelled_file(150)
    with (tmp_path / file).open("a") as lines:
        lines.write("{broken\n")
    ended = cli("verifiers", "calibrate", "scripted", file, "--out", "c.json")
    assert ended.status == 3
    assert not (tmp_path / "c.json").exists()


def test_a_file_that_verdicts_may_name_is_not_written_over(
    cli: Callable[..., Ended], labelled_file: Callable[..., str], tmp_path: Path
) -> None:
    file = labelled_file(15)
    (tmp_path / "c.json").write_text("kept")
    ended = cli("verifiers", "calibrate", "scripted", file, "--out", "c.json")
    assert (ended.status, (tmp_path / "c.json").read_text()) == (2, "kept")
    assert cli("verifiers", "calibrate", "scripted", file, "--out", "nowhere/c.json").status == 2
