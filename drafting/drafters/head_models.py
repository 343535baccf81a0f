"""Draft heads on the target's last hidden state: their modules, and the files they are kept in.

All heads share one output matrix over a trimmed vocabulary, read from the target's own head, plus one class for every
other token, so that probabilities are of the whole vocabulary. State h predicted the pending token; head k proposes
the token k places after it.

Medusa (Cai et al., arXiv 2401.10774, section 2.1.1): `x + SiLU(W_k x + b_k)`, each head by itself.
Hydra (Ankner et al., arXiv 2402.05109, section 3): head k also sees the embeddings of the pending token and of the
k - 1 tokens drafted before, `R_k u + SiLU(W_k u + b_k)` with `u = [x, e_1 … e_k]`. More layers are more such blocks
of width H. The branches begin at zero and R_k at [I, 0 …], so an untrained head says what the target said.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.errors import DraftproofError, InputError, UsageError

Kind = Literal["medusa", "hydra"]

FORMAT = "draftproof-heads-1"
WEIGHTS_FILE = "heads.safetensors"
CONFIG_FILE = "heads.json"
MOST = 32
"""Heads, and layers of a head: more is a mistake, and a file must not make us allocate without end."""


@dataclass(frozen=True)
class HeadsConfig:
    kind: Kind
    n_heads: int
    hidden_size: int
    vocab_size: int
    """V of the target."""
    n_layers: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("medusa", "hydra"):
            raise UsageError(f"Draft heads are of the kind 'medusa' or 'hydra', not {self.kind!r}.")
        for name in ("n_heads", "hidden_size", "vocab_size", "n_layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} of draft heads is {value!r}, it must be a whole number of at least 1.")
        if self.n_heads > MOST or self.n_layers > MOST:
            raise UsageError(f"{self.n_heads} heads of {self.n_layers} layers were asked for; at most {MOST} each.")


class DraftHeads(nn.Module):
    """K heads and the output matrix that they share."""

    def __init__(
        self,
        config: HeadsConfig,
        trimmed: TrimmedVocabulary,
        output: tuple[Tensor, Tensor] | None = None,
        *,
        train_output: bool = False,
    ) -> None:
        """`output`: A [W, H] and c [W] of the target (`vocab_trim.output_rows`); None leaves zeros to be loaded."""
        super().__init__()
        self.config = config
        self.trimmed = trimmed
        width, kept = config.hidden_size, trimmed.size
        self.first = nn.ModuleList([Block(config.kind, k + 1, width) for k in range(config.n_heads)])
        """Of head k: what joins the state with the embeddings it sees."""
        self.deeper = nn.ModuleList(
            [
                nn.Sequential(*(Block("medusa", 0, width) for _ in range(config.n_layers - 1)))
                for _ in range(config.n_heads)
            ]
        )
        self.output = nn.Parameter(torch.zeros(kept, width), requires_grad=train_output)
        self.output_bias = nn.Parameter(torch.zeros(kept), requires_grad=train_output)
        self.rest = nn.Parameter(torch.zeros(width))
        """Row of the class of tokens that are not kept: the target's head has none."""
        self.rest_bias = nn.Parameter(torch.zeros(()))
        if output is not None:
            with torch.no_grad():
                self.output.copy_(output[0])
                self.output_bias.copy_(output[1])

    def state(self, head: int, hidden: Tensor, embedded: Tensor | None) -> Tensor:
        """What head `head` (0-based) makes of states, [n, H].

        `hidden` [n, H] is normalised (`vocab_trim.normalised`), and so is `embedded` [n, head + 1, H]: the pending
        token and those drafted after it, in order. Medusa heads do not look at it.
        """
        seen = hidden
        if self.config.kind == "hydra":
            assert embedded is not None
            seen = torch.cat([hidden, embedded.flatten(1)], dim=1)
        return cast(Tensor, self.deeper[head](self.first[head](seen)))

    def logits(self, state: Tensor) -> Tensor:
        """[n, W + 1]: a column for each kept token, and last the class of all others."""
        weight = torch.cat([self.output, self.rest.unsqueeze(0)])
        bias = torch.cat([self.output_bias, self.rest_bias.unsqueeze(0)])
        return nn.functional.linear(state, weight.to(state.dtype), bias.to(state.dtype))


