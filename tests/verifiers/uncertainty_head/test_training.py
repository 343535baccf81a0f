"""Training: a head learns what can be learnt, and only that; it can be stopped and gone on with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import InputError, UsageError
from draftproof.trace import StepLabel
from draftproof.verifiers.uncertainty_head import training as training_module
from draftproof.verifiers.uncertainty_head.evaluation import measure, measure_all
from draftproof.verifiers.uncertainty_head.examples import Examples, collect, split
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead, logits_of
from draftproof.verifiers.uncertainty_head.labels import label
from draftproof.verifiers.uncertainty_head.reader import Reader
from draftproof.verifiers.uncertainty_head.training import HeadTraining, TrainingResult, train_head
from tests.verifiers.uncertainty_head.conftest import TRAINING, WANTED, marked_traces

FEATURES = 6


def synthetic(count: int = 600, seed: int = 0, base_rate: float = 0.4) -> Examples:
    """Steps of noise; wrong ones have one token, anywhere, whose third feature is high."""
    source = torch.Generator().manual_seed(seed)
    features, wrong = [], []
    for _ in range(count):
        step = torch.randn(int(torch.randint(2, 9, (), generator=source)), FEATURES, generator=source)
        is_wrong = bool(torch.rand((), generator=source) < base_rate)
        if is_wrong:
            step[int(torch.randint(len(step), (), generator=source)), 2] += 6.0
        features.append(step.to(torch.float16))
        wrong.append(is_wrong)
    return Examples(
        features=features,
        wrong=torch.tensor(wrong),
        problems=[f"{index // 3:04}" for index in range(count)],
        places=[(index, 0) for index in range(count)],
        baselines={"noise": torch.rand(count, generator=source, dtype=torch.float64)},
        unread={},
        digest=f"synthetic-{count}-{seed}",
    )


CONFIG = HeadConfig(FEATURES, width=16, heads=2)
FAST = HeadTraining(epochs=14, patience=14, batch=32, learning_rate=5e-3)


def trained(examples: Examples, training: HeadTraining = FAST, checkpoint: Path | None = None) -> TrainingResult:
    return train_head(examples, split(examples), CONFIG, training, checkpoint=checkpoint)


def held_out_pr_auc(result: TrainingResult, examples: Examples) -> tuple[float, float]:
    row = measure_all(result.head, examples, split(examples).test)[0]
    assert row.pr_auc is not None
    return row.pr_auc, row.base_rate


@pytest.fixture(scope="module")
def data() -> Examples:
    return synthetic()


@pytest.fixture(scope="module")
def result(data: Examples) -> TrainingResult:
    return trained(data)


def test_what_one_token_in_a_step_tells_is_learnt(data: Examples, result: TrainingResult) -> None:
    found, base_rate = held_out_pr_auc(result, data)
    assert base_rate < 0.6
    assert found > 0.9


def test_labels_that_belong_to_other_steps_teach_nothing(data: Examples) -> None:
    """Negative control: what is measured is found in the features, not leaked by the measuring."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    mixed = replace(data, wrong=data.wrong[order], digest="mixed")
    found, base_rate = held_out_pr_auc(trained(mixed), mixed)
    assert found < base_rate + 0.2


def test_a_model_s_states_teach_it_from_end_to_end(examples: Examples) -> None:
    parts = split(examples)
    config = HeadConfig(examples.features[0].shape[1], width=32, heads=2)
    learnt = train_head(examples, parts, config, TRAINING)
    row = measure_all(learnt.head, examples, parts.test)[0]
    assert row.pr_auc is not None
    assert row.pr_auc > max(0.9, row.base_rate + 0.3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(data: Examples) -> None:
    short = replace(FAST, epochs=2)
    first, second, other = (trained(data, each).head.state_dict() for each in (short, short, replace(short, seed=1)))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["project.weight"], other["project.weight"])


@pytest.mark.parametrize("kill_at", [1, 20, 60])
def test_a_run_that_was_killed_ends_with_the_same_weights(
    kill_at: int, data: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(FAST, epochs=5, patience=3)
    whole = trained(data, short)

    class Killed(Exception):
        pass

    class Dying(training_module.Optimisation):
        def step(self, loss: torch.Tensor) -> None:
            if self.done == kill_at:
                self.save()
                raise Killed
            super().step(loss)

    file = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(training_module, "Optimisation", Dying)
        with pytest.raises(Killed):
            trained(data, short, file)
    resumed = trained(data, short, file)
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    ours, theirs = resumed.head.state_dict(), whole.head.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = trained(data, short, file)  # nothing is left to do
    assert torch.equal(again.head.state_dict()["second.bias"], ours["second.bias"])
    with pytest.raises(UsageError, match="other settings or data"):
        trained(data, replace(short, seed=9), file)


def test_training_stops_when_nothing_gets_better_and_keeps_the_best(
    data: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.45, 0.9])
    seen: list[dict[str, torch.Tensor]] = []

    def scripted(head: StepHead, examples: Examples, part: torch.Tensor) -> float:
        seen.append({name: value.clone() for name, value in head.named_parameters()})
        return next(scores)

    monkeypatch.setattr(training_module, "_validation_pr_auc", scripted)
    stopped = trained(data, replace(FAST, patience=2, pos_weight=1.0))
    assert stopped.history == (0.3, 0.5, 0.4, 0.45)
    assert stopped.best_epoch == 2
    kept = dict(stopped.head.named_parameters())
    assert all(torch.equal(kept[name], seen[1][name]) for name in kept)


