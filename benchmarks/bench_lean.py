"""Claims settled by the Lean kernel per second, beside the straightforward route on the same claims.

    python benchmarks/bench_lean.py [--claims N] [--seed S] [--workers 1 2]

prints one JSON line a measurement. The straightforward route states the same claims in ordinary notation,
`theorem c : (48 : Rat) / 2 = 24 := by decide` with `#print axioms`, in files of 200 through Lean's front
end, over the same library. Every claim must come out proved by either route, or the run stops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from draftproof.claims.evaluate import evaluate
from draftproof.claims.tree import Binary, Claim, Expression, Negate, Number, Operator, Relation
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import LeanClaim, Limits, Status
from draftproof.provers.leanfile import Theorem, check_file
from draftproof.provers.statement import formalise
from draftproof.provers.toolchain import Prelude, compiled_prelude
from draftproof.store.runs import git_commit
from draftproof.trace import Span

_FILE = 200
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=4_000)
    parser.add_argument("--straightforward", type=int, default=800, help="claims for the slow route")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    claims = distinct(arguments.claims, random.Random(arguments.seed))
    origin = {**machine(), "seed": arguments.seed}

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        started = time.perf_counter()
        prelude = compiled_prelude(root)
        report(origin, "compile the library", seconds=time.perf_counter() - started)
        stated, seconds = timed(lambda: [LeanClaim(formalise(claim), expected=True) for claim in claims])
        report(origin, "print the statements", claims=len(claims), seconds=seconds)
        few = claims[: arguments.straightforward]
        for workers in arguments.workers:
            baseline = decide_each(prelude, few, workers)
            report(origin, "straightforward", workers=workers, claims=len(few), seconds=baseline)
            cold = settle(stated, root, workers)
            ratio = (len(stated) / cold) / (len(few) / baseline)
            report(origin, "cold", workers=workers, claims=len(stated), seconds=cold, times_straightforward=ratio)
        remembered(origin, stated, root)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report(origin, "peak memory", largest_child_megabytes=round(peak), own_megabytes=round(own))


def settle(stated: list[LeanClaim], root: Path, workers: int) -> float:
    """Seconds without any cache; the processes' start counts, the library's compilation does not."""
    with EmbeddedEnvironment(workers=workers, cache_root=root, remember=False) as environment:
        _ = environment.toolchain
        results, seconds = timed(lambda: environment.check(stated))
    require(all(result.status is Status.PROVED and not result.cached for result in results))
    return seconds


def remembered(origin: dict[str, Any], stated: list[LeanClaim], root: Path) -> None:
    """The rate at which a new run gets answers that an earlier one left on disk."""
    folder = root / "remembered"
    folder.mkdir()
    (folder / "lean").symlink_to(root / "lean")
    with EmbeddedEnvironment(cache_root=folder) as environment:
        environment.check(stated)
    with EmbeddedEnvironment(cache_root=folder) as environment:
        _ = environment.toolchain
        results, seconds = timed(lambda: environment.check(stated))
    require(all(result.cached for result in results))
    report(origin, "cached", claims=len(stated), seconds=seconds)


def decide_each(prelude: Prelude, claims: list[Claim], workers: int) -> float:
    """Seconds of the straightforward route, files spread over as many processes."""
    theorems = [Theorem(f"c{n}", ordinary(claim), "by decide") for n, claim in enumerate(claims)]
    files = [theorems[start : start + _FILE] for start in range(0, len(theorems), _FILE)]
    with ThreadPoolExecutor(workers) as pool:
        reports, seconds = timed(
            lambda: list(pool.map(lambda file: check_file(prelude, file, Limits(seconds=300)), files))
        )
    require(all(each.passed for file in reports for each in file))
    return seconds


def distinct(count: int, random_numbers: random.Random) -> list[Claim]:
    """True claims of the five kinds that steps state most, no two alike."""
    found: dict[str, Claim] = {}
    kinds = (_quotient, _difference, _percentage, _nested, _rounded)
    while len(found) < count:
        claim = kinds[len(found) % len(kinds)](random_numbers)
        found.setdefault(ordinary(claim), claim)
    return list(found.values())


def _number(value: Fraction | int) -> Number:
    return Number(Fraction(value), str(value))


def _equation(left: Expression) -> Claim:
    return Claim(Relation.EQUAL, left, _number(evaluate(left)), Span(start=0, end=1), "")


def _quotient(r: random.Random) -> Claim:
    """48 / 2 = 24"""
    divisor = r.randint(2, 99)
    return _equation(Binary(Operator.DIVIDE, _number(divisor * r.randint(2, 9999)), _number(divisor)))


def _difference(r: random.Random) -> Claim:
    """16 - 3 - 4 = 9"""
    first = Binary(Operator.SUBTRACT, _number(r.randint(1000, 99999)), _number(r.randint(1, 999)))
    return _equation(Binary(Operator.SUBTRACT, first, _number(r.randint(1, 999))))


def _percentage(r: random.Random) -> Claim:
    """0.15 * 240 = 36"""
    return _equation(Binary(Operator.MULTIPLY, _number(Fraction(r.randint(1, 99), 100)), _number(r.randint(1, 9999))))


def _nested(r: random.Random) -> Claim:
    """((-5 + -9 - 0 + 8) + (5 + 2 + 2 - -9)) = 12"""
    operators = (Operator.ADD, Operator.SUBTRACT, Operator.ADD)

    def group() -> Expression:
        terms: list[Expression] = [_number(r.randint(0, 9)) for _ in range(4)]
        terms = [Negate(term) if r.random() < 0.3 else term for term in terms]
        total = terms[0]
        for operator, term in zip(operators, terms[1:], strict=True):
            total = Binary(operator, total, term)
        return total

    return _equation(Binary(Operator.ADD, group(), group()))


def _rounded(r: random.Random) -> Claim:
    """10 / 3 ≈ 3.33, within 0.01"""
    left = Binary(Operator.DIVIDE, _number(r.randint(10, 99999)), _number(r.choice((3, 7, 9, 11))))
    right = _number(round(evaluate(left), 2))
    return Claim(Relation.ABOUT, left, right, Span(start=0, end=1), "", tolerance=Fraction(1, 100))


def ordinary(claim: Claim) -> str:
    """The claim in ordinary Lean notation, every literal with its type."""
    left, right = _notation(claim.left), _notation(claim.right)
    if claim.tolerance is None:
        return f"{left} = {right}"
    tolerance = _notation(_number(claim.tolerance))
    return f"{left} - {right} ≤ {tolerance} ∧ {right} - {left} ≤ {tolerance}"


def _notation(node: Expression) -> str:
    match node:
        case Number(value) if value < 0:
            return f"(-{_notation(_number(-value))})"
        case Number(value):
            over = "" if value.denominator == 1 else f" / ({value.denominator} : Rat)"
            return f"(({value.numerator} : Rat){over})"
        case Negate(operand):
            return f"(-{_notation(operand)})"
        case Binary(operator, left, right):
            return f"({_notation(left)} {operator.value} {_notation(right)})"
    raise ValueError(f"not in this mix: {node}")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def machine() -> dict[str, Any]:
    return {
        "benchmark": "lean",
        "machine": f"{_processor()} x{os.cpu_count()}",
        "python": platform.python_version(),
        "commit": git_commit(Path(__file__).resolve().parent.parent),
    }


def _processor() -> str:
    def names() -> Iterator[str]:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                yield line.partition(":")[2].strip()

    return next(names(), platform.machine())


def report(origin: dict[str, Any], measurement: str, **values: Any) -> None:
    if "claims" in values:
        values["claims_per_second"] = round(values["claims"] / values["seconds"], 1)
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({**origin, "measurement": measurement, **rounded}), flush=True)


def require(condition: bool) -> None:
    if not condition:
        sys.exit("a claim was not proved: the rates would mean nothing")


if __name__ == "__main__":
    main()
