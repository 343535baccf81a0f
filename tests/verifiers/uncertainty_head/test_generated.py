"""Traces of the model's own: of problems whose truth is known, and resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.pocket.problems import PocketProblem
from draftproof.errors import InputError, UsageError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause
from draftproof.trace import StepLabel
from draftproof.verifiers.uncertainty_head import generated
from draftproof.verifiers.uncertainty_head.generated import Asked, Writing, pocket_problems, write_traces

WRITING = Writing(max_new_tokens=20)


@dataclass
class Solving:
    """Writes what it is told to each problem, and counts what it was asked."""

    answers: dict[str, str]
    cause: StopCause = StopCause.END
    name: str = "stub"
    identity: str = "stub#0"
    deterministic: bool = True
    abilities: frozenset[Ability] = frozenset()
    seeds: list[int] = field(default_factory=list)
    most: int = 10**6

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        made = []
        for request in requests:
            if len(self.seeds) >= self.most:
                raise KeyboardInterrupt
            self.seeds.append(request.decoding.seed)
            made.append(Completion(self.answers[request.context.messages[0].content], self.cause))
        return made

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        raise NotImplementedError

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise NotImplementedError


def made_problems(count: int) -> tuple[list[Asked], list[PocketProblem]]:
    import random

    from draftproof.drafting.pocket.problems import problem

    source = random.Random("uncertainty-head:0")
    return pocket_problems(count, 0), [problem(source) for _ in range(count)]


def test_steps_are_labelled_by_the_problem_s_plan(tmp_path: Path) -> None:
    asked, plans = made_problems(2)
    good, bad = plans
    result = bad.steps[0].calculation.result
    answers = {good.text: good.solution, bad.text: bad.solution.replace(f"={result}.", f"={result + 1}.", 1)}
    right, wrong = write_traces(Solving(answers), asked, WRITING, tmp_path / "traces.jsonl")
    assert set(right.step_labels or ()) == {StepLabel.CORRECT}
    assert len(right.steps) == len(good.steps) + 1
    assert right.answer_correct is True
    assert "".join(step.text for step in right.steps) == good.solution
    assert wrong.first_error == 0
    assert set((wrong.step_labels or ())[1:]) == {StepLabel.UNKNOWN}
    assert wrong.generator == "stub#0"


def test_a_step_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    asked, (plan,) = made_problems(1)
    cut = Solving({plan.text: plan.solution[:-3]}, cause=StopCause.LENGTH)
    (trace,) = write_traces(cut, asked, WRITING, tmp_path / "traces.jsonl")
    assert len(trace.steps) == len(plan.steps)
    assert set(trace.step_labels or ()) == {StepLabel.CORRECT}
    assert write_traces(Solving({plan.text: ""}), asked, WRITING, tmp_path / "none.jsonl") == []


def test_a_run_that_was_stopped_goes_on_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "_BATCH", 2)
    asked, plans = made_problems(6)
    answers = {plan.text: plan.solution for plan in plans}
    whole = write_traces(Solving(answers), asked, WRITING, tmp_path / "whole.jsonl")
    file, stopped = tmp_path / "part.jsonl", Solving(answers, most=4)
    with pytest.raises(KeyboardInterrupt):
        write_traces(stopped, asked, WRITING, file)
    with file.open("ab") as out:
        out.write(b'{"text": "ha')  # half a line, as a kill leaves it
    resumed = Solving(answers)
    assert write_traces(resumed, asked, WRITING, file) == whole
    assert len(resumed.seeds) == 2
    assert not set(resumed.seeds) & set(stopped.seeds)
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_solutions_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    asked, plans = made_problems(2)
    answers, file = {plan.text: plan.solution for plan in plans}, tmp_path / "traces.jsonl"
    write_traces(Solving(answers), asked, WRITING, file)
    for model, problems, writing in (
        (Solving(answers, identity="other#1"), asked, WRITING),
        (Solving(answers), asked[:1], WRITING),
        (Solving(answers), asked, replace(WRITING, seed=1)),
    ):
        with pytest.raises(UsageError, match="another model, or of other problems"):
            write_traces(model, problems, writing, file)
    file.write_text("[]\nnothing\n")
    with pytest.raises(InputError, match="no generated traces"):
        write_traces(Solving(answers), asked, WRITING, file)


def test_a_real_model_writes_the_same_again(writer: LocalLanguageModel, tmp_path: Path) -> None:
    asked = [Asked(f"Sum {number}?") for number in range(3)]
    first = write_traces(writer, asked, WRITING, tmp_path / "one.jsonl")
    second = write_traces(writer, asked, WRITING, tmp_path / "two.jsonl")
    assert first == second
    lines = (tmp_path / "one.jsonl").read_text().splitlines()
    assert len({json.loads(line)["text"] for line in lines[1:]}) == 3
    assert all(trace.step_labels is None for trace in first)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Writing(**wrong)  # type: ignore[arg-type]
