"""The networks behind the layouts: what is computed at a step's end, and how their weights are read.

Only safetensors are read, and no code that comes with a checkpoint runs: Qwen2.5-Math-PRM and Skywork name classes of
their own in `auto_map`, and what these compute is built here from transformers' own causal model and the head's
tensors. A weight that is missing is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Cache,
    PreTrainedModel,
)
from transformers.utils import logging

from draftproof.drafting.models.checkpoint import Checkpoint
from draftproof.drafting.models.load import failures_named
from draftproof.drafting.models.memory import available_bytes
from draftproof.drafting.models.quiet import no_progress_bars
from draftproof.errors import ModelError, OutOfMemoryError
from draftproof.verifiers.process_reward.layouts import REWARD_HEAD, VALUE_HEAD, Layout

_PROBE = 24
"""Tokens of the text on which a sequence classifier shows whether its texts can share a pass."""
_PROBE_TOLERANCE = 1e-3


class StepNetwork(Protocol):
    causal: bool
    """Whether what is computed at a token depends on nothing behind it: then all steps of a text share one pass, and
    texts that begin alike share what they have in common."""

    def __call__(self, ids: Tensor, mask: Tensor | None, rows: Tensor, columns: Tensor, cache: Cache | None) -> Tensor:
        """Logits [P, C] in float32 at the P places (row, column).

        Args:
            ids: [B, N] int64, padded on the right.
            mask: [B, N] int64, 0 at padding; None where there is none.
            rows, columns: [P] int64; columns count from the first of `ids`, whatever the cache holds.
            cache: of one row: what stands before `ids`; gets theirs as well.
        """
        ...


class HiddenHead:
    """A head on the last hidden states of a causal model."""

    causal = True

    def __init__(self, backbone: Any, head: Callable[[Tensor], Tensor]) -> None:
        self._backbone, self._head = backbone, head

    def __call__(self, ids: Tensor, mask: Tensor | None, rows: Tensor, columns: Tensor, cache: Cache | None) -> Tensor:
        states = self._backbone(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state
        return self._head(states[rows, columns]).float()


class TokenLogits:
    """The logits of two tokens of a causal language model: [P, 2], the bad one first."""

    causal = True

    def __init__(self, model: Any, bad: int, good: int) -> None:
        self._model = model
        self._tokens = [bad, good]
        self._chooses = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __call__(self, ids: Tensor, mask: Tensor | None, rows: Tensor, columns: Tensor, cache: Cache | None) -> Tensor:
        wanted, places = torch.unique(columns, return_inverse=True)
        chosen = {"logits_to_keep": wanted} if self._chooses else {}
        logits = self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **chosen
        ).logits
        return cast(Tensor, logits[rows, places if chosen else columns][:, self._tokens].float())


class WholeTexts:
    """A classifier of whole texts: the one result of each row, which ends at a step's end."""

    causal = False

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, ids: Tensor, mask: Tensor | None, rows: Tensor, columns: Tensor, cache: Cache | None) -> Tensor:
        return cast(Tensor, self._model(input_ids=ids, attention_mask=mask).logits[rows].float())


