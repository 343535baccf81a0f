"""A model on this machine, run by our engine, as a `LanguageModel`.

    model = LocalLanguageModel("smollm2-135m")
    (answer,) = model.generate([Request(Context.of("What is 17 + 25?"), max_new_tokens=64, stop=("\\n\\n",))])

Requests of many threads are decoded together (`rounds`), what was read before is not read again (`row_pool`), and text
that is written step by step is that which is written at once (`context_ids`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from draftproof.drafting.checks import check_prompt
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.language_models.context_ids import ContextIds
from draftproof.drafting.language_models.jobs import Job, Probe, Recital, Writing, together
from draftproof.drafting.language_models.rounds import Rounds
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.parts import drafter_of, policy_of
from draftproof.drafting.rows import tap_of
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.session import Session
from draftproof.drafting.turns import turn_of
from draftproof.errors import ContextLengthError, NumericalError, UsageError
from draftproof.kernels.row_stats import row_stats
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored

_STOPS = 64
"""Sets of stop strings whose tokens are remembered."""


@dataclass(frozen=True)
class Recited:
    """A given text, as the model would have written it."""

    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """Where each token ends, in characters of `text`: which token is the last of a step is found by these. A character
    that several tokens share counts with the last of them."""
    logprobs: tuple[float, ...]
    """Of each token, in nats, temperature 1; entropies and margins as in `Completion`."""
    entropies: tuple[float, ...]
    margins: tuple[float, ...]
    hidden: dict[int, Tensor]
    """Layer, as it was asked for -> [tokens, H] float32: the states from which each token would be predicted."""
    prompt_tokens: int
    cached_tokens: int
    seconds: float


class LocalLanguageModel:
    """`draftproof.language_model.LanguageModel` over our engine.

    Args:
        loaded: a `LoadedModel`, or what `load_model` takes.
        drafter: drafts what the model verifies, as `SpeculativeDecoder` takes it. The text is the same without.
        max_batch: most texts that are decoded at once.
        max_cached_rows: most texts that are kept after they were served, so that what begins like them is not read
            again. Each takes memory for at least 256 tokens.
        name: what errors and records call it, instead of the name that it was loaded by.
    """

    def __init__(
        self,
        loaded: LoadedModel | str | Path,
        *,
        drafter: str | Drafter | None = None,
        max_batch: int = 32,
        max_cached_rows: int = 64,
        name: str | None = None,
    ) -> None:
        if max_batch < 1 or max_cached_rows < 0:
            raise UsageError(
                f"max_batch is {max_batch} and max_cached_rows {max_cached_rows}; at least 1 and 0 were expected."
            )
        self.loaded = loaded if isinstance(loaded, LoadedModel) else load_model(loaded)
        self._info = self.loaded.model.info
        self._name = name or _short_name(self._info.name)
        self._reader = ContextIds(self.loaded.tokenizer, self.loaded.vocabulary, self.identity)
        turn = turn_of(self.loaded.model)
        with turn:  # a policy may measure passes here
            session = Session(
                *(self.loaded.model, drafter_of(drafter), MatchRule(), policy_of("cost"), self.loaded.vocabulary)
            )
        self._halts = lru_cache(_STOPS)(self._halting)
        self._rounds = Rounds(session, turn, max_batch=max_batch, max_cached_rows=max_cached_rows)

    @property
    def name(self) -> str:
        return self._name

    @cached_property
    def identity(self) -> str:
        """`name#digest`, of the weights, the tokenizer and the chat template."""
        hashed = hashlib.sha256(self._info.digest.encode())
        hashed.update(_tokenizer_digest(self.loaded).encode())
        return f"{self._name}#{hashed.hexdigest()[:12]}"

    @property
    def abilities(self) -> frozenset[Ability]:
        return frozenset(Ability)

    @property
    def deterministic(self) -> bool:
        """The same requests in the same order get the same answers. What was read before, and on the transformers
        backend what is decoded beside it, may change the last bits of a figure, and a token where two are as good as
        equal."""
        return True

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        jobs = [self._writing(request) for request in requests]
        self._serve(jobs)
        return [job.completion() for job in jobs]

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        if top < 0:
            raise UsageError(f"top is {top}; a number of tokens was expected, or 0.")
        jobs = [Probe(self._ids(context)) for context in contexts]
        self._serve(jobs)
        if not jobs:
            return []
        logits = torch.cat([job.logits for job in jobs]).float()
        of = min(top, logits.shape[-1])
        values, ids = logits.topk(of)
        entropies = _entropies(values if of else logits)
        probabilities = (values - logits.logsumexp(-1, keepdim=True)).exp().tolist()
        return [
            FirstToken(
                entropy=entropy,
                of=of,
                top=tuple(zip(map(self._token_text, tokens), chances, strict=True)),
                prompt_tokens=len(job.ids),
                cached_tokens=job.cached,
                seconds=job.seconds,
            )
            for job, entropy, tokens, chances in zip(jobs, entropies, ids.tolist(), probabilities, strict=True)
        ]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        return [
            Scored(each.logprobs, each.prompt_tokens, each.cached_tokens, each.seconds)
            for each in self.read(contexts, continuations)
        ]

    def read(
        self, contexts: Sequence[Context], continuations: Sequence[str], hidden_layers: Sequence[int] = ()
    ) -> list[Recited]:
        """Teacher forcing: what the model thinks of each token of a text that is given. One pass reads a text, and only
        what of it was not read before. A context that several texts go on from is read once, for all of them, and they
        in one pass (`branched_reading`)."""
        if len(contexts) != len(continuations):
            raise UsageError(f"{len(contexts)} contexts came with {len(continuations)} continuations.")
        jobs = [self._recital(*each, hidden_layers) for each in zip(contexts, continuations, strict=True)]
        self._serve(together([job for job in jobs if job is not None]))
        return [
            _nothing(hidden_layers, self._info.hidden_size) if job is None else self._recited(job, text, hidden_layers)
            for job, text in zip(jobs, continuations, strict=True)
        ]

    def forget(self) -> None:
        """Give back the memory of texts that were kept for later."""
        self._rounds.forget()

    # Questions into jobs

    def _writing(self, request: Request) -> Writing:
        if request.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {request.max_new_tokens}, it must be at least 1.")
        stop: object = request.stop
        if isinstance(stop, str) or not all(request.stop):
            raise UsageError(f"A tuple of stop strings, none of them empty, was expected, got {stop!r}.")
        for layer in request.hidden_layers:
            tap_of(layer, self._info)
        halts = self._halts(request.stop) if self._rounds.runs else None
        return Writing(request, self._ids(request.context), self.loaded.vocabulary, self._info.eos_ids, halts)

    def _halting(self, stop: tuple[str, ...]) -> Tensor:
        """[V] bool: tokens behind which a text may end, for the model's own end or because a stop string does."""
        halts = torch.zeros(self._info.vocab_size, dtype=torch.bool)
        halts[list(self._info.eos_ids)] = True
        last = {each.encode()[-1] for each in stop}
        for token in range(min(self._info.vocab_size, self.loaded.vocabulary.size) if last else 0):
            halts[token] |= not last.isdisjoint(self.loaded.vocabulary.token_bytes(token) or b"")
        return halts

    def _recital(self, context: Context, text: str, layers: Sequence[int]) -> Recital | None:
        for layer in layers:
            tap_of(layer, self._info)
        if not text:
            return None
        whole = self._reader.continued(context, text)
        check_prompt(whole.ids[: whole.begin], self._info)
        if len(whole.ids) > self._info.context_length:
            raise ContextLengthError(
                f"A context and its continuation have {len(whole.ids)} tokens, and the context of {self._name} holds "
                f"{self._info.context_length}.",
                remedy="Shorten them.",
            )
        return Recital(whole.ids, whole.begin, tuple(layers))

    def _ids(self, context: Context) -> tuple[int, ...]:
        ids = self._reader.ids(context)
        check_prompt(ids, self._info)
        return ids

    def _serve(self, jobs: Sequence[Job]) -> None:
        self._rounds.serve(jobs)
        error = next((job.error for job in jobs if job.error is not None), None)
        if error is not None:
            raise error

    # Jobs into answers

    def _recited(self, job: Recital, text: str, layers: Sequence[int]) -> Recited:
        figures = job.figures(self.loaded.model)
        return Recited(
            text=text,
            ids=tuple(job.ids[job.begin :]),
            ends=self._reader.ends(job.ids[job.begin :], text),
            logprobs=tuple(figures.logprobs),
            entropies=tuple(figures.entropies),
            margins=tuple(figures.margins),
            hidden={layer: job.hidden[layer].float() for layer in layers},
            prompt_tokens=job.begin,
            cached_tokens=job.cached,
            seconds=job.seconds,
        )

    def _token_text(self, token: int) -> str:
        data = self.loaded.vocabulary.token_bytes(token)
        return self._controls.get(token, "") if data is None else data.decode(errors="replace")

    @cached_property
    def _controls(self) -> dict[int, str]:
        return {token: text for text, token in self.loaded.vocabulary.special_tokens.items()}


def _entropies(logits: Tensor) -> list[float]:
    """Of rows that begin with their largest logits, or hold all."""
    stats = row_stats(logits, torch.ones(len(logits), device=logits.device))
    if bool(stats.bad.any()):
        raise NumericalError(
            "A model's logits hold NaN or no finite number.", remedy="Its weights are damaged, or its dtype overflows."
        )
    return cast(list[float], stats.entropy.tolist())


def _nothing(layers: Sequence[int], width: int) -> Recited:
    return Recited("", (), (), (), (), (), {layer: torch.empty((0, width)) for layer in layers}, 0, 0, 0.0)


def _short_name(name: str) -> str:
    """A folder's own name: where it lies says nothing about the model."""
    return Path(name).name if Path(name).exists() else name


def _tokenizer_digest(loaded: LoadedModel) -> str:
    """Of the chat template and of all that decides how text is cut; padding and truncation do not."""
    tokenizer: Any = loaded.tokenizer
    written = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    said = json.dumps([written, getattr(tokenizer, "chat_template", None)], sort_keys=True, default=str)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
