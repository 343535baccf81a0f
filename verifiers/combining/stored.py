"""What was fitted, as a JSON file: bound to the verifier that it was fitted for, and to its own content.

A file carries the digest of everything else in it, so that an edited number is noticed, and the
identity of its verifier, which another version or configuration does not have.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from draftproof.canonical import digest
from draftproof.errors import InputError, UsageError
from draftproof.registry import create_verifier
from draftproof.subject import Granularity
from draftproof.verdict import Proposition
from draftproof.verifier import Verifier, identity
from draftproof.verifiers.combining.parts import described

MOST_BYTES = 16 << 20


class FittedFor(BaseModel):
    """The verifier that something was fitted for: how to make it again, and which one it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, Any]
    identity: str
    proposition: Proposition
    granularity: Granularity

    @classmethod
    def of(cls, verifier: Verifier) -> FittedFor:
        return cls(proposition=verifier.proposition, granularity=verifier.granularity, **described(verifier))

    def hold(self, verifier: Verifier, what: str) -> None:
        """Raises UsageError when `verifier` is any other than this: another version's scores mean something else."""
        if identity(verifier) != self.identity:
            raise UsageError(
                f"{what} was fitted for {self.identity}, and this is {identity(verifier)}.",
                remedy="Fit again: draftproof verifiers calibrate.",
            )

    def make(self, what: str) -> Verifier:
        """The verifier, made by its name. Raises UsageError when that makes another one today."""
        verifier = create_verifier(self.name, self.arguments)
        self.hold(verifier, what)
        return verifier


class Stored(BaseModel):
    """Base of what is fitted and stored. Subclasses have a `version` and say what they are in `format`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def digest(self) -> str:
        """Of all fields."""
        return digest(self.model_dump(mode="json"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file in one piece: a reader finds the old one or the new one."""
        target = Path(path)
        text = json.dumps({"digest": self.digest, **self.model_dump(mode="json")}, indent=1, allow_nan=False)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_text(text + "\n", encoding="utf-8")
            beside.replace(target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise UsageError(f"{target} cannot be written: {error.strerror}.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Raises UsageError where there is no file, InputError for one that is not what this class writes."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read: {error.strerror}.", remedy="Make it with draftproof verifiers calibrate."
            ) from error
        if len(data) > MOST_BYTES:
            raise InputError(f"{path} is larger than any file of this kind.")
        try:
            content = json.loads(data, parse_constant=_no_number)
            if not isinstance(content, dict):
                raise ValueError("it holds no object")
            said = content.pop("digest", None)
            found = cls.model_validate_json(json.dumps(content))
        except (ValueError, RecursionError) as error:  # pydantic's errors are ValueErrors
            raise InputError(
                f"{path} is no {cls._named()}: {_first(error)}.", remedy="Make it with draftproof verifiers calibrate."
            ) from error
        if said != found.digest:
            raise InputError(
                f"{path} was changed after it was written: its digest is another.", remedy="Make the file again."
            )
        return found

    @classmethod
    def _named(cls) -> str:
        return str(cls.model_fields["format"].default)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        told = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, told['loc']))}: {told['msg']}"
    return str(error)
