"""Kangaroo's adapter: one attention block over the states at a shallow exit, between two norms.

Liu et al., arXiv 2404.18911, section 3.1: a decoder layer without its feed-forward part. `x + W_o Attention(norm(x))`,
then a norm; the target's own norm and head read the result. With one block, keys and values of a position depend on
the state there and on nothing else, so that catching up on committed positions is one matrix product. W_o is zero at
first: an untrained adapter is a plain early exit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from draftproof.drafting.drafters.adapter_files import AdapterTarget, read_adapter, write_adapter
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised
from draftproof.drafting.model import ModelInfo
from draftproof.errors import InputError, UsageError

FORMAT = "draftproof-kangaroo-1"
_MOST_HEADS = 1024


@dataclass(frozen=True)
class KangarooConfig:
    exit_layer: int
    """Layers that run before it."""
    n_heads: int
    n_kv_heads: int
    head_size: int
    rope_base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.exit_layer < 1 or self.head_size < 2 or self.head_size % 2:
            raise UsageError(f"exit_layer {self.exit_layer} must be at least 1 and head_size {self.head_size} even.")
        if not 1 <= self.n_kv_heads <= self.n_heads <= _MOST_HEADS or self.n_heads % self.n_kv_heads:
            raise UsageError(f"{self.n_heads} heads cannot share {self.n_kv_heads} pairs of keys and values.")
        if not self.rope_base > 1.0:
            raise UsageError(f"rope_base is {self.rope_base}, it must be above 1.")


class KangarooAdapter(nn.Module):
    _frequencies: Tensor

    def __init__(self, config: KangarooConfig, target: AdapterTarget, trimmed: TrimmedVocabulary | None = None) -> None:
        """`trimmed`: the only tokens it was trained to draft; None: all."""
        super().__init__()
        self.config = config
        self.target = target
        self.trimmed = trimmed
        size, queries = target.hidden_size, config.n_heads * config.head_size
        pairs = config.n_kv_heads * config.head_size
        if queries > 8 * size:
            raise UsageError(f"{config.n_heads} heads of {config.head_size} are far wider than the states, {size}.")
        self.norm_in = nn.Parameter(torch.ones(size))
        self.q = nn.Linear(size, queries, bias=False)
        self.k = nn.Linear(size, pairs, bias=False)
        self.v = nn.Linear(size, pairs, bias=False)
        self.o = nn.Linear(queries, size, bias=False)
        nn.init.zeros_(self.o.weight)
        self.norm_out = nn.Parameter(torch.ones(size))
        half = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
        self.register_buffer("_frequencies", config.rope_base**-half, persistent=False)

    def keys_values(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [n, kv heads, head size] of states [n, H] at `positions` [n] int64."""
        seen = normalised(states) * self.norm_in
        shape = (len(states), self.config.n_kv_heads, self.config.head_size)
        return self._turned(self.k(seen).view(shape), positions), self.v(seen).view(shape)

    def queries(self, states: Tensor, positions: Tensor) -> Tensor:
        """[n, heads, head size] of states [n, H]."""
        seen = normalised(states) * self.norm_in
        return self._turned(self.q(seen).view(len(states), self.config.n_heads, self.config.head_size), positions)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """[n, heads · head size]: what queries [n, …] find in keys and values [m, kv heads, head size].

        `mask` [n, m] is True where a query may look; None: everywhere.
        """
        shared = self.config.n_heads // self.config.n_kv_heads
        found = functional.scaled_dot_product_attention(
            queries.transpose(0, 1),
            keys.repeat_interleave(shared, dim=1).transpose(0, 1),
            values.repeat_interleave(shared, dim=1).transpose(0, 1),
            attn_mask=mask,
        )
        return found.transpose(0, 1).flatten(1)

    def output(self, states: Tensor, mixed: Tensor) -> Tensor:
        """States [n, H] for the target's norm and head, in the dtype they came in."""
        joined = states.float() + self.o(mixed)
        return (normalised(joined) * self.norm_out).to(states.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """A whole text at once, [n, H] to [n, H]: each position looks at itself and at those before it."""
        positions = torch.arange(len(states), device=states.device)
        causal = torch.ones(len(states), len(states), dtype=torch.bool, device=states.device).tril()
        keys, values = self.keys_values(states, positions)
        return self.output(states, self.mix(self.queries(states, positions), keys, values, causal))

    def _turned(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Rotary positions on [n, heads, head size] (Su et al., arXiv 2104.09864), halves paired."""
        angles = positions.to(torch.float32).unsqueeze(-1) * self._frequencies  # [n, head size / 2]
        cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        first, second = heads.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)

    def check_target(self, info: ModelInfo) -> None:
        self.target.check(info, "Kangaroo adapter")

    def save(self, folder: Path) -> None:
        write_adapter(folder, FORMAT, self, self.target, asdict(self.config), self.trimmed)

    @classmethod
    def load(cls, folder: Path) -> KangarooAdapter:
        files = read_adapter(folder, FORMAT)
        try:
            adapter = cls(KangarooConfig(**files.config), files.target, files.trimmed)
        except (TypeError, RuntimeError) as error:
            raise InputError(f"The adapter in {folder} cannot be read: {error}") from error
        files.fill(adapter, folder)
        return adapter.eval().requires_grad_(False)
