"""`draftproof train uncertainty-head`: from a model and labelled traces to a head that judges, resumably."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli.train import app
from draftproof.errors import InputError, UsageError
from draftproof.registry import create_verifier
from draftproof.subject import step_subjects
from draftproof.verifiers.uncertainty_head.head_files import load_head
from tests.verifiers.uncertainty_head.conftest import marked_traces, save_ascii_model

SHORT = ("--epochs", "8", "--width", "16", "--learning-rate", "0.003")


def run(*arguments: object) -> None:
    app(["uncertainty-head", *map(str, arguments)], standalone_mode=False)


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    run(*arguments, "--json", "--quiet")
    shown = capsys.readouterr()
    assert shown.err == ""
    figures = json.loads(shown.out)
    assert isinstance(figures, dict)
    return figures


@pytest.fixture(scope="module")
def trl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled traces in a format that many data sets have."""
    file = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    with file.open("w") as out:
        for trace in marked_traces(60):
            record = {
                "prompt": trace.problem,
                "completions": [step.text for step in trace.steps],
                "labels": [label.value != "incorrect" for label in trace.step_labels or ()],
            }
            out.write(json.dumps(record) + "\n")
        out.write("this is no JSON\n")
    return file


@pytest.fixture(scope="module")
def equations_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solutions that say nothing of which steps are right."""
    chance = random.Random(0)
    file = tmp_path_factory.mktemp("traces") / "equations.jsonl"
    with file.open("w") as out:
        for number in range(50):
            steps = []
            for _ in range(3):
                left, right = chance.randrange(10, 50), chance.randrange(10, 50)
                steps.append(f"{left} + {right} = {left + right + (chance.random() < 0.4)}.")
            out.write(json.dumps({"problem": f"Sum {number}?", "steps": steps}) + "\n")
    return file


def test_a_head_is_trained_reported_and_judges(
    ascii_folder: Path, trl_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "head"
    run("--model", ascii_folder, "--traces", trl_file, "--out", out, *SHORT)
    shown = capsys.readouterr()
    assert "1 lines could not be read" in shown.err
    for expected in ("guessing", "uncertainty-head", "mean-logprob", "perplexity", "token-entropy", "PR-AUC wrong"):
        assert expected in shown.out
    assert "Labels from traces" in shown.out
    record = load_head(out).record.training
    rows = {row["name"]: row for row in record["held_out"]}
    assert rows["uncertainty-head"]["pr_auc"] > record["base_rate"] + 0.2
    steps = record["labels"]["steps"]
    assert sum(steps.values()) == 180
    assert record["data_digest"].startswith("sha256:")
    verifier = create_verifier("uncertainty-head", {"head": str(out), "model": str(ascii_folder)})
    verdicts = verifier.check(list(step_subjects(marked_traces(1, seed=9)[0])))
    assert all(verdict.score is not None for verdict in verdicts)


def test_the_same_command_again_repeats_nothing_and_ends_the_same(
    ascii_folder: Path, trl_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", ascii_folder, "--traces", trl_file, "--out", tmp_path, *SHORT, "--no-p-true"]
    run(*command, "--quiet")
    weights = (tmp_path / "head.safetensors").read_bytes()
    shards = {file: file.stat().st_mtime_ns for file in (tmp_path / "stages" / "internals").iterdir()}
    capsys.readouterr()
    run(*command, "--quiet", "--json")
    second = json.loads(capsys.readouterr().out)
    assert (tmp_path / "head.safetensors").read_bytes() == weights
    assert {file: file.stat().st_mtime_ns for file in shards} == shards
    assert second["best_epoch"] == load_head(tmp_path).record.training["best_epoch"]


def test_an_exact_verifier_labels_what_has_no_labels(
    ascii_folder: Path, equations_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", ascii_folder, "--traces", equations_file, "--out", tmp_path, *SHORT]
    with pytest.raises(InputError, match="None of the 50 traces says"):
        run(*command)
    figures = asked(capsys, *command, "--labels", "arithmetic", "--layer", "2", "--top", "4")
    assert figures["labels"]["source"].startswith("arithmetic@1#")
    assert figures["labels"]["steps"]["after_error"] > 0
    assert figures["labels"]["steps"]["unknown"] == 0
    assert figures["layers"] == [2]
    assert figures["silent"] == ["p-true"]
    assert load_head(tmp_path).record.features.top == 4


def test_a_judge_may_label_and_what_it_cannot_tell_is_no_label(ascii_folder: Path, tmp_path: Path) -> None:
    """This one has random weights and says neither yes nor no: nothing is learnt from that."""
    judge = save_ascii_model(tmp_path / "judge", context=2048)
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps({"problem": "Sum 1?", "steps": ["1 + 2 = 3.", "So it is 4."]}) + "\n")
    command = ["--model", ascii_folder, "--traces", file, "--out", tmp_path / "head", "--quiet"]
    with pytest.raises(InputError, match="There are 0 wrong and 0 right steps"):
        run(*command, "--labels", f"judge:model={judge}")
    (line,) = (tmp_path / "head/stages/labels.jsonl").read_text().splitlines()
    assert json.loads(line)["labels"] == ["unknown", "unknown"]
    assert json.loads(line)["verifier"].startswith("judge@2#")


def test_a_head_that_is_not_worth_its_training_comes_with_a_warning(
    ascii_folder: Path, trl_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that learns at a rate of almost nothing; and one that has learnt what there is to learn."""
    command = ["--model", ascii_folder, "--traces", trl_file, "--no-p-true", "--quiet"]
    run(*command, "--out", tmp_path / "idle", "--epochs", "1", "--width", "16", "--learning-rate", "1e-9")
    idle = load_head(tmp_path / "idle").record.training["held_out"]
    assert idle[0]["pr_auc"] <= max(row["pr_auc"] for row in idle[1:])
    assert "which needs no training, is at least as good as the head" in capsys.readouterr().err
    run(*command, "--out", tmp_path / "taught", *SHORT, "--epochs", "20", "--json")
    assert json.loads(capsys.readouterr().out)["warning"] is None


