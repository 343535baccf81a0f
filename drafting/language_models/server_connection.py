"""Requests to one server, and what goes wrong with them in words that help. No message ever holds the key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from draftproof.errors import ContextLengthError, DraftproofError, MissingExtraError, ModelError, UsageError

_NO_KEY = "none"
"""The client wants one; servers that want none take any."""
_SHOWN = 300
_TOO_LONG = ("context length", "context_length", "maximum context", "context size", "too long", "max_model_len")


class Connection:
    """A base address, a model's name there, and a key."""

    def __init__(self, base_url: str, model: str, api_key_env: str | None, timeout: float, retries: int) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("A server's address begins with http:// or https://, such as http://127.0.0.1:8000/v1.")
        if parts.username or parts.password or parts.query:
            raise UsageError(
                "A server's address holds no name, password or query: it is shown in messages.",
                remedy="Put the key into an environment variable and name that.",
            )
        self._url = base_url
        self._model = model
        self._timeout = timeout
        self._key_env = api_key_env
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not key:
            raise UsageError(f"The environment variable {api_key_env}, which should hold the server's key, is not set.")
        self._key = key
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError(
                "Models behind a server need the package openai.", remedy="pip install 'draftproof[openai]'"
            ) from error
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key or _NO_KEY,
            organization="",  # else the client takes what it finds in the environment
            project="",
            timeout=timeout,
            max_retries=retries,
        )

    @property
    def address(self) -> str:
        """Where the protocol begins, however it was written."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"

    def require_model(self) -> None:
        """Raises ModelError where the server cannot be used or does not list the model. Not every server has a list."""
        try:
            with self.reading():
                listed = self._client.get("/models", cast_to=object)
                names = [str(each["id"]) for each in listed["data"]]  # type: ignore[index]
        except _RefusedError:
            return
        if self._model not in names:
            raise ModelError(
                f"The server at {self._url} has no model {self._model!r}.",
                remedy=f"It has: {', '.join(names[:8])[:_SHOWN] or 'none'}.",
            )

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer, read from JSON."""
        with self.reading():
            return self._client.post(path, cast_to=object, body={"model": self._model, **body})

    def tries(self, path: str, body: Mapping[str, Any]) -> Any | None:
        """The same; None where the server does not have what is asked for."""
        try:
            return self.post(path, body)
        except _RefusedError:
            return None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Failures of requests, and answers that are not built as they should be, become errors of ours."""
        try:
            yield
        except DraftproofError:
            raise
        except self._openai.APITimeoutError as error:
            raise ModelError(
                f"The server at {self._url} did not answer within {self._timeout:g} s.",
                remedy="Give it more time (timeout=…), or ask for fewer tokens.",
            ) from self._harmless(error)
        except self._openai.APIConnectionError as error:
            raise ModelError(
                f"The server at {self._url} cannot be reached: {self._told(error.__cause__ or error)}",
                remedy="Check that it runs, and its address.",
            ) from self._harmless(error)
        except self._openai.APIStatusError as error:
            raise self._refused(error) from self._harmless(error)
        except (self._openai.OpenAIError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ModelError(
                f"The server at {self._url} gave an answer that cannot be read ({type(error).__name__}: "
                f"{self._told(error)}).",
                remedy="Check that the address is that of a server with OpenAI's protocol; most end in /v1.",
            ) from self._harmless(error)

    def _refused(self, error: Any) -> ModelError:
        status, said = error.status_code, self._told(error)
        match status:
            case 401 | 403:
                where = f"in {self._key_env}" if self._key_env else "(none was given)"
                return ModelError(
                    f"The server at {self._url} does not accept the key {where}: status {status}.",
                    remedy="Set the environment variable that holds the key, and name it in api_key_env.",
                )
            case 429:
                return ModelError(
                    f"The server at {self._url} wants no more requests for now: {said}",
                    remedy="Wait, or ask less at once (parallel=…).",
                )
            case _ if status < 500 and any(phrase in said.lower() for phrase in _TOO_LONG):
                return ContextLengthError(f"The server at {self._url} says: {said}", remedy="Shorten the text.")
            case _:
                how = "refuses the request" if status < 500 else "fails"
                return _RefusedError(f"The server at {self._url} {how} with status {status}: {said}")

    def _told(self, error: BaseException) -> str:
        """What an error says, without the key, and not the whole of it: servers repeat what they were sent."""
        said = " ".join(str(error).split())
        return (said.replace(self._key, "…") if self._key else said)[:_SHOWN]

    def _harmless(self, error: Exception) -> Exception | None:
        """The cause to be shown, unless it holds the key."""
        return None if self._key and self._key in repr(error) + str(error) else error


class _RefusedError(ModelError):
    """The server does not know the endpoint, the option or the model; some fail instead of saying so."""
