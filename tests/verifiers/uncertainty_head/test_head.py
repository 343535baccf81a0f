"""The head looks at a step's own tokens, all of them and nothing else; it is small, and says how small beforehand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from draftproof.errors import UsageError
from draftproof.verifiers.uncertainty_head import head as head_module
from draftproof.verifiers.uncertainty_head.head import (
    MOST_PARAMETERS,
    HeadConfig,
    StepHead,
    logits_of,
    padded,
)


def made(features: int = 5, seed: int = 0, **shape: int) -> StepHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StepHead(HeadConfig(features, **({"width": 16, "heads": 2} | shape))).eval().requires_grad_(False)


def some_steps(lengths: list[int], features: int = 5, seed: int = 1) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(length, features, generator=source) for length in lengths]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_step_gets_the_same_logit_alone_and_beside_longer_ones(lengths: list[int]) -> None:
    head, steps = made(layers=2), some_steps(lengths)
    alone = torch.cat([head(*padded([step])) for step in steps])
    torch.testing.assert_close(head(*padded(steps)), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits_of(head, steps, batch=2), alone, rtol=1e-4, atol=1e-5)


def behind(step: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """A step with other tokens where padding would be: those of the steps that follow it, for instance."""
    features = torch.cat([step, others]).unsqueeze(0)
    return features, torch.arange(features.shape[1]).unsqueeze(0) < len(step)


def test_tokens_behind_a_step_cannot_change_its_logit() -> None:
    head, (step, later, other) = made(layers=2), some_steps([4, 6, 6])
    alone = head(*padded([step]))
    for following in (later, other, later * 1e3):
        torch.testing.assert_close(head(*behind(step, following)), alone, rtol=1e-4, atol=1e-5)


def _leaking_from_the_future(real: Tensor) -> Tensor:
    return torch.ones_like(real)[:, None, None, :]


def _padding_let_in_by_an_and(real: Tensor) -> Tensor:
    """The published mistake: "hidden" AND "up to the step's last token" was meant to hide what is later. It unhides the
    padding instead, and hides nothing."""
    upto = torch.arange(real.shape[1]) < real.sum(1, keepdim=True)
    return ~(~real & upto)[:, None, None, :]


@pytest.mark.parametrize("mask", [_leaking_from_the_future, _padding_let_in_by_an_and])
def test_a_mask_that_lets_other_tokens_in_is_seen(mask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the two tests above fail on such a mask."""
    head, (step, later, other) = made(layers=2), some_steps([4, 6, 6])
    monkeypatch.setattr(head_module, "visible", mask)
    assert float((head(*behind(step, later)) - head(*behind(step, other))).abs()) > 1e-3


def test_the_last_token_and_the_mean_both_count() -> None:
    head, (step,) = made(), some_steps([6])
    with torch.no_grad():
        for block in head.blocks:  # without attention only the pool mixes tokens
            block.out.weight.zero_()  # type: ignore[union-attr, operator]
            block.out.bias.zero_()  # type: ignore[union-attr, operator]
    first, last = step.clone(), step.clone()
    first[[0, 1]] = step[[1, 0]]
    last[[4, 5]] = step[[5, 4]]
    whole = head(*padded([step]))
    torch.testing.assert_close(head(*padded([first])), whole, rtol=1e-4, atol=1e-5)
    assert float((head(*padded([last])) - whole).abs()) > 1e-3


def test_features_are_normalised_and_a_constant_one_is_harmless() -> None:
    head = made(features=2)
    head.normalise_by(torch.tensor([100.0, 3.0]), torch.tensor([50.0, 0.0]))
    step = torch.tensor([[150.0, 3.0], [50.0, 3.0]])
    plain = made(features=2)
    torch.testing.assert_close(head(*padded([step])), plain(*padded([torch.tensor([[1.0, 0.0], [-1.0, 0.0]])])))
    assert bool(head(*padded([step])).isfinite().all())


@pytest.mark.parametrize("shape", [{}, {"width": 32, "heads": 4, "layers": 3}, {"features": 400, "width": 64}])
def test_the_number_of_parameters_is_known_beforehand(shape: dict[str, int]) -> None:
    head = made(**shape)
    assert head.config.parameters == sum(each.numel() for each in head.parameters())


def test_the_default_is_small_beside_its_model() -> None:
    """Two layers' states and the statistics of a model of width 192, as the pocket target is; and of one of 8 B."""
    assert HeadConfig.default(2 * 192 + 3, 192).parameters <= 100_000
    assert HeadConfig.default(2 * 4096 + 3, 4096).parameters < MOST_PARAMETERS


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": 10**9},
        {"features": 0},
        {"width": 4096, "heads": 16},
        {"layers": 10**9},
        {"width": 30, "heads": 4},
        {"dropout": 1.0},
        {"dropout": float("nan")},
        {"features": True},
    ],
)
def test_shapes_that_cannot_be_are_refused_before_anything_is_allocated(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        HeadConfig(**({"features": 8, "width": 16, "heads": 2} | wrong))
