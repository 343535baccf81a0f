"""Training of the pocket pair: two Llama models of one tokenizer, on solutions as they are meant to be written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from draftproof.drafting.pocket.examples import IGNORED, batch_of
from draftproof.drafting.training.optimisation import Optimisation
from draftproof.drafting.training.progress import Report, silent

_ATTENTION = "draftproof_float32"
CONTEXT = 512


@dataclass(frozen=True)
class PocketSize:
    """What is trained, and for how long."""

    hidden: int
    layers: int
    steps: int
    batch: int = 64
    learning_rate: float = 2e-3


FULL = {
    "draft": PocketSize(hidden=96, layers=2, steps=3000, learning_rate=3e-3),
    "target": PocketSize(hidden=192, layers=4, steps=6000),
}
"""The pair that is shipped."""
FAST = {
    "draft": PocketSize(hidden=64, layers=2, steps=250, learning_rate=3e-3),
    "target": PocketSize(hidden=96, layers=2, steps=400, learning_rate=3e-3),
}
"""Enough to see that all of it works."""


def train_pocket(
    size: PocketSize,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    checkpoint: Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    report: Report = silent,
    stage: str = "training",
) -> LlamaForCausalLM:
    """A model trained from nothing; float32, its matrices multiplied in `dtype` while it is trained."""
    AttentionInterface.register(_ATTENTION, cast(Any, _attention))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config_of(size, tokenizer))
    model.config._attn_implementation = _ATTENTION
    settings = asdict(size) | {"seed": seed, "dtype": str(dtype), "vocabulary": len(tokenizer)}
    optimisation = Optimisation(
        dict(model.named_parameters()),
        steps=size.steps,
        learning_rate=size.learning_rate,
        settings=settings,
        file=checkpoint,
        warmup=0.03,
    )
    model.train()
    while not optimisation.finished:
        step = optimisation.done
        batch = batch_of(step, size.batch, seed + 1, tokenizer.backend_tokenizer)
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            wanted = batch.targets.flatten() != IGNORED
            logits = model.lm_head(hidden.flatten(0, 1)[wanted])
        loss = cross_entropy(logits.float(), batch.targets.flatten()[wanted])
        optimisation.step(loss)
        report(stage, optimisation.done, size.steps, f"loss {float(loss.detach()):.4f}")
    model.config._attn_implementation = "sdpa"
    return model.eval()


def config_of(size: PocketSize, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    heads = size.hidden // 32
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Causal attention in float32: PyTorch's backward pass in bfloat16 takes several times as long on a CPU. Padding
    stands behind the text, where nothing looks at it."""
    with torch.autocast("cpu", enabled=False):
        mixed = scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True, scale=scaling)
    return mixed.transpose(1, 2).contiguous(), None
