"""What reading one side of an equation gives: an expression, where it stops, and what is doubtful about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from draftproof.claims.tree import Expression


class Reading(StrEnum):
    """Why an expression might mean something else than it was read as."""

    MIXED_NUMBER = "mixed_number"
    IMPLICIT_PRODUCT = "implicit_product_after_division"
    SIGNED_POWER = "signed_power"
    FACTORIAL_OR_EXCLAMATION = "factorial_or_exclamation"
    PERCENT_SUM = "percent_added_to_number"
    DIVISION_CHAIN = "division_chain"
    SCIENTIFIC = "scientific_notation"
    FRACTION_EXPONENT = "fraction_in_exponent"


class NotAnExpression(Exception):
    """The tokens at this place do not begin an expression."""


class TooLong(Exception):
    """The expression goes on beyond what is read; unlike NotAnExpression, no shorter one is tried."""


@dataclass(slots=True)
class Side:
    """What one parse found."""

    expression: Expression
    stop: int
    """Index of the first token that was not read."""
    readings: set[Reading] = field(default_factory=set)
    units: set[tuple[str, str]] = field(default_factory=set)
    """(dimension, size) of every unit that comes in several sizes."""
    is_percent: bool = False
    """The whole side is a literal with a percent sign."""
    operators: int = 0
    named_units: int = 0
