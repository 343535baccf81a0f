"""What may be measured: inputs become arrays here, or an error that says what is wrong with them.

Silent repair would hide a broken verifier in a good number, so nothing is dropped, clipped or
rounded: a NaN score raises, and so does the label `"0"`, which is a text and true to Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftproof.errors import UsageError

Numbers: TypeAlias = Sequence[float] | NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
Truths: TypeAlias = Sequence[bool] | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.float64]
Booleans: TypeAlias = NDArray[np.bool_]


def floats(values: Numbers, what: str) -> Floats:
    """`values` as float64 of shape [N]. Raises UsageError for NaN, infinities, texts and other shapes."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"{what} must be one sequence of numbers, got an array of shape {array.shape}.")
    if array.size and array.dtype.kind not in "fiub":
        raise UsageError(f"{what} must be numbers, got {array.dtype}.", remedy="Leave out what has no score.")
    found = array.astype(np.float64)
    if not np.isfinite(found).all():
        where = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UsageError(f"{what} holds {found[where]} at index {where}.", remedy="Leave out what has no score.")
    return found


def probabilities(values: Numbers, what: str) -> Floats:
    """As `floats`, and all in [0, 1]."""
    found = floats(values, what)
    if ((found < 0) | (found > 1)).any():
        where = int(np.flatnonzero((found < 0) | (found > 1))[0])
        raise UsageError(f"{what} must be probabilities, got {found[where]} at index {where}.")
    return found


def booleans(values: Truths, what: str) -> Booleans:
    """`values` as bool of shape [N]. Raises UsageError for anything but booleans and the integers 0 and 1."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"{what} must be one sequence of true and false, got an array of shape {array.shape}.")
    if array.size and (array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all()):
        raise UsageError(f"{what} must be true or false (or 1 or 0), got {array.dtype}.")
    return array.astype(np.bool_)


def aligned(*named: tuple[str, Sequence[Any] | NDArray[Any]]) -> int:
    """The common length of sequences. Raises UsageError when they differ or there is nothing in them."""
    lengths = {name: len(values) for name, values in named}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise UsageError(f"One of each is needed for every example, got {told}.")
    (length,) = set(lengths.values())
    if length == 0:
        raise UsageError(f"There are no {' and '.join(lengths)}: nothing to measure.")
    return length
