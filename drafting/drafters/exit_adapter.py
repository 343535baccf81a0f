"""A trained readout of one early exit: what the target's head is given in place of the exit's own states.

`h + U V (w ⊙ h / rms(h))` with V [r, H] and U [H, r] zero at first, so that an untrained adapter changes nothing. Some
37,000 weights at H = 576 and r = 32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from draftproof.drafting.drafters.adapter_files import AdapterTarget, read_adapter, write_adapter
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised
from draftproof.drafting.model import ModelInfo
from draftproof.errors import InputError, UsageError

FORMAT = "draftproof-exit-adapter-1"


@dataclass(frozen=True)
class ExitAdapterConfig:
    exit_layer: int
    """Layers that run before it."""
    rank: int = 32

    def __post_init__(self) -> None:
        if self.exit_layer < 1 or self.rank < 1:
            raise UsageError(f"exit_layer {self.exit_layer} and rank {self.rank} must be at least 1.")


class ExitAdapter(nn.Module):
    def __init__(
        self, config: ExitAdapterConfig, target: AdapterTarget, trimmed: TrimmedVocabulary | None = None
    ) -> None:
        """`trimmed`: the only tokens it was trained to draft; None: all."""
        super().__init__()
        self.config = config
        self.target = target
        self.trimmed = trimmed
        size = target.hidden_size
        if config.rank > size:
            raise UsageError(f"rank is {config.rank}, more than the width of the states, {size}.")
        self.scale = nn.Parameter(torch.ones(size))
        self.down = nn.Parameter(torch.randn(config.rank, size) * size**-0.5)
        self.up = nn.Parameter(torch.zeros(size, config.rank))

    def forward(self, hidden: Tensor) -> Tensor:
        """States [..., H] for the final norm and head from states [..., H] at the exit, in the dtype they came in."""
        small = normalised(hidden) * self.scale @ self.down.T
        return (hidden.float() + small @ self.up.T).to(hidden.dtype)

    def check_target(self, info: ModelInfo) -> None:
        self.target.check(info, "exit adapter")

    def save(self, folder: Path) -> None:
        write_adapter(folder, FORMAT, self, self.target, asdict(self.config), self.trimmed)

    @classmethod
    def load(cls, folder: Path) -> ExitAdapter:
        files = read_adapter(folder, FORMAT)
        try:
            adapter = cls(ExitAdapterConfig(**files.config), files.target, files.trimmed)
        except (TypeError, RuntimeError) as error:
            raise InputError(f"The adapter in {folder} cannot be read: {error}") from error
        files.fill(adapter, folder)
        return adapter.eval().requires_grad_(False)
