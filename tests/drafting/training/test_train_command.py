"""`draftproof train`: from a model's folder to trained heads, draft models and acceptance heads, resumably."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli.train import app
from draftproof.drafting.drafters.head_models import load_heads
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.models.load import load_model
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training.acceptance_head import load_acceptance_head
from draftproof.errors import InputError, ModelError, UsageError
from tests.drafting.training.conftest import decode

PROMPTS = [f"Say {a}{b} and go on." for a in "abcdef" for b in "uvwxyz"]
SHORT = ("--tokens", "600", "--max-new-tokens", "24", "--temperature", "0.5", "--batch", "16")


def run(*arguments: object) -> None:
    app([str(each) for each in arguments], standalone_mode=False)


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    run(*arguments, "--json", "--quiet")
    shown = capsys.readouterr()
    assert shown.err == ""  # no library's progress bars beside ours
    figures = json.loads(shown.out)
    assert isinstance(figures, dict)
    return figures


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    return file


def heads(model_folder: Path, prompts: Path, out: Path) -> list[object]:
    return [
        "heads",
        "--target",
        model_folder,
        "--text",
        prompts,
        "--out",
        out,
        "--heads",
        "2",
        "--vocab",
        "97",
        "--epochs",
        "4",
        *SHORT,
    ]


def test_heads_are_trained_reported_and_draft(
    model_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = asked(capsys, *heads(model_folder, prompts, tmp_path / "heads"))
    assert figures["text_tokens"] >= 600
    assert len(figures["top1"]) == 2
    assert figures["coverage"] == 1.0
    assert set(figures["tokens_per_pass"]) == {"7", "15"}
    assert figures["tokens_per_pass"]["7"] >= 1.0
    loaded = load_model(model_folder)
    drafter = HeadsDrafter(*load_heads(tmp_path / "heads"))
    text = [tuple(loaded.vocabulary.encode("Say qz"))]
    plain = decode(loaded.model, None, text, [Sampling()], new=20)
    assert decode(loaded.model, drafter, text, [Sampling()], new=20, draft_length=5)[0][0] == plain[0][0]


def test_the_same_command_again_repeats_nothing_and_ends_the_same(
    model_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "heads"
    first = asked(capsys, *heads(model_folder, prompts, out))
    text, weights = (out / "stages" / "text.jsonl").read_bytes(), (out / "heads.safetensors").read_bytes()
    second = asked(capsys, *heads(model_folder, prompts, out))
    assert (out / "stages" / "text.jsonl").read_bytes() == text
    assert (out / "heads.safetensors").read_bytes() == weights
    assert second["top1"] == first["top1"]


def test_a_person_is_shown_a_table_and_told_where_it_lies(
    model_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*heads(model_folder, prompts, tmp_path / "heads"), "--kind", "medusa")
    shown = capsys.readouterr().out
    assert "medusa heads, on held-out text" in shown
    assert "tokens a verification with 7 drafted tokens" in shown
    assert load_heads(tmp_path / "heads")[0].config.kind == "medusa"


def test_an_estimate_trains_nothing(
    model_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = asked(capsys, *heads(model_folder, prompts, tmp_path / "heads"), "--estimate")
    assert figures["total"] == pytest.approx(sum(figures[each] for each in ("generating", "reading", "training")))
    assert figures["total"] > 0
    assert not (tmp_path / "heads").exists()
    run(*heads(model_folder, prompts, tmp_path / "heads"), "--estimate")
    assert "in all" in capsys.readouterr().out


def test_a_draft_model_and_its_acceptance_head_work_together(
    model_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, draft, head = tmp_path / "data", tmp_path / "draft", tmp_path / "head"
    shared = ["--target", model_folder, "--text", prompts, "--data", data, *SHORT]
    figures = asked(capsys, "draft", *shared, "--out", draft, "--layers", "1", "--hidden", "64", "--epochs", "2")
    assert figures["accepted"][-1] > figures["accepted"][0]
    before = (data / "text.jsonl").stat().st_mtime_ns
    figures = asked(capsys, "acceptance-head", *shared, "--out", head, "--draft", draft)
    assert (data / "text.jsonl").stat().st_mtime_ns == before
    assert figures["examples"] > 400
    assert figures["better_than_a_constant"] == (figures["warning"] is None)
    _, record = load_acceptance_head(head)
    assert record["draft_digest"] == load_model(draft).model.info.digest
    assert record["target_digest"] == load_model(model_folder).model.info.digest
    target, small = load_model(model_folder), load_model(draft)
    policy = create_policy("specdec++", head=str(head))
    text = [tuple(target.vocabulary.encode("Say qz"))]
    plain = decode(target.model, None, text, [Sampling()], new=20)
    assert decode(target.model, SmallLM(small.model), text, [Sampling()], new=20, policy=policy)[0][0] == plain[0][0]


@pytest.mark.parametrize(
    ("tokens", "epochs", "useless"), [pytest.param(600, 60, True, id="overfit"), pytest.param(6000, 6, False, id="fit")]
)
def test_an_acceptance_head_that_is_no_better_than_a_constant_comes_with_a_warning(
    tokens: int,
    epochs: int,
    useless: bool,
    model_folder: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draft = tmp_path / "draft"
    shared = ["--target", model_folder, "--text", prompts, "--data", tmp_path / "data", *SHORT, "--tokens", tokens]
    asked(capsys, "draft", *shared, "--out", draft, "--layers", "1", "--hidden", "64", "--epochs", "1")
    command = ["acceptance-head", *shared, "--out", tmp_path / "head", "--draft", draft, "--epochs", epochs]
    figures = asked(capsys, *command)
    assert (figures["held_out_loss"] >= figures["held_out_loss_of_a_constant"]) is useless
    assert figures["better_than_a_constant"] is not useless
    assert ("no better than always saying the same" in (figures["warning"] or "")) is useless
    run(*command)
    assert ("Warning: On held-out text" in capsys.readouterr().err) is useless


def test_what_is_wrong_is_named(model_folder: Path, prompts: Path, tmp_path: Path) -> None:
    command = heads(model_folder, prompts, tmp_path / "heads")
    with pytest.raises(UsageError, match="'eagle'"):
        run(*command, "--kind", "eagle")
    with pytest.raises(UsageError, match="'fast'"):
        run(*command, "--backend", "fast")
    with pytest.raises((UsageError, ModelError), match="nowhere"):
        run("heads", "--target", tmp_path / "nowhere", "--out", tmp_path / "heads")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "fine"}\n{"prompt": 3}\n')
    with pytest.raises(InputError, match=r"broken\.jsonl:2"):
        run(*heads(model_folder, broken, tmp_path / "heads"))
    with pytest.raises(UsageError, match="'kl'"):
        run("draft", "--target", model_folder, "--out", tmp_path / "draft", "--divergence", "kl")
    assert not (tmp_path / "heads").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vocab", "30"], r"--vocab 30 .* 9\d tokens"),
        (["--max-new-tokens", "256"], r"context of .* 256 tokens, and --max-new-tokens takes 256"),
        (["--max-new-tokens", "255"], r"between 1 and 1 tokens: the context of .* --max-new-tokens takes 255 of them"),
        (["--heads", "32"], r"--heads 32 .* \(--max-new-tokens\)"),
        (["--tokens", "24"], "--tokens 24 may be a single answer"),
        (["--learning-rate", "0"], "learning rate is 0"),
        (["--learning-rate", "nan"], "learning rate is nan"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_written(
    options: list[str], said: str, model_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, InputError), match=said):
        run(*heads(model_folder, prompts, tmp_path / "heads"), *options)
    assert not (tmp_path / "heads").exists()


def test_one_prompt_is_refused_where_text_is_held_out(model_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.txt"
    alone.write_text("Say aa and go on.")
    for command in (
        heads(model_folder, alone, tmp_path / "out"),
        ["draft", *heads(model_folder, alone, tmp_path / "out")[1:7], *SHORT],
    ):
        with pytest.raises(UsageError, match="one prompt only"):
            run(*command)
    assert not (tmp_path / "out").exists()


def test_a_draft_model_that_does_not_fit_is_refused_before_text_is_written(
    model_folder: Path, tiny_chat_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    shared = ["acceptance-head", "--target", model_folder, "--text", prompts, "--out", tmp_path / "head"]
    with pytest.raises(UsageError, match="258 tokens and the target 97"):
        run(*shared, "--draft", tiny_chat_folder, *SHORT)
    draft = small_copy(model_folder, tmp_path / "short", context=32)
    with pytest.raises(UsageError, match="holds 32 tokens"):
        run(*shared, "--draft", draft, *SHORT)
    assert not (tmp_path / "head").exists()


def small_copy(folder: Path, copy: Path, context: int) -> Path:
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    return copy


@pytest.mark.parametrize("command", ["heads", "draft", "acceptance-head", "history", "exit-adapter", "kangaroo"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "--help")
    shown = capsys.readouterr().out
    assert f"draftproof train {command} --target" in shown
