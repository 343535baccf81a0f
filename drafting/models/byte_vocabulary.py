"""The bytes behind the ids of a Hugging Face tokenizer: `Vocabulary` for byte-level BPE and SentencePiece alphabets.

Byte-level tokenizers (GPT-2, Llama 3, Qwen, SmolLM) write each byte as one printable character; SentencePiece-like ones
(Llama 2, Mistral, Gemma) write a space as U+2581 and a byte without a character of its own as `<0x0A>`. Both are
read from the tokenizer's own data. Alphabets that cannot give a text back, such as word pieces, are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, cast

from tokenizers import Tokenizer

from draftproof.errors import UsageError

_SPACE = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROBE = " The  cat sat,\n\n\t1 + 10 = 11.  "
"""What every vocabulary must give back: capitals, runs of white space, digits."""


def byte_characters() -> dict[str, int]:
    """The character that byte-level tokenizers write for each byte (GPT-2's table), to the byte.

    Printable Latin-1 characters stand for themselves; the other 68 bytes follow each other from U+0100 on.
    """
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(kept)]
    return {chr(byte): byte for byte in kept} | {chr(256 + number): byte for number, byte in enumerate(others)}


class ByteVocabulary:
    """`draftproof.drafting.vocabulary.Vocabulary` over a transformers or tokenizers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a `tokenizers.Tokenizer`, or a transformers tokenizer that is backed by one.

        Raises UsageError when there is none behind it, or when its alphabet loses text.
        """
        backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise UsageError(
                f"A tokenizer with a tokenizer.json behind it was expected, got {type(tokenizer).__name__}.",
                remedy="Load it with AutoTokenizer and save it again, which writes tokenizer.json.",
            )
        written = json.loads(backend.to_str())
        parts = list(_parts([written["pre_tokenizer"], written["normalizer"], written["decoder"]]))
        kinds = {part["type"] for part in parts}
        self._byte_level = "ByteLevel" in kinds
        self._spaced = "Metaspace" in kinds or any(_stands_for_space(part) for part in parts)
        if written["model"]["type"] not in ("BPE", "Unigram") or "WordPiece" in kinds:
            raise _irreversible(f"its model is {written['model']['type']}")

        self._special: dict[int, str] = {
            token["id"]: token["content"] for token in written["added_tokens"] if token["special"]
        }
        for token in getattr(tokenizer, "all_special_tokens", ()):
            identifier = backend.token_to_id(token)
            if identifier is not None:
                self._special[identifier] = token
        added = {token["id"]: token["content"] for token in written["added_tokens"]}
        self._bytes = self._table(backend.get_vocab(with_added_tokens=True), added)
        self._byte_ids = self._ids_of_bytes(backend)
        self._encoder = _plain_encoder(written)
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise _irreversible(f"{_PROBE!r} comes back as {self.decode(self.encode(_PROBE))!r}")

    @property
    def size(self) -> int:
        """The largest id and one; a model's rows of logits may be wider."""
        return len(self._bytes)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self._special)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Control tokens by the text they are written with."""
        return {content: identifier for identifier, content in self._special.items()}

    def token_bytes(self, token: int) -> bytes | None:
        return self._bytes[token] if 0 <= token < len(self._bytes) else None

    def encode(self, text: str) -> list[int]:
        """Ids whose bytes, joined, are the text's: no space is put before it and nothing is normalised.

        A vocabulary that lacks a byte loses the characters that have it: SmolLM2's has no token for U+0004. Lone
        surrogates, which UTF-8 cannot hold, count as U+FFFD.
        """
        text = _SURROGATE.sub("\ufffd", text)
        if not self._spaced or _SPACE not in text or not self._byte_ids:
            return self._encoded(text)
        # The character that stands for a space can itself be written only as its three bytes.
        ids: list[int] = []
        for number, piece in enumerate(text.split(_SPACE)):
            if number:
                ids.extend(self._byte_ids[byte] for byte in _SPACE.encode())
            ids.extend(self._encoded(piece))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._joined(ids).decode("utf-8", errors="replace")

    @cached_property
    def digest(self) -> str:
        """Identifies what each id stands for; histories of ids are only good for a vocabulary with the same digest."""
        hashed = hashlib.sha256()
        for token, data in enumerate(self._bytes):
            text = self._special.get(token, "").encode()
            hashed.update(b"%d %d " % (-1 if data is None else len(data), len(text)))
            hashed.update((data or b"") + text)
        return hashed.hexdigest()

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._encoder.encode(text, add_special_tokens=False).ids
        if self._joined(ids) == text.encode():
            return ids
        # Some models spell a control token, or the token of a byte, from its characters: cut behind the first of them.
        ids = []
        start = 0
        for match in self._spellings.finditer(text):
            cut = match.start() + 1
            ids.extend(self._encoder.encode(text[start:cut], add_special_tokens=False).ids)
            start = cut
        ids.extend(self._encoder.encode(text[start:], add_special_tokens=False).ids)
        return [token for token in ids if token not in self._special]

    def _joined(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.token_bytes(token) or b"" for token in ids)

    @cached_property
    def _spellings(self) -> re.Pattern[str]:
        """What tokens that do not stand for themselves are written as."""
        controls = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join([_BYTE_TOKEN.pattern, *map(re.escape, controls)]))

    def _table(self, ids: dict[str, int], added: dict[int, str]) -> list[bytes | None]:
        alphabet = byte_characters() if self._byte_level else {}
        table: list[bytes | None] = [None] * (max(ids.values(), default=-1) + 1)
        for token, identifier in ids.items():
            if identifier in self._special:
                continue
            if identifier in added:
                table[identifier] = added[identifier].encode()
            elif self._byte_level:
                # What lies outside the alphabet came in as a whole token and stands for itself.
                whole = all(character in alphabet for character in token)
                table[identifier] = bytes(alphabet[character] for character in token) if whole else token.encode()
            elif match := _BYTE_TOKEN.fullmatch(token):
                table[identifier] = bytes([int(match[1], 16)])
            else:
                table[identifier] = (token.replace(_SPACE, " ") if self._spaced else token).encode()
        return table

    def _ids_of_bytes(self, backend: Tokenizer) -> list[int]:
        """Ids of the tokens `<0x00>` … `<0xFF>`; empty unless all are there."""
        ids = [backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        return [] if None in ids else cast(list[int], ids)


def _parts(found: Any) -> Iterator[dict[str, Any]]:
    """The normalizers, pre-tokenizers and decoders in `found`, those inside sequences included."""
    if isinstance(found, list):
        for each in found:
            yield from _parts(each)
    elif isinstance(found, dict) and "type" in found:
        yield found
        for key in ("normalizers", "pretokenizers", "decoders"):
            yield from _parts(found.get(key, []))


def _stands_for_space(part: dict[str, Any]) -> bool:
    return part["type"] == "Replace" and _SPACE in (part.get("content"), part["pattern"].get("String"))


def _plain_encoder(written: dict[str, Any]) -> Tokenizer:
    """The tokenizer without all that changes the text or adds to it."""
    changed = written | {"truncation": None, "padding": None, "post_processor": None}
    spaces = [part for part in _parts(written["normalizer"]) if _stands_for_space(part)]
    changed["normalizer"] = {"type": "Sequence", "normalizers": spaces} if spaces else None
    for part in _parts(changed["pre_tokenizer"]):
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
        elif part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
    encoder: Tokenizer = Tokenizer.from_str(json.dumps(changed))
    encoder.encode_special_tokens = True
    return encoder


def _irreversible(reason: str) -> UsageError:
    return UsageError(
        f"A tokenizer that gives every text back was expected (byte-level BPE or SentencePiece-like): {reason}.",
        remedy="Drafting on text and streaming need one; use a model with such a tokenizer.",
    )
