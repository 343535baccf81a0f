"""The pocket models' tokenizer: byte-level BPE over their own problems, every digit a token of its own."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from draftproof.drafting.pocket.problems import SEPARATOR, problem

END = "<|end|>"
_TEXTS = 3000
_WORDS = 224
"""Pieces beyond the 256 bytes and the end token."""


def pocket_tokenizer() -> PreTrainedTokenizerFast:
    """Always the same one. The separator is one token, too."""
    source = random.Random(0)  # noqa: S311 - nothing secret
    made = [problem(source) for _ in range(_TEXTS)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + _WORDS,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((each.text + SEPARATOR + each.solution for each in made), trainer)
    core.add_tokens([SEPARATOR])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
