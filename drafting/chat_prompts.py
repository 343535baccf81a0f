"""Chat messages into token ids, so that no message can write a control token.

A chat template gives one text, and a tokenizer cannot tell the `<|im_end|>` that the template wrote from one that
stands in a message: a message could end its turn and open another, as whoever it likes. Here control tokens come from
the template only. Messages without the text of one, which is nearly all of them, take transformers' own way. Others are
rendered with a stand-in for each such text, whose name nobody can guess; then the control tokens in what the template
gave are the template's own, and are renamed. The tokenizer that reads the result is the model's, in all but the
names of its control tokens: what messages say is then text, cut and merged like any other.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from draftproof.errors import UsageError


def chat_ids(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[int]:
    """Ids of a chat and of the opening of its answer, by the tokenizer's chat template.

    Every string in a message, its role too, is text and nothing else. Raises UsageError where a message holds the
    text of a control token and the tokenizer's own cannot be renamed.
    """
    controls = _control_tokens(tokenizer)
    spellings = _Spellings(tokenizer, controls)
    if not any(spellings.within(message) for message in messages):
        made = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=True, tokenizer_kwargs={"verbose": False}
        )
        return [int(token) for token in made["input_ids"]]
    renamed = _RENAMED.get(tokenizer)
    if renamed is None or renamed.controls != controls:
        renamed = _RENAMED[tokenizer] = _Renamed(tokenizer, controls)
    return renamed.ids(messages, tokenizer)


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """The tokens that are special to the tokenizer, by their text."""
    named = set(getattr(tokenizer, "all_special_tokens", ()))
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    found = {str(token): number for number, token in added.items() if token.special or str(token) in named}
    return {text: number for text, number in found.items() if text}


class _Spellings:
    """What a tokenizer would read as one of its control tokens."""

    def __init__(self, tokenizer: Any, controls: Mapping[str, int]) -> None:
        normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
        # Some tokens are looked for in the text as it is normalised: then a full-width < may do for the usual one.
        self._normalise = (lambda text: text) if normalizer is None else normalizer.normalize_str
        self._texts = {*controls, *map(self._normalise, controls)}

    def within(self, value: Any) -> bool:
        """Whether any string in it, however deep, holds one."""
        if isinstance(value, str):
            normalised = self._normalise(value)
            return any(text in value or text in normalised for text in self._texts)
        if isinstance(value, Mapping):
            return any(map(self.within, value.values()))
        return isinstance(value, list | tuple) and any(map(self.within, value))


class _Renamed:
    """A tokenizer whose control tokens have secret names."""

    def __init__(self, tokenizer: Any, controls: dict[str, int]) -> None:
        self.controls = controls
        self._any = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
        secret = secrets.token_hex(16)
        self._stand_ins = {text: f"{secret}x{number}x" for text, number in controls.items()}
        self._texts = {stand_in: text for text, stand_in in self._stand_ins.items()}
        self._stand_in = re.compile(f"{secret}x[0-9]+x")
        other = secrets.token_hex(16)
        self._names = {text: f"{other}y{number}y" for text, number in controls.items()}
        self._tokenizer = _with_names(tokenizer, self._names)
        if any(self._tokenizer.token_to_id(self._names[text]) != number for text, number in controls.items()):
            raise _cannot_rename()

    def ids(self, messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[int]:
        marked = [self._marked(message) for message in messages]
        rendered: str = tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
        named = self._any.sub(lambda found: self._names[found[0]], rendered)
        text = self._stand_in.sub(lambda found: self._texts[found[0]], named)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _marked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._any.sub(lambda found: self._stand_ins[found[0]], value)
        if isinstance(value, Mapping):
            return {key: self._marked(each) for key, each in value.items()}
        return [self._marked(each) for each in value] if isinstance(value, list | tuple) else value


_RENAMED: WeakKeyDictionary[Any, _Renamed] = WeakKeyDictionary()
"""Made at the first message that needs one: it takes about as long as reading a tokenizer.json."""


def _with_names(tokenizer: Any, names: Mapping[str, str]) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise _cannot_rename()
    written = json.loads(backend.to_str()) | {"truncation": None, "padding": None, "post_processor": None}
    for token in written["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = written["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(text, text): number for text, number in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(text, text), score] for text, score in model["vocab"]]
    if "merges" in model:  # some models would spell a control token from its characters
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]
    if isinstance(unknown := model.get("unk_token"), str):
        model["unk_token"] = names.get(unknown, unknown)
    renamed: Tokenizer = Tokenizer.from_str(json.dumps(written))
    return renamed


def _cannot_rename() -> UsageError:
    return UsageError(
        "A message holds the text of a control token, and this tokenizer cannot keep the two apart.",
        remedy="Take it out of the message, or load a tokenizer that has a tokenizer.json.",
    )