def test_too_few_steps_are_refused_with_numbers_before_anything_is_read(
    ascii_folder: Path, tmp_path: Path, trl_file: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(line + "\n" for line in trl_file.read_text().splitlines()[:8]))
    with pytest.raises(InputError, match=r"There are \d wrong and \d+ right steps; at least 20 of each"):
        run("--model", ascii_folder, "--traces", few, "--out", tmp_path / "head")
    assert not (tmp_path / "head" / "stages" / "internals").exists()


def test_a_model_that_finishes_no_step_is_told_of(ascii_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"In 3 solutions, .* finished no step"):
        run("--model", ascii_folder, "--generate", "3", "--max-new-tokens", "30", "--out", tmp_path, "--quiet")
    assert (tmp_path / "stages" / "traces.jsonl").is_file()


def test_options_that_cannot_work_are_refused(
    ascii_folder: Path, trl_file: Path, equations_file: Path, tmp_path: Path
) -> None:
    command = ["--model", ascii_folder, "--out", tmp_path / "head"]
    with pytest.raises(UsageError, match="nothing to learn from"):
        run(*command)
    with pytest.raises(UsageError, match="bring no labels of their own"):
        run(*command, "--traces", equations_file, "--generate", "5")
    with pytest.raises(UsageError, match="no verifier 'oracle'"):
        run(*command, "--traces", trl_file, "--labels", "oracle")
    with pytest.raises(UsageError, match=r"layers 0 … 2"):
        run(*command, "--traces", trl_file, "--layer", "7")
    with pytest.raises(UsageError, match="weight of wrong steps"):
        run(*command, "--traces", trl_file, "--pos-weight", "0")
    with pytest.raises(UsageError, match="no format 'odd'"):
        run(*command, "--traces", trl_file, "--format", "odd")


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    run("--help")
    assert "draftproof train uncertainty-head --model" in capsys.readouterr().out


@pytest.mark.slow
def test_the_pocket_target_knows_when_it_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped model's own mistakes are found better than by guessing, by a head of at most 100,000 parameters."""
    figures = asked(capsys, "--model", "pocket-target", "--generate", "600", "--out", tmp_path, "--no-p-true")
    rows = {row["name"]: row for row in figures["held_out"]}
    assert figures["parameters"] <= 100_000
    assert rows["uncertainty-head"]["pr_auc"] > figures["base_rate"] + 0.2