def test_weighting_does_not_bend_the_probabilities(data: Examples) -> None:
    """The mean probability of *wrong* is near the share of wrong steps, whatever they weigh in training; without the
    correction a weight of 8 puts it far above."""
    hard = synthetic(seed=5, base_rate=0.3)
    hard = replace(hard, features=[torch.ones_like(step) for step in hard.features], digest="constant")
    result = trained(hard, replace(FAST, pos_weight=8.0))
    mean = float(torch.sigmoid(logits_of(result.head, hard.features)).mean())
    share = float(hard.wrong.double().mean())
    assert mean == pytest.approx(share, abs=0.1)
    bent = 1 / (1 + math.exp(-(math.log(mean / (1 - mean)) + math.log(8.0))))
    assert bent > share + 0.3


def test_no_problem_is_on_two_sides_and_each_side_has_both_kinds(data: Examples) -> None:
    parts = split(data)
    sides = [{data.problems[index] for index in part.tolist()} for part in (parts.train, parts.validation, parts.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert sum(map(len, (parts.train, parts.validation, parts.test))) == len(data)
    for part in (parts.train, parts.validation, parts.test):
        assert 0 < int(data.wrong[part].sum()) < len(part)


def test_the_split_does_not_depend_on_the_order(data: Examples) -> None:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(2)).tolist()
    turned = replace(
        data,
        features=[data.features[index] for index in order],
        wrong=data.wrong[order],
        problems=[data.problems[index] for index in order],
    )
    assert {data.problems[i] for i in split(data).test.tolist()} == {
        turned.problems[i] for i in split(turned).test.tolist()
    }


def few(wrong: int, right: int, problems: int) -> Examples:
    count = wrong + right
    return replace(
        synthetic(count),
        wrong=torch.arange(count) < wrong,
        problems=[str(index % problems) for index in range(count)],
    )


def test_too_few_steps_or_problems_are_refused_with_numbers() -> None:
    with pytest.raises(InputError, match="19 wrong and 50 right steps; at least 20 of each"):
        split(few(19, 50, 30))
    with pytest.raises(InputError, match="50 wrong and 3 right"):
        split(few(50, 3, 30))
    with pytest.raises(InputError, match="in 5 of 5 problems; at least 6 of 12"):
        split(few(30, 30, 5))


def test_reading_goes_on_where_it_stood(
    reader: Reader, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = label(marked_traces(130), None)
    whole = collect(reader, WANTED, labelled, tmp_path / "whole")
    read: list[int] = []
    original = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, given: read.append(1) or original(self, given))  # type: ignore[func-returns-value]
    first = tmp_path / "whole" / "internals-00000.safetensors"
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / first.name).write_bytes(first.read_bytes())
    (tmp_path / "part" / "internals-00001.safetensors").write_bytes(b"half")
    part = collect(reader, WANTED, labelled, tmp_path / "part")
    assert len(read) == 130 - 64
    assert part.digest == whole.digest
    assert all(torch.equal(one, other) for one, other in zip(part.features, whole.features, strict=True))
    other = label([each.model_copy(update={"step_labels": (StepLabel.CORRECT,) * 3}) for each in labelled.traces], None)
    assert collect(reader, WANTED, other, tmp_path / "part").digest != whole.digest


def test_steps_that_cannot_be_read_are_counted(reader: Reader, tmp_path: Path) -> None:
    traces = marked_traces(3)
    long = traces[0].model_copy(update={"problem": "x" * 1000})
    found = collect(reader, WANTED, label([*traces[1:], long], None), tmp_path)
    assert found.unread == {"context_too_long": sum(each is not StepLabel.UNKNOWN for each in long.step_labels or ())}


def test_measures_are_those_of_the_metrics_with_their_base_rate() -> None:
    wrong = torch.tensor([True, True, False, False, False])
    row = measure("x", wrong, torch.tensor([0.1, 0.6, 0.5, 0.8, 0.9]), list("abcde"))
    assert (row.steps, row.base_rate) == (5, 0.4)
    assert row.pr_auc == pytest.approx((1 + 2 / 3) / 2)
    assert row.roc_auc == pytest.approx(5 / 6)
    assert row.brier == pytest.approx((0.01 + 0.36 + 0.25 + 0.04 + 0.01) / 5)
    assert row.pr_auc_low is not None
    assert row.pr_auc_high is not None
    assert row.pr_auc_low <= row.pr_auc <= row.pr_auc_high


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"patience": 0}, {"pos_weight": 0.0}, {"pos_weight": math.nan}, {"learning_rate": -1.0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        HeadTraining(**wrong)  # type: ignore[arg-type]
