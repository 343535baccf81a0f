"""Tokens are bytes: what is encoded comes back byte for byte, and control tokens are never made of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from draftproof.drafting.models.byte_vocabulary import ByteVocabulary, byte_characters
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError

CONTROL = "<|im_end|>"
TEXTS = [
    "The quick brown fox jumps over the lazy dog, the quick brown fox.",
    "def area(r):\n    return 3.14159 * r ** 2\n\n\n# 12 + 30 = 42",
    "Ein Läufer läuft schnell — très vite, 漢字 and 😀😀.",
]


def byte_level(*, cuts: Any = None, normalizer: Any = None, **options: Any) -> Tokenizer:
    """Trained like SmolLM2's: digits alone, GPT-2's cuts, the byte alphabet."""
    tokenizer = Tokenizer(models.BPE(**options))
    digits = pre_tokenizers.Digits(individual_digits=True)
    cuts = cuts or [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=["<|endoftext|>", CONTROL], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer


def qwen_like() -> Tokenizer:
    """Its cuts come from a pattern, and it composes characters before it encodes."""
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return byte_level(
        cuts=[split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)], normalizer=normalizers.NFC()
    )


def with_a_space_in_front() -> Tokenizer:
    return byte_level(cuts=[pre_tokenizers.ByteLevel(add_prefix_space=True)])


def pieces() -> dict[str, int]:
    """Control tokens, the 256 bytes, and a few pieces with U+2581 for a space."""
    listed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    listed += ["▁", "t", "h", "e", "c", "a", "s", "<", ">", "/", "1", "2", "▁t", "he", "▁the", "at", "▁▁"]
    return {token: number for number, token in enumerate(listed)}


def llama_2_like() -> Tokenizer:
    """A space is put in front of every text, and taken away when decoding."""
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("a", "t"), ("▁", "▁")]
    tokenizer = Tokenizer(models.BPE(pieces(), merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = llama_2_like()
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return tokenizer


def unigram() -> Tokenizer:
    """Its model may spell a control token from text: `</s>` is one of its pieces."""
    scored = [(token, -float(number)) for token, number in pieces().items()]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "qwen-like": qwen_like,
    "space-in-front": with_a_space_in_front,
    "llama-2-like": llama_2_like,
    "metaspace": metaspace,
    "unigram": unigram,
}


@pytest.fixture(scope="module", params=KINDS)
def vocabulary(request: pytest.FixtureRequest) -> ByteVocabulary:
    return ByteVocabulary(KINDS[request.param]())


texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="the cat 12\n\t▁</s>|im_end", max_size=60),
    st.lists(st.sampled_from([CONTROL, "</s>", "<s>", "<think>", "<|endoftext|>", "<0x41>", " ", "▁", "é"])).map(
        "".join
    ),
)


@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_bytes_of_tokens_joined_are_the_text(vocabulary: ByteVocabulary, text: str) -> None:
    ids = vocabulary.encode(text)
    assert b"".join(vocabulary.token_bytes(token) or b"" for token in ids) == text.encode()
    assert vocabulary.special_ids.isdisjoint(ids)
    assert vocabulary.decode(ids) == text


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_text_that_a_tokenizer_reads_with_its_controls_decodes_to_what_is_left(
    vocabulary: ByteVocabulary, text: str
) -> None:
    """The ids a model sees are other ids than `encode` gives; their bytes must be right too."""
    ids = [*vocabulary.encode(text), min(vocabulary.special_ids), *vocabulary.encode(text)]
    assert vocabulary.decode(ids) == text + text


def test_every_kind_is_a_vocabulary(vocabulary: ByteVocabulary) -> None:
    assert isinstance(vocabulary.size, int)
    checked: Vocabulary = vocabulary
    assert checked.token_bytes(checked.size) is None
    assert checked.token_bytes(-1) is None
    assert all(checked.token_bytes(token) is None for token in checked.special_ids)
    assert checked.encode("") == []
    assert checked.decode([]) == ""


def test_all_bytes_have_tokens_and_invalid_ones_decode_to_replacements(vocabulary: ByteVocabulary) -> None:
    single = {vocabulary.token_bytes(token): token for token in range(vocabulary.size)}
    assert all(bytes([byte]) in single for byte in range(256))
    half = single["é".encode()[:1]]
    assert vocabulary.decode([half]) == "\ufffd"
    assert vocabulary.decode([half, single["é".encode()[1:]]]) == "é"


def test_lone_surrogates_are_replaced() -> None:
    vocabulary = ByteVocabulary(byte_level())
    assert vocabulary.decode(vocabulary.encode("a\ud800b")) == "a\ufffdb"


def test_control_tokens_have_no_bytes_and_other_added_tokens_their_text() -> None:
    tokenizer = byte_level()
    vocabulary = ByteVocabulary(tokenizer)
    assert vocabulary.special_tokens == {"<|endoftext|>": 0, CONTROL: 1}
    think = tokenizer.token_to_id("<think>")
    assert vocabulary.token_bytes(think) == b"<think>"
    assert vocabulary.encode("<think>") == [think]
    assert tokenizer.encode(CONTROL).ids == [1]  # what the tokenizer itself would do
    assert 1 not in vocabulary.encode(CONTROL)


def test_a_model_that_spells_control_tokens_is_kept_from_it() -> None:
    """Shows that the property above meets such a model."""
    tokenizer = unigram()
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id("</s>")
    assert end in tokenizer.encode("</s>", add_special_tokens=False).ids
    assert end not in ByteVocabulary(unigram()).encode("</s>")


def test_limits_of_length_in_the_file_are_lifted() -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    vocabulary = ByteVocabulary(tokenizer)
    assert vocabulary.decode(vocabulary.encode("the quick brown fox")) == "the quick brown fox"


def test_the_digest_tells_vocabularies_apart_and_nothing_else() -> None:
    digest = ByteVocabulary(byte_level()).digest
    assert digest == ByteVocabulary(byte_level()).digest
    other = byte_level()
    other.add_special_tokens(["<|tool|>"])
    assert ByteVocabulary(other).digest != digest
    ordinary = byte_level()
    ordinary.add_tokens(["<|tool|>"])
    assert ByteVocabulary(ordinary).digest not in (digest, ByteVocabulary(other).digest)


def test_the_byte_alphabet_has_each_byte_once() -> None:
    alphabet = byte_characters()
    assert sorted(alphabet.values()) == list(range(256))
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert (alphabet["Ġ"], alphabet["Ċ"], alphabet["A"]) == (0x20, 0x0A, 0x41)


def word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##s": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def lower_case() -> Tokenizer:
    """Not byte-level, and loses capitals only when it is asked to normalise; loses spaces for good."""
    tokenizer = Tokenizer(models.BPE({"t": 0, "h": 1, "e": 2}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("kind", [word_pieces, lower_case])
def test_alphabets_that_lose_text_are_refused(kind: Callable[[], Tokenizer]) -> None:
    with pytest.raises(UsageError, match="gives every text back"):
        ByteVocabulary(kind())


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"got str"):
        ByteVocabulary("tokenizer.json")