class Block(nn.Module):
    """Residual block with a zero branch; with embeddings, the residual is a map that begins as "the state alone"."""

    def __init__(self, kind: Kind, embeddings: int, width: int) -> None:
        super().__init__()
        seen = width * (1 + embeddings) if kind == "hydra" else width
        self.residual: nn.Linear | None = None
        if seen != width:
            self.residual = nn.Linear(seen, width, bias=False)
            with torch.no_grad():
                self.residual.weight.zero_()
                self.residual.weight[:, :width].copy_(torch.eye(width))
        self.branch = nn.Linear(seen, width)
        nn.init.zeros_(self.branch.weight)
        nn.init.zeros_(self.branch.bias)

    def forward(self, seen: Tensor) -> Tensor:
        kept = seen if self.residual is None else self.residual(seen)
        return cast(Tensor, kept + nn.functional.silu(self.branch(seen)))


@dataclass(frozen=True)
class HeadsRecord:
    """What is known of trained heads beside their weights."""

    target: str
    """What the target was called."""
    target_digest: str
    data_digest: str = ""
    accuracies: tuple[tuple[float, ...], ...] = ()
    """Of each head, how often its i-th best candidate was the target's arg-max, on held-out text."""
    sharpness: tuple[tuple[float, float], ...] = ()
    """Of each head, factors of its logits under which its probabilities tell how often candidates are accepted: for
    greedy decoding, and for sampling at temperature 1."""
    training: dict[str, Any] = field(default_factory=dict)
    """Settings and figures of the training run."""


def save_heads(folder: Path, heads: DraftHeads, record: HeadsRecord) -> None:
    """Writes the weights as float16 (drafts need no more) and everything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to(torch.float16).cpu().contiguous() for name, value in heads.state_dict().items()}
    tensors["ids"] = heads.trimmed.ids.to(torch.int32)
    described = {"format": FORMAT, "config": asdict(heads.config), "record": asdict(record)}
    weights = folder / f"{WEIGHTS_FILE}.partial"
    save_file(tensors, weights, metadata={"target_digest": record.target_digest})
    weights.replace(folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_heads(folder: Path, *, target_digest: str | None = None) -> tuple[DraftHeads, HeadsRecord]:
    """Heads in float32, ready to draft. Raises UsageError for heads of another target than `target_digest`."""
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config_file.is_file() or not weights_file.is_file():
        raise UsageError(
            f"{folder} holds no draft heads: {CONFIG_FILE} and {WEIGHTS_FILE} are expected in it.",
            remedy="Train some with draftproof train heads.",
        )
    try:
        described = json.loads(config_file.read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise InputError(f"{config_file} has the format {described['format']!r}; this version reads {FORMAT!r}.")
        config = HeadsConfig(**described["config"])
        record = _record(described["record"])
        with safe_open(str(weights_file), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        trimmed = TrimmedVocabulary(tensors.pop("ids").to(torch.int64), config.vocab_size)
        if tensors["output"].shape != (trimmed.size, config.hidden_size):
            raise InputError(f"{weights_file} holds an output of {tuple(tensors['output'].shape)}, not what it says.")
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise InputError(f"{weights_file} holds weights that are not numbers.")
        heads = DraftHeads(config, trimmed)
        heads.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        if isinstance(error, DraftproofError):
            raise
        raise InputError(f"The draft heads in {folder} cannot be read: {error}") from error
    if target_digest is not None and record.target_digest != target_digest:
        raise UsageError(
            f"The draft heads in {folder} were trained for {record.target} ({record.target_digest[:19]}), "
            f"not for this target ({target_digest[:19]}).",
            remedy="Train heads for this target with draftproof train heads.",
        )
    return heads.eval().requires_grad_(False), record


def _record(values: dict[str, Any]) -> HeadsRecord:
    return HeadsRecord(
        target=str(values["target"]),
        target_digest=str(values["target_digest"]),
        data_digest=str(values["data_digest"]),
        accuracies=tuple(tuple(float(value) for value in row) for row in values["accuracies"]),
        sharpness=tuple((float(greedy), float(sampled)) for greedy, sampled in values["sharpness"]),
        training=dict(values["training"]),
    )
