"""A model behind a server that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, hosted ones), as a `LanguageModel`.

    model = ServerLanguageModel("http://127.0.0.1:8000/v1", "Qwen/Qwen3-8B", protocol="chat")

Servers that speak it differ in what they really give. What this one gives is tried out when the model is made, with a
few requests for one token each, and `abilities` says no more than that came back.

Text goes to the completions endpoint as text where the server has one, messages one below the other; else to the chat
endpoint, where the server's own template is used and the answer so far is the last message, to be gone on with. Models
that were trained to chat want the latter: `protocol="chat"`. Servers cut text into tokens themselves and hold back
control tokens in it or not: unlike `LocalLanguageModel`, this one cannot make sure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Literal, TypeVar

from draftproof.drafting.language_models.server_answers import (
    Answer,
    answer_of,
    echoed_logprobs,
    first_token_of,
    tokens_of,
)
from draftproof.drafting.language_models.server_connection import Connection
from draftproof.errors import ModelError, UsageError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause

Protocol = Literal["completions", "chat"]
_ALTERNATIVES = (20, 5, 1)
"""How many of the most probable tokens servers tell at most: most by default, OpenAI's completions, and any."""
_FEWEST = 2
"""Of one token alone there is no distribution: renormalised, whatever it is would look certain."""
_GOES_ON = {"add_generation_prompt": False, "continue_final_message": True}
"""vLLM and SGLang go on with a last message of the assistant where these say so; llama.cpp does always."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class ServerLanguageModel:
    """`draftproof.language_model.LanguageModel` over HTTP.

    Args:
        base_url: where the protocol begins, most often ending in `/v1`.
        model: the model's name on the server.
        api_key_env: the environment variable that holds the key, for servers that want one. No other key is ever sent.
        protocol: which endpoint; None takes completions where the server has them.
        timeout: seconds for one request.
        retries: how often a request that failed for reasons that may pass is tried again.
        parallel: most requests at once; servers decode them together.
        name: what errors and records call it, instead of the model's name on the server.

    Raises ModelError where the server cannot be reached, wants another key, does not have the model, or neither counts
    the tokens that it writes nor tells their log-probabilities.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        protocol: Protocol | None = None,
        timeout: float = 120.0,
        retries: int = 2,
        parallel: int = 16,
        name: str | None = None,
    ) -> None:
        if parallel < 1 or timeout <= 0 or retries < 0:
            raise UsageError(
                f"parallel is {parallel}, timeout {timeout} and retries {retries}; numbers above 0 were expected."
            )
        self._model = model
        self._name = name or model
        self._parallel = parallel
        self._connection = Connection(base_url, model, api_key_env, timeout, retries)
        self._connection.require_model()
        self._protocol = protocol or self._found_protocol()
        self._alternatives, self._told = self._found_alternatives()
        self._goes_on = self._protocol == "completions" or self._accepts(_GOES_ON)
        self._echoes = self._protocol == "completions" and self._found_echo()

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> str:
        """`name#digest` of the server's address, the endpoint and the model's name there: what weights that stands for,
        only the server knows. The same name at another address may be another model, and is taken for one."""
        told = f"{self._connection.address} {self._protocol} {self._model}"
        return f"{self._name}#{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    @property
    def abilities(self) -> frozenset[Ability]:
        given = {
            Ability.LOGPROBS: self._alternatives > 0,
            Ability.FIRST_TOKEN: self._told >= _FEWEST,
            Ability.SCORE: self._echoes,
        }
        return frozenset(ability for ability, has in given.items() if has)

    @property
    def most_alternatives(self) -> int:
        """How many tokens of a distribution it tells at most. Who needs the whole vocabulary (`top=0`) has to look
        here: models that tell it have no such attribute."""
        return self._alternatives

    @property
    def deterministic(self) -> bool:
        """Servers promise nothing."""
        return False

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            self._check(request)
        return self._each(self._generated, requests)

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        if Ability.FIRST_TOKEN not in self.abilities:
            few = "the log-probability of one token only" if self._alternatives else "no log-probabilities"
            raise UsageError(f"{self._name} tells {few}.", remedy="Use a local model, or another server.")
        if top < 1:
            raise UsageError(
                f"top is {top}, and a server tells the most probable tokens only.",
                remedy=f"Ask for 1 … {self._alternatives} tokens, or use a local model.",
            )
        return self._each(lambda context: self._first_token(context, min(top, self._alternatives)), contexts)

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        if not self._echoes:
            raise UsageError(
                f"{self._name} tells no log-probabilities of given text.",
                remedy="Use a local model, or another server.",
            )
        if len(contexts) != len(continuations):
            raise UsageError(f"{len(contexts)} contexts came with {len(continuations)} continuations.")
        return self._each(lambda pair: self._scored(*pair), list(zip(contexts, continuations, strict=True)))

    # One request each

    def _generated(self, request: Request) -> Completion:
        started = perf_counter()
        decoding = request.decoding
        body = self._prompted(request.context) | {
            "max_tokens": request.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": decoding.seed,
        }
        if decoding.top_k:
            body["top_k"] = decoding.top_k
        if request.stop:
            body["stop"] = list(request.stop)
        answer = self._ask(body | self._wanting(1 if self._alternatives else 0), request.stop)
        if answer.ambiguous:
            answer = self._told_apart(request, answer)
        tokens = tokens_of(answer)
        spent = tokens >= request.max_new_tokens
        cause = StopCause.CONTEXT if answer.cause is StopCause.LENGTH and not spent else answer.cause
        return Completion(
            text=answer.text,
            cause=cause,
            stopped_by=answer.stopped_by,
            tokens=tokens,
            logprobs=answer.logprobs,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            seconds=perf_counter() - started,
        )

    def _told_apart(self, request: Request, answer: Answer) -> Answer:
        """Of a server that does not say whether a stop string or the model ended the text: what the model holds most
        probable next tells it."""
        if not self._goes_on:
            raise UsageError(
                f"{self._name} ended a text, and its server does not say whether at a stop string.",
                remedy="Ask without stop strings, or use a server with a completions endpoint, or a local model.",
            )
        length = max(map(len, request.stop))
        body = self._prompted(request.context, answer.text) | {"max_tokens": length, "temperature": 0.0}
        after = self._ask(body, ()).text
        if not after:
            return answer.stopped("")
        begun = [stop for stop in request.stop if after.startswith(stop)]
        return answer.stopped(max(begun, key=len, default=request.stop[0]))

    def _first_token(self, context: Context, top: int) -> FirstToken:
        started = perf_counter()
        body = self._prompted(context) | {"max_tokens": 1, "temperature": 0.0} | self._wanting(top)
        with self._connection.reading():
            return first_token_of(self._connection.post(self._path, body), perf_counter() - started)

    def _scored(self, context: Context, text: str) -> Scored:
        started = perf_counter()
        if not text:
            return Scored(())
        before = _as_text(context)
        body = {"prompt": before + text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        with self._connection.reading():
            logprobs, prompt_tokens = echoed_logprobs(self._connection.post(self._path, body), before, text)
        return Scored(logprobs, prompt_tokens, 0, perf_counter() - started)

    # Bodies of requests

    @property
    def _path(self) -> str:
        return "/completions" if self._protocol == "completions" else "/chat/completions"

    def _prompted(self, context: Context, more: str = "") -> dict[str, Any]:
        if self._protocol == "completions":
            return {"prompt": _as_text(context) + more}
        written = context.text + more
        messages = [{"role": message.role, "content": message.content} for message in context.messages]
        if not written:
            return {"messages": messages}
        if not self._goes_on:
            raise UsageError(
                f"{self._name} cannot go on with an answer that was begun: its server refuses to.",
                remedy="Use a server with a completions endpoint, or a local model.",
            )
        return {"messages": [*messages, {"role": "assistant", "content": written}], **_GOES_ON}

    def _wanting(self, alternatives: int) -> dict[str, Any]:
        if not alternatives:
            return {}
        if self._protocol == "completions":
            return {"logprobs": alternatives}
        return {"logprobs": True, "top_logprobs": alternatives}

    def _ask(self, body: Mapping[str, Any], stop: Sequence[str]) -> Answer:
        with self._connection.reading():
            return answer_of(self._connection.post(self._path, body), stop, wanted=bool(body.get("logprobs")))

    def _check(self, request: Request) -> None:
        stop: object = request.stop
        if request.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {request.max_new_tokens}, it must be at least 1.")
        if isinstance(stop, str) or not all(request.stop):
            raise UsageError(f"A tuple of stop strings, none of them empty, was expected, got {stop!r}.")
        if request.hidden_layers:
            raise UsageError(f"{self._name} gives no hidden states: it is a server.", remedy="Use a local model.")
        if request.top:
            raise UsageError(
                f"{self._name} does not tell the largest probabilities of what it writes: it is a server.",
                remedy="Use a local model.",
            )

    def _each(self, ask: Callable[[_In], _Out], questions: Sequence[_In]) -> list[_Out]:
        if len(questions) < 2:
            return [ask(question) for question in questions]
        with ThreadPoolExecutor(min(self._parallel, len(questions))) as threads:
            answers = [threads.submit(ask, question) for question in questions]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    # What the server gives

    def _found_protocol(self) -> Protocol:
        if self._connection.tries("/completions", {"prompt": "1", "max_tokens": 1}) is not None:
            return "completions"
        return "chat"

    def _found_alternatives(self) -> tuple[int, int]:
        """Of how many tokens the server may be asked for the probabilities, and of how many it told them; 0 where it
        tells none."""
        body = self._prompted(Context.of("1")) | {"max_tokens": 1, "temperature": 0.0}
        answer = self._ask(body, ())  # whatever else it does, it must answer this
        for count in _ALTERNATIVES:
            found = self._connection.tries(self._path, body | self._wanting(count))
            if found is None:
                continue
            try:
                return count, first_token_of(found, 0.0).of
            except (ModelError, ValueError, TypeError, LookupError, AttributeError):
                break  # it takes the question and does not answer it
        tokens_of(answer)  # nothing else tells how many there are
        return 0, 0

    def _accepts(self, options: Mapping[str, Any]) -> bool:
        messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2,"}]
        return self._connection.tries(self._path, {"messages": messages, "max_tokens": 1, **options}) is not None

    def _found_echo(self) -> bool:
        body = {"prompt": "1, 2, 3", "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        found = self._connection.tries(self._path, body)
        if found is None:
            return False
        try:
            echoed_logprobs(found, "1, 2,", " 3")
        except (ModelError, ValueError, TypeError, LookupError, AttributeError):
            return False
        return True


def _as_text(context: Context) -> str:
    """As `LocalLanguageModel` reads a context without a chat template."""
    return "".join(message.content + "\n\n" for message in context.messages) + context.text
