"""Steps of training: their schedule, and that a killed run ends where it would have ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from draftproof.drafting.training.optimisation import Optimisation, shuffled
from draftproof.errors import NumericalError, UsageError


def trained(steps: int, file: Path | None = None, *, stop: int | None = None, settings: str = "a") -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    run = Optimisation(
        dict(model.named_parameters()), steps=steps, learning_rate=0.1, settings={"name": settings}, file=file
    )
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    while not run.finished and run.done != stop:
        run.step(model(inputs[shuffled(64, 8, run.done, 0)]).square().mean())
    run.save()
    return model


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = trained(30)
    trained(30, tmp_path / "state.safetensors", stop=11)
    resumed = trained(30, tmp_path / "state.safetensors")
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    assert not torch.equal(whole.weight, trained(30, stop=11).weight)


def test_what_a_run_carries_comes_back_with_its_state(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)

    def run() -> Optimisation:
        file = tmp_path / "state.safetensors"
        return Optimisation(dict(model.named_parameters()), steps=9, learning_rate=0.1, settings={}, file=file)

    first = run()
    assert first.carried == {}
    first.carried = {"figures": torch.tensor([1.5, 2.5], dtype=torch.float64), "none.yet": torch.empty(0)}
    first.step(model(torch.ones(1, 2)).sum())
    first.save()
    carried = run().carried
    assert carried.keys() == {"figures", "none.yet"}
    assert carried["figures"].tolist() == [1.5, 2.5]
    assert carried["none.yet"].tolist() == []


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    trained(30, tmp_path / "state.safetensors", stop=3)
    with pytest.raises(UsageError, match="other settings"):
        trained(30, tmp_path / "state.safetensors", settings="b")


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(UsageError, match="cannot be gone on with"):
        trained(30, tmp_path / "state.safetensors")


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    run = Optimisation(dict(nn.Linear(2, 2).named_parameters()), steps=100, learning_rate=1.0, settings={}, warmup=0.1)
    rates = [run.learning_rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    model = nn.Linear(2, 2)
    run = Optimisation(dict(model.named_parameters()), steps=5, learning_rate=0.1, settings={})
    with pytest.raises(NumericalError, match="step 0"):
        run.step(model(torch.ones(1, 2)).sum() * float("nan"))


def test_an_epoch_takes_each_example_once_in_an_order_of_its_own() -> None:
    first = torch.cat([shuffled(10, 4, step, seed=0) for step in range(3)])
    second = torch.cat([shuffled(10, 4, step, seed=0) for step in range(3, 6)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert first.tolist() == torch.cat([shuffled(10, 4, step, seed=0) for step in range(3)]).tolist()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}])
def test_runs_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Optimisation({}, **({"steps": 1, "learning_rate": 1.0, "settings": {}} | wrong))  # type: ignore[arg-type]
