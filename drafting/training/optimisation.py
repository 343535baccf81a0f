"""AdamW under a cosine schedule, which can be killed at any step and gone on with to the same weights.

What is stored are the trained parameters, the optimiser's two moments and the number of steps done. The caller makes
step n's data a function of n, and puts what else it needs to go on into `carried`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from draftproof.errors import NumericalError, UsageError

_SAVE_SECONDS = 60.0


class Optimisation:
    """Steps that are done, and how to do one more."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        steps: int,
        learning_rate: float,
        settings: Mapping[str, Any],
        file: Path | None = None,
        warmup: float = 0.05,
        weight_decay: float = 0.01,
        clip: float = 1.0,
    ) -> None:
        """
        Args:
            parameters: what is trained; gone on with from `file` where there is one.
            settings: everything that the result depends on: a file made under other settings is refused.
            warmup: share of the steps in which the learning rate rises to its peak.
            clip: largest norm of a step's gradient.
        """
        if steps < 1:
            raise UsageError(f"Training needs at least one step, got {steps}.")
        check_learning_rate(learning_rate)
        self._parameters = {name: each for name, each in parameters.items() if each.requires_grad}
        matrices = [each for each in self._parameters.values() if each.dim() > 1]
        others = [each for each in self._parameters.values() if each.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
        self._steps = steps
        self._peak = learning_rate
        self._warmup = max(1, round(warmup * steps))
        self._clip = clip
        self._digest = sha256(dumps(dict(settings), sort_keys=True).encode()).hexdigest()
        self._file = file
        self._saved_at = time.monotonic()
        self.done = 0
        self.carried: dict[str, Tensor] = {}
        """Tensors of the caller's, stored with the state and found here again: set them before `step`."""
        if file is not None and file.is_file():
            self._restore(file)

    @property
    def finished(self) -> bool:
        return self.done >= self._steps

    def learning_rate(self, step: int) -> float:
        """Linear to the peak, then half a cosine down to 0."""
        if step < self._warmup:
            return self._peak * (step + 1) / self._warmup
        share = (step - self._warmup) / max(1, self._steps - self._warmup)
        return self._peak * 0.5 * (1.0 + math.cos(math.pi * share))

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`; now and then the state is stored."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(
                f"The loss of step {self.done} is {value}.", remedy="Lower the learning rate and start anew."
            )
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate(self.done)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters.values(), self._clip)
        self._adam.step()
        self.done += 1
        if self.finished or time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Store the state, if there is a file for it. A kill leaves the old file or the new one, never half of it."""
        if self._file is None:
            return
        self._saved_at = time.monotonic()
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            moments = self._adam.state.get(parameter, {})
            tensors[f"value.{name}"] = parameter.detach().clone().contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in moments:
                    tensors[f"{moment}.{name}"] = moments[moment].contiguous()
        tensors |= {f"carried.{name}": each.detach().contiguous() for name, each in self.carried.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        save_file(tensors, partial, metadata={"done": str(self.done), "settings": self._digest})
        partial.replace(self._file)

    def _restore(self, file: Path) -> None:
        try:
            with safe_open(str(file), framework="pt") as opened:
                said = opened.metadata() or {}
                if said.get("settings") != self._digest:
                    raise UsageError(
                        f"{file} holds a training run of other settings or data.",
                        remedy="Name another output folder, or delete the file.",
                    )
                self.done = int(said["done"])
                names = [name.removeprefix("carried.") for name in opened.keys() if name.startswith("carried.")]  # noqa: SIM118
                self.carried = {name: opened.get_tensor(f"carried.{name}") for name in names}
                for name, parameter in self._parameters.items():
                    with torch.no_grad():
                        parameter.copy_(opened.get_tensor(f"value.{name}"))
                    if self.done:
                        self._adam.state[parameter] = {
                            "step": torch.tensor(float(self.done)),
                            "exp_avg": opened.get_tensor(f"exp_avg.{name}").to(parameter.device),
                            "exp_avg_sq": opened.get_tensor(f"exp_avg_sq.{name}").to(parameter.device),
                        }
        except (SafetensorError, KeyError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{file} cannot be gone on with: {error}", remedy="Delete it.") from error


def check_learning_rate(value: float) -> None:
    if not 0.0 < value < math.inf:
        raise UsageError(f"The learning rate is {value}, it must be above 0 and finite.")


def shuffled(count: int, batch: int, step: int, seed: int) -> Tensor:
    """Which of `count` examples step `step` takes, [≤ batch]: each once an epoch, in a new order every epoch."""
    each = -(-count // batch)
    epoch, within = divmod(step, each)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[within * batch : (within + 1) * batch]
