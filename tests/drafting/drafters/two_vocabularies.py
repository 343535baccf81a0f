"""Two real tokenizers that cut the same text differently, and models over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.drafters.text_align import Tokenization
from draftproof.drafting.model import ModelInfo, Pass, RowTokens, Wanted
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary

TEXT = (
    "The treasurer counted 1234 coins, then counted them again: «naïve» bookkeeping costs more than coffee.\n\n"
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich — 42 times!\n"
    "def total(values):\n    return sum(value for value in values if value > 0)\n"
    "日本語のテキストも少しあります。 The treasurer counted again; the coins were 1233, the coffee was cold. 🙂🙂\n"
)


def byte_level(texts: Sequence[str], size: int, specials: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def target_vocabulary() -> ByteVocabulary:
    """Merges of prose; ends texts with <|end|>."""
    return ByteVocabulary(byte_level([TEXT] * 3, 380, ["<|user|>", "<|end|>"]))


def draft_vocabulary() -> ByteVocabulary:
    """Merges of other text, other numbers, and controls of its own: <|end|> is written alike, </s> is not."""
    other = (
        "the coins and the coffee counted; den Boxkampf überall; return value; counting 12 12 34 then again and again "
    )
    return ByteVocabulary(byte_level([other * 4, "treasure trea bookkeeping boo"], 330, ["</s>", "<|end|>"]))


def random_llama(size: int, seed: int, end: int = 1) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=end,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval().requires_grad_(False)


class Reciter:
    """A model that knows one text by heart: after any beginning of it, it says the next token, cut as usual if it can.

    Elsewhere than in the text it says token `lost`.
    """

    def __init__(self, vocabulary: ByteVocabulary, text: bytes, *, end: int = 1, lost: int = 40) -> None:
        self._vocabulary, self._text, self._end, self._lost = vocabulary, text, end, lost
        self._written = Tokenization(vocabulary, {})
        usual = self._written.encode(list(text))
        self._usual = dict(zip([0, *usual.ends], usual.ids, strict=False))
        self._committed: dict[int, list[int]] = {}
        self._slots: dict[int, list[int]] = {}
        self.fed = 0

    @property
    def info(self) -> ModelInfo:
        size, cpu = self._vocabulary.size, torch.device("cpu")
        ends = frozenset({self._end})
        return ModelInfo("reciter", "reciter", size, 1, 1, 4096, ends, cpu, torch.float32, "test", "reciter")

    def add_row(self, row: int) -> None:
        self._committed[row], self._slots[row] = [], []

    def drop_row(self, row: int) -> None:
        del self._committed[row], self._slots[row]

    def length(self, row: int) -> int:
        return len(self._committed[row])

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        rows: list[torch.Tensor] = []
        bounds = [0]
        for each in batch:
            assert each.parents is None, "chains only"
            slots = self._slots[each.row]
            del slots[each.start :]
            assert len(slots) == each.start
            first = 0 if wanted.logits == "all" else len(each.tokens) - 1
            for index, token in enumerate(each.tokens.tolist()):
                slots.append(token)
                if index >= first and wanted.logits != "none":
                    rows.append(self._says([*self._committed[each.row], *slots]))
            self.fed += len(each.tokens)
            bounds.append(len(rows))
        counts = torch.tensor([len(each.tokens) for each in batch]).cumsum(0).tolist()
        hidden = {tap: torch.zeros(counts[-1], 1) for tap in wanted.taps}
        return Pass(torch.stack(rows) if rows else None, tuple(bounds), hidden, (0, *counts))

    def commit(self, row: int, slots: Sequence[int]) -> None:
        assert list(slots) == list(range(len(slots))), "a chain"
        self._committed[row] += self._slots[row][: len(slots)]
        self._slots[row] = []

    def truncate(self, row: int, length: int) -> None:
        del self._committed[row][length:]
        self._slots[row] = []

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def head(self, hidden: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
        raise NotImplementedError

    def _says(self, tokens: list[int]) -> torch.Tensor:
        said = b"".join(self._vocabulary.token_bytes(token) or b"" for token in tokens)
        if not self._text.startswith(said):
            following = self._lost
        elif said == self._text:
            following = self._end
        else:
            following = self._usual.get(len(said)) or self._written.encode(list(self._text[len(said) :])).ids[0]
        logits = torch.zeros(self._vocabulary.size)
        logits[following] = 9.0
        return logits
