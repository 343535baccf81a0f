"""Drafters, rules and policies by name: what each takes, checked before anything is made.

Arguments come from a command line or a configuration as often as from code, so what is wrong with them is said in terms
of the part: its arguments, the values that each of them takes, and where a model or a trained file comes from.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from draftproof.errors import InputError, UnknownNameError, UsageError

REQUIRED = inspect.Parameter.empty
_NOT_ASKED = ("name", "vocabulary", "models_folder")
"""Arguments that the catalogues fill in, or whoever asks them for a part."""
_LONGEST_SHOWN = 80
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


@dataclass(frozen=True)
class Listing:
    """A part that can be asked for by name."""

    name: str
    summary: str
    make: str | Callable[..., Any]
    """What makes it: a function or class, or the path of one, `module:name`."""
    behind: str | None = None
    """The class that `make` hands further arguments on to."""
    remedies: Mapping[str, str] = field(default_factory=dict)
    """Argument that must be given -> where one comes from."""
    nested: bool = False
    """Whether arguments with a dot in their name are those of parts within."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Those of what makes it, then those that it hands on."""
        own = {each.name: each for each in _arguments_of(_loaded(self.make))}
        further = () if self.behind is None else _arguments_of(_loaded(self.behind))
        given_by_make = {each.name for each in further if each.required}
        return (*own.values(), *(each for each in further if each.name not in own and each.name not in given_by_make))


@dataclass(frozen=True)
class Argument:
    """One argument of a part."""

    name: str
    kind: Any
    """Its type, as annotated."""
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def in_text(self) -> bool:
        """Whether a value of it other than null can be written on a command line."""
        return _in_text(self.kind)

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={_value(self.default)}"


def make_part(
    kind: str,
    listings: Sequence[Listing],
    name: str,
    arguments: Mapping[str, Any],
    *,
    filled_in: Mapping[str, Any] | None = None,
) -> Any:
    """The part called `name`; `filled_in` are given to what takes them, and cannot be asked for.

    Raises UnknownNameError, and UsageError for arguments that it does not take.
    """
    listing = next((each for each in listings if each.name == name), None)
    if listing is None:
        raise UnknownNameError(
            f"There is no {kind} {name!r}.", remedy=f"There are: {', '.join(each.name for each in listings)}."
        )
    part = f"{kind.capitalize()} {name!r}"
    _check(part, listing, arguments)
    make = _loaded(listing.make)
    takes = inspect.signature(make).parameters
    try:
        return make(**arguments, **{each: value for each, value in (filled_in or {}).items() if each in takes})
    except OSError as error:
        raise InputError(f"{part}: a file cannot be read: {error.strerror or error}.") from error


def _check(part: str, listing: Listing, given: Mapping[str, Any]) -> None:
    takes = {each.name: each for each in listing.arguments}
    listed = ", ".join(str(each) for each in takes.values() if each.in_text)
    remedy = f"Its arguments: {listed}." if listed else "It takes no arguments."
    for name, value in given.items():
        if listing.nested and "." in name:
            continue
        if name not in takes:
            raise UsageError(f"{part} takes no argument {name!r}.", remedy=remedy)
        if not _fits(value, takes[name].kind):
            expected = _described(takes[name].kind)
            raise UsageError(f"{part}: {name} is {_value(value)}, and {expected} is expected.", remedy=remedy)
    for argument in takes.values():
        if argument.required and argument.name not in given:
            where = listing.remedies.get(argument.name)
            raise UsageError(f"{part} needs {argument.name}.", remedy=remedy if where is None else f"{where} {remedy}")


def _arguments_of(make: Callable[..., Any]) -> tuple[Argument, ...]:
    function = make.__init__ if inspect.isclass(make) else make
    if not inspect.isfunction(function):
        return ()  # a class without an `__init__` of its own
    annotations = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    kinds = get_type_hints(SimpleNamespace(__annotations__=annotations), globalns=function.__globals__)
    return tuple(
        Argument(name, kinds.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in _NOT_ASKED
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether `value` is one of `kind`. Whole numbers are numbers; true and false are neither."""
    if kind is Any:
        return True
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin in (tuple, Sequence):
        if not isinstance(value, list | tuple):
            return False
        each_kind = inner[0] if origin is Sequence or inner[-1] is Ellipsis else None
        if each_kind is not None:
            return all(_fits(each, each_kind) for each in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _in_text(kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(map(_in_text, get_args(kind)))
    return get_origin(kind) is Literal or kind in (bool, int, float, str)


def _described(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = [_described(each) for each in inner if each is not NoneType and (_in_text(each) or not _in_text(kind))]
        return " or ".join(words)
    if origin is Literal:
        return " or ".join(_value(each) for each in inner)
    if origin in (tuple, Sequence):
        return "a list"
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _value(value: Any) -> str:
    """As it is written on a command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _loaded(make: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(make, str):
        return make
    module, _, attribute = make.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found
