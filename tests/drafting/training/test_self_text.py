"""Text that the target writes: truly its own, and neither lost nor doubled when the run is killed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from transformers import PreTrainedModel

from draftproof.drafting.model import CachedModel, RowTokens
from draftproof.drafting.training.progress import silent
from draftproof.drafting.training.self_text import TextPlan, digest, generate, read
from draftproof.errors import ContextLengthError, InputError, UsageError
from tests.drafting.training.conftest import some_prompts

PLAN = TextPlan(some_prompts(12), tokens=150, temperatures=(0.0, 0.7), max_new_tokens=16, batch=5)


def test_greedy_text_is_what_the_model_says_alone(
    markov: CachedModel, markov_model: PreTrainedModel, tmp_path: Path
) -> None:
    texts = generate(markov, replace(PLAN, temperatures=(0.0,)), tmp_path / "text.jsonl")
    for text in texts[:4]:
        ids = list(text.ids[: text.prompt_length])
        while len(ids) < len(text.ids):
            ids.append(int(markov_model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert tuple(ids) == text.ids


def test_sampled_tokens_follow_the_models_law(markov: CachedModel, tmp_path: Path) -> None:
    prompt = some_prompts(1)[0]
    plan = TextPlan((prompt,), tokens=1_200, temperatures=(1.0,), max_new_tokens=1, batch=200)
    texts = generate(markov, plan, tmp_path / "text.jsonl")
    seen = Counter(text.ids[-1] for text in texts)
    markov.add_row(0)
    logits = markov.forward([RowTokens(0, torch.tensor(prompt))]).logits
    markov.drop_row(0)
    assert logits is not None

    def chance(temperature: float) -> float:
        due = torch.softmax(logits[-1].double() / temperature, 0) * len(texts)
        common = (due >= 5).nonzero().flatten().tolist()
        got = [seen[token] for token in common] + [len(texts) - sum(seen[token] for token in common)]
        expected = [float(due[token]) for token in common]
        return float(chisquare(got, [*expected, len(texts) - sum(expected)]).pvalue)

    assert chance(1.0) > 1e-3
    assert chance(1.3) < 1e-6


def stop_after(steps: int):  # type: ignore[no-untyped-def]
    taken = iter(range(steps))

    def report(stage: str, done: int, total: int, detail: str) -> None:
        if next(taken, None) is None:
            raise KeyboardInterrupt

    return report


def test_a_killed_run_goes_on_to_the_same_texts(markov: CachedModel, tmp_path: Path) -> None:
    whole = generate(markov, PLAN, tmp_path / "whole.jsonl")
    file = tmp_path / "killed.jsonl"
    for steps in (3, 14, 14):
        with pytest.raises(KeyboardInterrupt):
            generate(markov, PLAN, file, report=stop_after(steps))
    half = {text.job for text in read(file)}
    assert 0 < len(half) < len(whole)
    assert generate(markov, PLAN, file) == whole
    jobs = [json.loads(line)["job"] for line in file.read_text().splitlines()[1:]]
    assert len(jobs) == len(set(jobs))
    assert digest(read(file, PLAN.tokens)) == digest(whole)


def test_a_finished_file_is_only_read(markov: CachedModel, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    texts = generate(markov, PLAN, file)
    before = file.read_bytes()
    assert generate(markov, PLAN, file, report=silent) == texts
    assert file.read_bytes() == before
    longer = generate(markov, replace(PLAN, tokens=200), file)
    assert longer[: len(texts)] == texts
    assert sum(text.generated for text in longer) >= 200


def test_a_line_that_was_cut_off_is_written_anew(markov: CachedModel, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    texts = generate(markov, PLAN, file)
    raw = file.read_bytes()
    file.write_bytes(raw[:-20])
    assert generate(markov, PLAN, file) == texts


@pytest.mark.parametrize("line", ["{", '{"job": 3}', '{"job": 3, "temperature": 0, "prompt": 9, "ids": [1, 2]}', "[]"])
def test_a_broken_line_is_named(line: str, markov: CachedModel, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    generate(markov, PLAN, file)
    lines = file.read_text().splitlines()
    lines[2] = line
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"text\.jsonl:3: "):
        generate(markov, PLAN, file)


@pytest.mark.parametrize(
    "other", [replace(PLAN, seed=1), replace(PLAN, temperatures=(0.5,)), replace(PLAN, prompts=some_prompts(3))]
)
def test_a_file_of_another_plan_is_not_gone_on_with(other: TextPlan, markov: CachedModel, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    generate(markov, PLAN, file)
    with pytest.raises(UsageError, match="another target or of other prompts"):
        generate(markov, other, file)


def test_no_prompt_is_answered_greedily_twice() -> None:
    plan = replace(PLAN, prompts=some_prompts(5), temperatures=(0.0, 0.0, 0.7))
    greedy = Counter(job % 5 for job in range(60) if plan.temperature(job) == 0.0)
    assert max(greedy.values()) == 1
    assert {plan.temperature(job) for job in range(60)} == {0.0, 0.7}


def test_greedy_jobs_alone_end_with_the_prompts(markov: CachedModel, tmp_path: Path) -> None:
    plan = TextPlan(some_prompts(3), tokens=10_000, temperatures=(0.0,), max_new_tokens=5)
    texts = generate(markov, plan, tmp_path / "text.jsonl")
    assert [text.job for text in texts] == [0, 1, 2]


def test_text_ends_with_the_end_of_text(markov: CachedModel, tmp_path: Path) -> None:
    plan = TextPlan(some_prompts(40), tokens=1_000, temperatures=(1.5,), max_new_tokens=60, batch=20)
    texts = generate(markov, plan, tmp_path / "text.jsonl")
    ended = [text for text in texts if 2 in text.ids[text.prompt_length :]]
    assert ended
    assert all(text.ids.index(2, text.prompt_length) == len(text.ids) - 1 for text in ended)
    assert all(text.generated == 60 for text in texts if text not in ended)


def test_a_prompt_that_leaves_no_room_is_named(markov: CachedModel, tmp_path: Path) -> None:
    plan = TextPlan((tuple([5] * 256),), tokens=5)
    with pytest.raises(ContextLengthError, match="Prompt 0 has 256 tokens"):
        generate(markov, plan, tmp_path / "text.jsonl")


@pytest.mark.parametrize("wrong", [{"prompts": ()}, {"prompts": ((),)}, {"tokens": 0}, {"temperatures": (-1.0,)}])
def test_plans_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TextPlan(**({"prompts": some_prompts(2), "tokens": 5} | wrong))  # type: ignore[arg-type]
