"""Training of the pocket pair: two Llama models of one tokenizer, on solutions as they are meant to be written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from draftproof.drafting.pocket.examples import IGNORED, batch_of
from draftproof.drafting.training.optimisation import Optimisation
from draftproof.drafting.training.progress import Report, silent

CONTEXT = 512


@dataclass(frozen=True)
class PocketSize:
    """What is trained, and for how long."""

    hidden: int
    layers: int
    steps: int
    batch: int = 16
    learning_rate: float = 2e-3
    long_share: float = 1.0
    """Of the results of long products and quotients, how many are taught."""


FULL = {
    "draft": PocketSize(hidden=64, layers=2, steps=10_000, long_share=0.2),
    "target": PocketSize(hidden=128, layers=3, steps=10_000),
}
"""The pair that is shipped."""
FAST = {
    "draft": PocketSize(hidden=32, layers=2, steps=800),
    "target": PocketSize(hidden=64, layers=2, steps=1200),
}
"""Enough to see that all of it works."""


def train_pocket(
    size: PocketSize,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Report = silent,
    stage: str = "training",
) -> LlamaForCausalLM:
    """A model trained from nothing, in float32.

    Batches are small: what a step works on then stays in a core's cache, and each problem takes half the time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config_of(size, tokenizer))
    settings = asdict(size) | {"seed": seed, "vocabulary": len(tokenizer)}
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
        batch = batch_of(step, size.batch, seed + 1, tokenizer.backend_tokenizer, long_share=size.long_share)
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        loss = cross_entropy(model.lm_head(hidden).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
        optimisation.step(loss)
        report(stage, optimisation.done, size.steps, f"loss {float(loss.detach()):.4f}")
    model.eval()
    return model


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
