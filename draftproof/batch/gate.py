"""Gates: conditions on a run's counts that make a command fail, such as `rejected>0` or `lean.errored>1%`."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.errors import UsageError
from draftproof.store.records import Conservation
from draftproof.verifier import Verifier

_COUNTS = ("subjects", "accepted", "rejected", "abstained", "errored", "skipped")
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
_GATE = re.compile(r"\s*(?:([\w-]+)\.)?(\w+)\s*(>=|<=|==|>|<)\s*(\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Gate:
    """`[VERIFIER.]COUNT OPERATOR NUMBER[%]`; a percentage is of the verifier's subjects."""

    text: str
    verifier: str | None
    count: str
    compare: str
    number: float
    percent: bool

    def trips(self, totals: Sequence[Conservation]) -> list[str]:
        """What meets the condition, in words; empty when the gate lets the run pass."""
        tripped = []
        for total in totals:
            name = total.verifier.partition("@")[0]
            if self.verifier not in (None, name):
                continue
            value = float(getattr(total, self.count))
            if self.percent:
                value = 100 * value / total.subjects if total.subjects else 0.0
            if _OPERATORS[self.compare](value, self.number):
                tripped.append(f"{name}: {self.count} is {value:g}{'%' if self.percent else ''}")
        return tripped


def hold_names(gates: Sequence[Gate], verifiers: Sequence[Verifier]) -> None:
    """Raises UsageError for a gate about a verifier that does not run: it could never trip."""
    names = [verifier.name for verifier in verifiers]
    for gate in gates:
        if gate.verifier is not None and gate.verifier not in names:
            raise UsageError(
                f"--fail-on {gate.text!r} is about {gate.verifier!r}, which is not among the verifiers of this run.",
                remedy=f"They are: {', '.join(names)}.",
            )


def parse_gate(text: str) -> Gate:
    """Raises UsageError for anything but `[VERIFIER.]COUNT OPERATOR NUMBER[%]`."""
    match = _GATE.fullmatch(text)
    if match is None or match[2] not in _COUNTS:
        raise UsageError(
            f"--fail-on {text!r} is no condition.",
            remedy=f"Write [VERIFIER.]COUNT>NUMBER[%], where COUNT is one of {', '.join(_COUNTS)}: rejected>0.",
        )
    return Gate(text, match[1], match[2], match[3], float(match[4]), bool(match[5]))
