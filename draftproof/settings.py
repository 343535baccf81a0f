"""Settings from the environment: the only place where `DRAFTPROOF_*` variables are read."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from draftproof.errors import UsageError


class Settings(BaseSettings):
    """Each field is the variable `DRAFTPROOF_<NAME>`; options of a command go before it."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPROOF_")

    store: str = "sqlite:///draftproof.db"
    """URL of the verdict store, or the path of a SQLite file."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=0)
    """Worker processes of a batch."""
    cache_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "draftproof"
    )
    """Where compiled preludes, proofs and models are kept."""

    @property
    def models_folder(self) -> Path:
        return self.cache_dir / "models"


@cache
def settings() -> Settings:
    """The settings of this process, read once. Raises UsageError for a variable with a wrong value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = f"DRAFTPROOF_{str(first['loc'][0]).upper()}"
        raise UsageError(
            f"The variable {name} cannot be used: {first['msg']}.", remedy="Correct or unset it."
        ) from error
