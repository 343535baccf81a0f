"""Sampling: how the target's logits become the distribution that is decoded from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """The processors of one row, in the order they are applied: repetition penalty, temperature, top-k, top-p.

    Losslessness is relative to the distribution after all of them, for drafted and plain decoding alike.
    """

    temperature: float = 0.0
    """0 is greedy decoding: the arg-max, ties to the lowest id."""
    top_k: int = 0
    """Keep tokens whose logit reaches the k-th largest (ties at the k-th value are kept); 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most probable tokens whose mass, within the top-k, reaches p; ties are kept."""
    repetition_penalty: float = 1.0
    """Logits of tokens already in the prompt or the output are divided by it when positive, else multiplied
    (Keskar et al., arXiv 1909.05858, section 4.1)."""
    seed: int = 0
    """Key of the row's random streams. Equal seeds give equal text, whatever it is batched with, and under the rule
    `match` whatever is drafted. Rules that use a drafter's probabilities keep the law of the text, not the text."""

    def __post_init__(self) -> None:
        for name, kinds in (("top_k", int), ("seed", int), ("temperature", int | float), ("top_p", int | float)):
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UsageError(f"{name} is {value!r}, a number was expected.")
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}, it must be 0 (greedy) or positive and finite.")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}, it must be 0 (off) or positive.")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p is {self.top_p}, it must be above 0 and at most 1 (off).")
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise UsageError(f"repetition_penalty is {self.repetition_penalty}, it must be positive and finite.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {self.seed}, it must be in 0 … 2^63 - 1.")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


GREEDY = Sampling()
"""The arg-max of the raw logits."""


def seeded(sampling: Sampling, count: int) -> list[Sampling]:
    """`sampling` for each of `count` prompts: rows of one seed would share their noise, and repeat each other."""
    rng = KeyedRng(sampling.seed)
    return [replace(sampling, seed=rng.of_prompt(index).seed) for index in range(count)]