def load_network(
    checkpoint: Checkpoint,
    config: Any,
    layout: Layout,
    *,
    answers: tuple[int, int] | None,
    closing: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> StepNetwork:
    """The network of a checkpoint, with every weight from its files.

    Args:
        answers: ids of the bad and the good answer, for Math-Shepherd.
        closing: whether the tokenizer writes something behind a text: then classifiers of texts share no pass.

    Raises ModelError, and OutOfMemoryError for what does not fit.
    """
    _must_fit(checkpoint, dtype, device)

    def loaded(kind: Any) -> Any:
        model: Any = _from_files(kind, checkpoint.folder, config, dtype)
        return model.to(device)

    with failures_named(checkpoint.folder):
        match layout:
            case Layout.SKYWORK:
                return HiddenHead(
                    loaded(AutoModel), _linear(_tensors(checkpoint, VALUE_HEAD), dtype, device, outputs=1)
                )
            case Layout.QWEN_MATH_PRM:
                first, second = (_tensors(checkpoint, name) for name in REWARD_HEAD)
                inner = _linear(first, dtype, device, outputs=first["weight"].shape[0])
                head = nn.Sequential(inner, nn.ReLU(), _linear(second, dtype, device, outputs=2))
                return HiddenHead(loaded(AutoModel), head.eval())
            case Layout.MATH_SHEPHERD:
                if answers is None:
                    raise TypeError("this layout needs the tokens of its answers")
                return TokenLogits(loaded(AutoModelForCausalLM), *answers)
            case Layout.TOKENS:
                model = loaded(AutoModelForTokenClassification)
                if not hasattr(model, "score") or not _looks_back_only(model, model.score):
                    raise ModelError(
                        f"{checkpoint.folder} holds a {type(model).__name__}, whose scores depend on what stands "
                        "behind them: later steps would change the verdicts of earlier ones.",
                        remedy="Use a classifier on a causal model.",
                    )
                return HiddenHead(model.base_model, model.score)
            case Layout.SEQUENCE:
                model = loaded(AutoModelForSequenceClassification)
                if not closing and isinstance(getattr(model, "score", None), nn.Linear) and _shares(model):
                    return HiddenHead(model.base_model, model.score)
                return WholeTexts(model)


def tensor_names(checkpoint: Checkpoint) -> frozenset[str]:
    """Names of all tensors in the files."""
    names: set[str] = set()
    for file in checkpoint.files:
        with safe_open(file, framework="pt") as opened:
            names.update(opened.keys())
    return frozenset(names)


def _tensors(checkpoint: Checkpoint, layer: str) -> dict[str, Tensor]:
    """Weight and bias of one layer, by these names."""
    found: dict[str, Tensor] = {}
    for file in checkpoint.files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if name.rpartition(".")[0] == layer:
                    found[name.rpartition(".")[2]] = opened.get_tensor(name)
    if set(found) != {"weight", "bias"}:
        raise ModelError(
            f"{checkpoint.folder} has {', '.join(sorted(found)) or 'nothing'} of {layer}; "
            "weight and bias were expected."
        )
    return found


def _linear(tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device, *, outputs: int) -> nn.Linear:
    weight, bias = tensors["weight"], tensors["bias"]
    if weight.dim() != 2 or weight.shape[0] != outputs or bias.shape != (outputs,):
        raise ModelError(f"A head with {outputs} outputs has a weight of {tuple(weight.shape)}.")
    layer = nn.Linear(weight.shape[1], outputs)
    layer.load_state_dict(dict(tensors))
    return layer.to(device, dtype).requires_grad_(False)


def _from_files(kind: Any, folder: Path, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    with no_progress_bars(), _no_load_report():
        model, loading = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    absent = sorted(loading["missing_keys"])
    if absent:
        raise ModelError(
            f"{folder} lacks weights of {type(model).__name__}: {', '.join(absent[:3])}"
            + (f" and {len(absent) - 3} more." if len(absent) > 3 else "."),
            remedy="Get the checkpoint again; it may be one of another kind of model.",
        )
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


@contextmanager
def _no_load_report() -> Iterator[None]:
    """Heads are no part of transformers' models, and it would warn of every one; what is missing is told by us."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@torch.inference_mode()
def _shares(model: Any) -> bool:
    """Whether a text's result is what the head says at its last token within a longer text."""
    ids = _probe_ids(model)
    half = _PROBE // 2
    states = model.base_model(input_ids=ids).last_hidden_state[:, half - 1]
    return torch.allclose(
        model(input_ids=ids[:, :half]).logits.float(), model.score(states).float(), atol=_PROBE_TOLERANCE
    )


@torch.inference_mode()
def _looks_back_only(model: Any, head: Callable[[Tensor], Tensor]) -> bool:
    """Whether what stands behind a token leaves its result as it is."""
    ids = _probe_ids(model)
    half = _PROBE // 2
    long, short = (model.base_model(input_ids=each).last_hidden_state for each in (ids, ids[:, :half]))
    return torch.allclose(head(long[:, :half]).float(), head(short).float(), atol=_PROBE_TOLERANCE)


def _probe_ids(model: Any) -> Tensor:
    """[1, 24]: some ids, none of them padding."""
    padding = model.config.get_text_config().pad_token_id
    usable = [token for token in range(min(model.config.get_text_config().vocab_size, 64)) if token != padding]
    return torch.tensor([[usable[7 * place % len(usable)] for place in range(_PROBE)]], device=model.device)


def _must_fit(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
    available, needed = available_bytes(), checkpoint.parameters * dtype.itemsize
    if device.type == "cpu" and available is not None and needed > available:
        raise OutOfMemoryError(
            f"{checkpoint.folder} needs {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are "
            "available.",
            remedy="Free memory, or take a smaller model.",
        )


def padded(rows: Sequence[Sequence[int]], device: torch.device, filler: int) -> tuple[Tensor, Tensor | None]:
    """Ids [B, N] and their mask; no mask where the rows are of one length."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), filler, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    whole = all(len(row) == longest for row in rows)
    return ids.to(device), None if whole else mask.to(device)
