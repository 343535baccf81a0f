"""Names of verifiers: what a name and arguments make, what another package may bring, and how errors read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from draftproof import registry
from draftproof.errors import ContractError, DraftproofError, MissingExtraError, UnknownNameError, UsageError
from draftproof.registry import create_verifier, listings, parameters, parse_verifier
from draftproof.verifier import Verifier, identity

PLUGIN = """
from dataclasses import dataclass, field
from draftproof.errors import MissingExtraError
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Proposition

@dataclass(frozen=True)
class Plain:
    text: str = "a"
    number: float = 1.0
    flag: bool = False
    extra: object = None
    name: str = "plugin"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    fingerprint: dict = field(default_factory=dict)

    @property
    def arguments(self):
        return {"text": self.text, "number": self.number, "flag": self.flag, "extra": self.extra}

    def check(self, subjects):
        return []

def made(text="a"):
    return Plain(text=text, name="made")

def misnamed():
    return Plain(name="another")

def nothing():
    return None

def broken():
    raise RuntimeError("weights are damaged")

def needs_package():
    import a_package_that_nobody_has

def usurper():
    raise AssertionError("a plug-in took the place of a built-in verifier")
"""

POINTS = """[draftproof.verifiers]
plugin = registry_plugin:Plain
made = registry_plugin:made
misnamed = registry_plugin:misnamed
nothing = registry_plugin:nothing
broken = registry_plugin:broken
needs-package = registry_plugin:needs_package
no-attribute = registry_plugin:not_there
no-module = registry_plugin_that_is_not_there:Plain
arithmetic = registry_plugin:usurper
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution that brings verifiers, good ones and bad ones."""
    (tmp_path / "registry_plugin.py").write_text(PLUGIN)
    info = tmp_path / "registry_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registry-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "registry_plugin", raising=False)
    return tmp_path


def test_built_in_verifiers_are_listed_with_a_summary() -> None:
    found = listings()
    assert {"arithmetic", "lean"} <= set(found)
    assert all(found[name].summary for name in ("arithmetic", "lean"))
    assert found["arithmetic"].source == "draftproof"


def test_asking_what_there_is_imports_no_verifier() -> None:
    code = (
        "import sys; from draftproof.registry import listings; listings(); "
        "print([name for name in sys.modules if name.startswith('draftproof.verifiers')])"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_name_and_arguments_make_the_same_verifier_again() -> None:
    verifier = parse_verifier("arithmetic")
    assert isinstance(verifier, Verifier)
    assert identity(create_verifier(verifier.name, verifier.arguments)) == identity(verifier)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_found_by_its_entry_point_with_the_package_that_brings_it() -> None:
    listing = listings()["plugin"]
    assert (listing.source, listing.target) == ("registry-plugin", "registry_plugin:Plain")
    assert parameters(listing.load()) == ["text", "number", "flag", "extra", "fingerprint"]
    assert isinstance(create_verifier("plugin"), Verifier)
    assert create_verifier("made", {"text": "b"}).arguments["text"] == "b"


@pytest.mark.usefixtures("plugin")
def test_a_plugin_cannot_take_a_built_in_name() -> None:
    assert listings()["arithmetic"].source == "draftproof"
    assert type(create_verifier("arithmetic")).__name__ == "ArithmeticVerifier"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("plugin", {}, id="no-arguments"),
        pytest.param("plugin:", {}, id="a-colon-and-nothing"),
        pytest.param("plugin:number=2.5", {"number": 2.5}, id="a-number"),
        pytest.param("plugin:flag=true", {"flag": True}, id="a-truth-value"),
        pytest.param("plugin:extra=null", {"extra": None}, id="null"),
        pytest.param("plugin:text=hello world", {"text": "hello world"}, id="text-needs-no-quotes"),
        pytest.param('plugin:text="5"', {"text": "5"}, id="quotes-make-text-of-a-number"),
        pytest.param("plugin:text=a=b", {"text": "a=b"}, id="a-value-may-hold-an-equals-sign"),
        pytest.param("plugin:text=x:y", {"text": "x:y"}, id="a-value-may-hold-a-colon"),
        pytest.param("plugin:number=2,flag=true", {"number": 2, "flag": True}, id="several"),
    ],
)
def test_arguments_are_read_as_json_or_else_as_text(written: str, expected: dict[str, object]) -> None:
    arguments = parse_verifier(written).arguments
    assert {key: arguments[key] for key in expected} == expected


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("written", "error", "says"),
    [
        pytest.param("nope", UnknownNameError, ["'nope'", "arithmetic"], id="unknown-name"),
        pytest.param("", UnknownNameError, ["''"], id="empty-name"),
        pytest.param("plugin:colour=red", UsageError, ["colour", "text, number"], id="unknown-argument"),
        pytest.param("arithmetic:x=1", UsageError, ["'x'", "none"], id="an-argument-where-none-is-taken"),
        pytest.param("plugin:number", UsageError, ["'number'", "key=value"], id="no-value"),
        pytest.param("plugin:=1", UsageError, ["key=value"], id="no-key"),
        pytest.param("plugin:number=NaN", UsageError, ["canonical"], id="an-argument-that-is-no-json"),
        pytest.param("plugin:number=9007199254740993", UsageError, ["2^53"], id="an-integer-that-json-may-round"),
        pytest.param("misnamed", ContractError, ["'misnamed'", "'another'"], id="calls-itself-otherwise"),
        pytest.param("nothing", ContractError, ["no verifier"], id="makes-no-verifier"),
        pytest.param("broken", UsageError, ["RuntimeError", "weights are damaged"], id="cannot-be-made"),
        pytest.param("needs-package", MissingExtraError, ["a_package_that_nobody_has"], id="lacks-a-package"),
        pytest.param("no-attribute", MissingExtraError, ["not_there", "registry-plugin"], id="points-at-nothing"),
        pytest.param("no-module", MissingExtraError, ["registry_plugin_that", "registry-plugin"], id="no-such-module"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_cause(
    written: str, error: type[DraftproofError], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        parse_verifier(written)
    assert type(caught.value) is error
    for words in says:
        assert words in str(caught.value)


def test_the_remedy_for_an_extra_of_ours_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "draftproof.verifiers.arithmetic", None)  # as if a package it needs were missing
    with pytest.raises(MissingExtraError, match=r"pip install 'draftproof\[all\]'"):
        registry.create_verifier("arithmetic")
