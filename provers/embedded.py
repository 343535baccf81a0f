"""The embedded proof environment: the real Lean kernel out of a wheel, over our own library.

Claims without a proof are settled by our theorems in processes that drive the kernel directly; proofs by
outsiders go, screened and one a file, through Lean's front end. Either way the answer is the kernel's.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import TracebackType

from draftproof.errors import DisagreementError
from draftproof.provers import leanfile
from draftproof.provers.cache import Key, ProofCache
from draftproof.provers.environment import DEFAULT, CheckResult, LeanClaim, Limits, Status
from draftproof.provers.kernel import Answer, KernelProcess, Request, attempts
from draftproof.provers.screen import refusal
from draftproof.provers.statement import Statement
from draftproof.provers.toolchain import Prelude, cache_folder, compiled_prelude

BACKEND = "embedded"
_CHUNK = 100
"""Claims handed to a process at a time."""
_STATUS = {
    "proved": Status.PROVED,
    "refuted": Status.REFUTED,
    "undefined": Status.REFUTED,
    "contradicted": Status.VACUOUS,
}
_REASON = {"undefined": "division_by_zero", "contradicted": "contradictory_hypotheses"}
_FAILURES = ("kernel_crashed", "kernel_error", "malformed", "protocol_error", "lean_crashed")
"""Reasons that tell of the machine and not of the claim."""


class EmbeddedEnvironment:
    """Starts nothing before the first check. `check` may be called from one thread at a time."""

    def __init__(self, *, workers: int | None = None, cache_root: Path | None = None, remember: bool = True) -> None:
        """`remember` keeps settled claims across runs; `cache_root` moves the user's cache folder."""
        self._workers = workers or min(os.cpu_count() or 1, 8)
        self._root = cache_root
        self._remember = remember
        self._processes: list[KernelProcess] = []
        self._process_limits: Limits | None = None
        self._check_lock = threading.Lock()
        self._run = secrets.token_hex(8)
        self._count = 0
        # whoever forgets to close still leaves no process behind
        weakref.finalize(self, _end, self._processes)

    @cached_property
    def prelude(self) -> Prelude:
        return compiled_prelude(self._root)

    @cached_property
    def _cache(self) -> ProofCache:
        return ProofCache((self._root or cache_folder()) / "proofs" if self._remember else None)

    @property
    def toolchain(self) -> str:
        return self.prelude.toolchain

    @property
    def prelude_digest(self) -> str:
        return self.prelude.digest

    def check(self, claims: Sequence[LeanClaim], limits: Limits = DEFAULT) -> list[CheckResult]:
        """One result a claim, in order; equal claims are checked once."""
        with self._check_lock:
            own = {claim.statement: claim.expected for claim in claims if claim.proof is None}
            foreign = {(claim.statement, claim.proof): None for claim in claims if claim.proof is not None}
            settled = self._settled(own, limits)
            judged = {pair: self._judged(pair[0], pair[1] or "", limits) for pair in foreign}
        return [
            settled[claim.statement] if claim.proof is None else judged[(claim.statement, claim.proof)]
            for claim in claims
        ]

    def export(self, claims: Sequence[tuple[Statement, CheckResult]]) -> str:
        """A file that any `lean` with our modules on its path re-checks, one theorem a settled claim.

        The elaborator would work out by itself, slowly, what `Eq.refl true` leaves to the kernel, so the
        premise is asked of the kernel by name.
        """
        theorems = []
        for number, (statement, result) in enumerate(claims):
            proposition = _proposition(statement, result.status)
            if proposition and result.proof:
                proof = result.proof.replace("(Eq.refl true)", "(by decide +kernel)")
                theorems.append(leanfile.Theorem(f"dp_{number}", proposition, proof))
        return leanfile.export(theorems)

    def close(self) -> None:
        _end(self._processes)
        if "_cache" in self.__dict__:
            self._cache.close()
            del self.__dict__["_cache"]

    def __enter__(self) -> EmbeddedEnvironment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settled(self, claims: dict[Statement, bool | None], limits: Limits) -> dict[Statement, CheckResult]:
        """Settle statements by our own theorems, or remember that they were."""
        if not claims:
            return {}
        keys = {statement: Key(statement.text, self.prelude.digest, self.prelude.toolchain) for statement in claims}
        known = self._cache.get(list(keys.values()))
        results = {s: _result(Answer(known[key]), cached=True) for s, key in keys.items() if key in known}
        fresh = [statement for statement in claims if statement not in results]
        answers = self._answers([self._request(s, claims[s]) for s in fresh], limits)
        self._cache.put({keys[s]: a.theorem for s, a in zip(fresh, answers, strict=True) if a.theorem})
        results.update({s: _result(a) for s, a in zip(fresh, answers, strict=True)})
        return results

    def _answers(self, requests: list[Request], limits: Limits) -> list[Answer]:
        """Spread chunks over the processes; a thread a process, which only waits for it."""
        chunks = [requests[start : start + _CHUNK] for start in range(0, len(requests), _CHUNK)]
        if self._process_limits != limits:
            _end(self._processes)
            self._process_limits = limits
        if not self._processes:
            self._processes += [KernelProcess(self.prelude, limits) for _ in range(self._workers)]
        idle = list(self._processes)

        def settle(chunk: list[Request]) -> list[Answer]:
            process = idle.pop()
            try:
                return process.settle(chunk)
            finally:
                idle.append(process)

        with ThreadPoolExecutor(self._workers) as pool:
            return [answer for answers in pool.map(settle, chunks) for answer in answers]

    def _judged(self, statement: Statement, proof: str, limits: Limits) -> CheckResult:
        """Check somebody's proof of a statement of ours; nothing else settles the claim in its place."""
        refused = refusal(proof)
        if refused:
            return CheckResult(Status.UNKNOWN, reason=refused, backend=BACKEND)
        theorem = leanfile.Theorem(self._name(), statement.text, proof)
        (report,) = leanfile.check_file(self.prelude, [theorem], limits)
        if not report.passed:
            status = Status.ERROR if report.reason in _FAILURES else Status.UNKNOWN
            return CheckResult(status, None, report.axioms, report.messages, report.reason, backend=BACKEND)
        own = self._settled({statement: True}, limits)[statement]
        if own.status in (Status.REFUTED, Status.VACUOUS):
            raise DisagreementError(f"an outside proof of a statement was accepted that we refute: {statement.text}")
        return CheckResult(Status.PROVED, proof, report.axioms, report.messages, backend=BACKEND)

    def _request(self, statement: Statement, expected: bool | None) -> Request:
        return Request(self._name(), attempts(expected, statement.hypotheses), statement.hypotheses, statement.sides)

    def _name(self) -> str:
        """Nobody can guess it, so no text can refer to another claim or pass itself off as one."""
        self._count += 1
        return f"dp_{self._run}_{self._count}"


def _end(processes: list[KernelProcess]) -> None:
    while processes:
        processes.pop().close()


def _result(answer: Answer, *, cached: bool = False) -> CheckResult:
    if answer.theorem is None:
        status = Status.ERROR if answer.reason in _FAILURES else Status.UNKNOWN
        return CheckResult(status, reason=answer.reason, seconds=answer.seconds, backend=BACKEND)
    return CheckResult(
        _STATUS[answer.theorem],
        proof=f"{answer.theorem} (Eq.refl true)",
        axioms=(),
        reason=_REASON.get(answer.theorem, ""),
        seconds=answer.seconds,
        backend=BACKEND,
        cached=cached,
    )


def _proposition(statement: Statement, status: Status) -> str | None:
    return {
        Status.PROVED: statement.text,
        Status.REFUTED: statement.negation,
        Status.VACUOUS: statement.contradiction,
    }.get(status)
