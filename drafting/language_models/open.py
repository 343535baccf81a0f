"""From one word to a language model: what command lines and configurations name."""

from __future__ import annotations

from pathlib import Path

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.language_models.server import ServerLanguageModel
from draftproof.drafting.models.load import load_model
from draftproof.errors import UsageError
from draftproof.language_model import LanguageModel


def open_language_model(
    source: str | Path,
    *,
    drafter: str | None = None,
    models_folder: Path | None = None,
    api_key_env: str | None = None,
    name: str | None = None,
) -> LanguageModel:
    """The language model that `source` names.

    Args:
        source: what `load_model` takes (`pocket-target`, `smollm2-135m`, a folder, a .gguf file, a hub id), or
            `http://HOST:PORT/v1#MODEL` for a model behind a server; `#chat:MODEL` makes it use the chat endpoint.
        drafter: of a model on this machine, what drafts for it.
        models_folder: where fetched models are, unless that is the standard place.
        api_key_env: of a server, the environment variable that holds its key.
        name: what errors and records call it.

    Raises UsageError for what names no model, ModelError for one that cannot be loaded or reached.
    """
    if not str(source).startswith(("http://", "https://")):
        if api_key_env is not None:
            raise UsageError(f"A key is for servers, and {source} is a model on this machine.")
        loaded = load_model(source, models_folder=models_folder)
        return LocalLanguageModel(loaded, drafter=drafter, name=name)
    url, _, model = str(source).partition("#")
    chat, model = model.startswith("chat:"), model.removeprefix("chat:")
    if not model:
        raise UsageError(
            "The address of a server names no model.", remedy="Put it behind: http://127.0.0.1:8000/v1#Qwen/Qwen3-8B."
        )
    if drafter is not None:
        raise UsageError("A server drafts by itself, if at all.", remedy="Leave out the drafter.")
    return ServerLanguageModel(url, model, api_key_env=api_key_env, protocol="chat" if chat else None, name=name)
