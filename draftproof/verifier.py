"""The verifier protocol, and `run_verifier`, the only caller of `check`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from draftproof.canonical import digest, short
from draftproof.errors import ContractError, DisagreementError
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Cost, ErrorEvidence, Guarantee, Outcome, Proposition, Verdict

FREE = Cost()
NOTHING: Mapping[str, Any] = {}


@runtime_checkable
class Verifier(Protocol):
    """Judges subjects in batches.

    `check` returns one verdict a subject, in order, and never raises because of what a subject
    says: hostile or unreadable content is an abstention or an error verdict.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def granularity(self) -> Granularity: ...
    @property
    def proposition(self) -> Proposition: ...
    @property
    def guarantee(self) -> Guarantee: ...

    @property
    def arguments(self) -> Mapping[str, Any]:
        """JSON values that, with the name, re-create this verifier through the registry."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What else its verdicts depend on: digests of weights, preludes, tool versions."""
        ...

    def check(self, subjects: Sequence[Subject]) -> Sequence[Verdict]: ...


class VerdictLog(Protocol):
    """Where verdicts go, before anyone decides anything by them."""

    def add(self, verdicts: Sequence[Verdict]) -> None: ...


def identity(verifier: Verifier) -> str:
    """`name@version#config-digest`, what `Verdict.verifier` holds."""
    config = digest({"arguments": dict(verifier.arguments), "fingerprint": dict(verifier.fingerprint)})
    return f"{verifier.name}@{verifier.version}#{short(config)}"


def run_verifier(verifier: Verifier, subjects: Sequence[Subject], *, log: VerdictLog) -> list[Verdict]:
    """Check `subjects` and log every verdict before returning them, in order.

    A crash is isolated by halving the batch until the subject that causes it stands alone; only
    that one becomes an error verdict. `DisagreementError` is never isolated: two exact procedures
    that contradict each other are a bug to be raised, whatever the input.
    """
    verdicts = _checked(verifier, subjects)
    log.add(verdicts)
    return verdicts


def abstention(
    verifier: Verifier, subject: Subject, *, reason: str, cost: Cost = FREE, raw: Mapping[str, Any] = NOTHING
) -> Verdict:
    """The verdict of a verifier that has nothing to say about a subject."""
    return Verdict(
        subject=subject.key,
        verifier=identity(verifier),
        proposition=verifier.proposition,
        outcome=Outcome.ABSTAIN,
        guarantee=verifier.guarantee,
        reason=reason,
        cost=cost,
        raw=dict(raw),
    )


def error_verdict(verifier: Verifier, subject: Subject, *, reason: str, error: ErrorEvidence) -> Verdict:
    """The verdict that stands for a check that did not finish."""
    return Verdict(
        subject=subject.key,
        verifier=identity(verifier),
        proposition=verifier.proposition,
        outcome=Outcome.ERROR,
        guarantee=verifier.guarantee,
        reason=reason,
        evidence=(error,),
    )


def _checked(verifier: Verifier, subjects: Sequence[Subject]) -> list[Verdict]:
    if not subjects:
        return []
    started = time.perf_counter()
    try:
        verdicts = list(verifier.check(subjects))
        _hold_contract(verifier, subjects, verdicts)
    except DisagreementError:
        raise
    except (Exception, SystemExit) as error:  # a verifier's crash is data about the verifier, not about the run
        if len(subjects) > 1:
            middle = len(subjects) // 2
            return _checked(verifier, subjects[:middle]) + _checked(verifier, subjects[middle:])
        evidence = ErrorEvidence(type=type(error).__name__, message=_message(error))
        reason = "contract_violation" if isinstance(error, ContractError) else "verifier_crashed"
        return [error_verdict(verifier, subjects[0], reason=reason, error=evidence)]
    share = (time.perf_counter() - started) / len(subjects)
    return [v if v.cost.wall_seconds else _with_cost(v, share) for v in verdicts]


def _hold_contract(verifier: Verifier, subjects: Sequence[Subject], verdicts: Sequence[Verdict]) -> None:
    if len(verdicts) != len(subjects):
        raise ContractError(f"{verifier.name} gave {len(verdicts)} verdicts for {len(subjects)} subjects")
    expected = identity(verifier)
    for subject, verdict in zip(subjects, verdicts, strict=True):
        if not isinstance(verdict, Verdict):
            raise ContractError(f"{verifier.name} gave a {type(verdict).__name__} in place of a verdict")
        if verdict.subject != subject.key:
            raise ContractError(f"{verifier.name} answered for {verdict.subject} when asked for {subject.key}")
        if verdict.verifier != expected:
            raise ContractError(f"{verifier.name} signed as {verdict.verifier!r}, its identity is {expected!r}")
        if verdict.proposition is not verifier.proposition:
            raise ContractError(
                f"{verifier.name} scored {verdict.proposition} and says that it scores {verifier.proposition}"
            )
        if verdict.sample:
            raise ContractError(f"{verifier.name} answered for draw {verdict.sample}; a check is asked for draw 0")
        _hold_type(verifier, verdict)


def _hold_type(verifier: Verifier, verdict: Verdict) -> None:
    """`model_copy` and `model_construct` make verdicts that nobody validated: NaN scores, `raw` that is no JSON."""
    try:
        json.dumps([verdict.score, verdict.raw], allow_nan=False)  # pydantic writes NaN as null
        Verdict.model_validate_json(verdict.model_dump_json(warnings=False))
    except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors
        raise ContractError(f"{verifier.name} gave a verdict that cannot be stored: {error}") from error


def _message(error: BaseException) -> str:
    """What `error` says, as text that can be stored."""
    try:
        said = str(error)
    except Exception:
        return "the error's own message cannot be read"
    return said[:2000].encode(errors="backslashreplace").decode()[:2000]


def _with_cost(verdict: Verdict, seconds: float) -> Verdict:
    cost = Cost(**{**verdict.cost.model_dump(), "wall_seconds": seconds})
    return verdict.model_copy(update={"cost": cost})
