"""Each divergence has the value and the gradient of its definition."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from draftproof.drafting.training.divergences import Divergence, acceptance, divergence, on_outcomes, with_rest
from draftproof.errors import UsageError

KINDS = get_args(Divergence)


def laws(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(6, 9, generator=random).double(), torch.randn(6, 9, generator=random).double()


def defined(kind: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """By the definitions, from probabilities."""
    if kind == "fkl":
        return kl_divergence(Categorical(probs=p), Categorical(probs=q))
    if kind == "rkl":
        return kl_divergence(Categorical(probs=q), Categorical(probs=p))
    if kind == "tvd":
        return (p - q).clamp_min(0).sum(-1)
    mixed = Categorical(probs=(p + q) / 2)
    return (kl_divergence(Categorical(probs=p), mixed) + kl_divergence(Categorical(probs=q), mixed)) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_definition(kind: Divergence) -> None:
    target, draft = (torch.log_softmax(each, -1) for each in laws())
    torch.testing.assert_close(divergence(kind, target, draft), defined(kind, target.exp(), draft.exp()))
    assert float(divergence(kind, target, target).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_definition(kind: Divergence) -> None:
    target, logits = laws(1)
    logits.requires_grad_(True)
    divergence(kind, torch.log_softmax(target, -1), torch.log_softmax(logits, -1)).sum().backward()
    assert logits.grad is not None
    mine = logits.grad.clone()
    logits.grad = None
    defined(kind, torch.softmax(target, -1), torch.softmax(logits, -1)).sum().backward()
    torch.testing.assert_close(mine, logits.grad)
    assert torch.autograd.gradcheck(
        lambda z: divergence(kind, torch.log_softmax(target, -1), torch.log_softmax(z, -1)), logits
    )


def test_forward_and_reverse_differ() -> None:
    target, draft = (torch.log_softmax(each, -1) for each in laws())
    values = [divergence(kind, target, draft) for kind in KINDS]
    assert all(not torch.allclose(a, b) for i, a in enumerate(values) for b in values[:i])


def test_the_accepted_share_is_one_less_the_total_variation() -> None:
    target, draft = (torch.log_softmax(each, -1) for each in laws())
    torch.testing.assert_close(acceptance(target, draft), 1 - divergence("tvd", target, draft))


def test_beta_weighs_the_jensen_shannon_divergence() -> None:
    target, draft = (torch.log_softmax(each, -1) for each in laws())
    near_forward = divergence("jsd", target, draft, beta=1e-6) / 1e-6
    torch.testing.assert_close(near_forward, divergence("fkl", target, draft), rtol=1e-3, atol=1e-3)
    with pytest.raises(UsageError):
        divergence("jsd", target, draft, beta=1.0)


def test_outcomes_are_the_listed_tokens_and_all_others() -> None:
    logits, _ = laws()
    ids = torch.tensor([0, 4, 7]).expand(6, 3)
    whole = torch.softmax(logits, -1)
    expected = torch.cat([whole[:, [0, 4, 7]], whole[:, [1, 2, 3, 5, 6, 8]].sum(1, keepdim=True)], dim=1)
    torch.testing.assert_close(on_outcomes(logits, ids).exp(), expected)
    torch.testing.assert_close(with_rest(whole[:, [0, 4, 7]].log()).exp(), expected)


def test_the_rest_keeps_its_digits_where_it_is_nearly_nothing() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    rest = on_outcomes(logits, torch.tensor([[0]]))[0, 1]
    assert float(rest) == pytest.approx(-40.0 + 0.6931, abs=1e-3)
    assert float(with_rest(torch.log_softmax(logits, -1)[:, :1])[0, 1]) < -30


def test_coarser_outcomes_never_look_farther_apart() -> None:
    target, draft = laws(2)
    ids = torch.tensor([0, 4, 7]).expand(6, 3)
    for kind in KINDS:
        coarse = divergence(kind, on_outcomes(target, ids), on_outcomes(draft, ids))
        fine = divergence(kind, torch.log_softmax(target, -1), torch.log_softmax(draft, -1))
        assert bool((coarse <= fine + 1e-9).all())
        assert bool((coarse > 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_one_side_finds_impossible_give_numbers(kind: Divergence) -> None:
    target = torch.tensor([[0.0, -torch.inf]])
    draft = torch.tensor([[-torch.inf, 0.0]]).requires_grad_(True)
    value = divergence(kind, target, draft)
    assert bool(torch.isfinite(value).all())
    assert float(value.detach()) > 0.5


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(UsageError, match="fkl, rkl, jsd, tvd"):
        divergence("kl", *laws())  # type: ignore[arg-type]
