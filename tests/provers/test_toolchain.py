"""Finding Lean, compiling the library once, and never using a compiled module that was changed."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from draftproof.errors import MissingExtraError, ProofEnvironmentError
from draftproof.provers import toolchain
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import Status
from draftproof.provers.toolchain import MODULES, EmbeddedLean, LeanRun, cache_folder, compiled_prelude, source_digest

pytestmark = pytest.mark.lean


@pytest.fixture
def own_cache(cache_root, prelude, tmp_path):
    """A copy of the compiled library that a test may damage."""
    shutil.copytree(cache_root, tmp_path / "cache")
    return tmp_path / "cache"


def olean(cache, module="Claims"):
    (folder,) = (path for path in (cache / "lean").iterdir() if path.is_dir())
    return folder / "Draftproof" / f"{module}.olean"


@pytest.fixture
def no_compiling(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(toolchain, "_build", refuse)


@pytest.mark.usefixtures("no_compiling")
def test_the_library_is_compiled_once(own_cache):
    prelude = compiled_prelude(own_cache)
    assert prelude.digest == source_digest()
    assert {path.name for path in (prelude.modules / "Draftproof").iterdir()} == {f"{m}.olean" for m in MODULES}


def truncated(file):
    file.write_bytes(file.read_bytes()[:1000])


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def absent(file):
    file.unlink()


def joined_by_another(file):
    file.with_name("Extra.olean").write_bytes(file.read_bytes())


@pytest.mark.parametrize("damage", [truncated, flipped, absent, joined_by_another])
def test_a_changed_module_is_never_used(own_cache, lean_claim, damage):
    intact = olean(own_cache, "Logic").read_bytes()
    damage(olean(own_cache))
    with EmbeddedEnvironment(workers=1, cache_root=own_cache, remember=False) as environment:
        assert [r.status for r in environment.check([lean_claim("1 + 1 = 2")])] == [Status.PROVED]
    assert olean(own_cache, "Logic").read_bytes() == intact  # rebuilt, to the same bytes
    assert len(list(olean(own_cache).parent.iterdir())) == len(MODULES)


@pytest.mark.parametrize("manifest", ["", "{}", "[1]", '{"files": 3}', '{"files": {}}'])
def test_a_library_without_its_manifest_is_not_used(own_cache, monkeypatch, manifest):
    built = []
    monkeypatch.setattr(toolchain, "_build", lambda *arguments: built.append(arguments))
    (olean(own_cache).parent.parent / "manifest.json").write_text(manifest)
    compiled_prelude(own_cache)
    assert len(built) == 1


@pytest.mark.parametrize("key", ["sources", "lean"])
def test_a_library_made_from_something_else_is_not_used(own_cache, monkeypatch, key):
    built = []
    monkeypatch.setattr(toolchain, "_build", lambda *arguments: built.append(arguments))
    file = olean(own_cache).parent.parent / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest))
    compiled_prelude(own_cache)
    assert built == []
    file.write_text(json.dumps(manifest | {key: "another"}))
    compiled_prelude(own_cache)
    assert len(built) == 1


def test_processes_that_start_together_compile_it_once(tmp_path, monkeypatch):
    builds = []
    build = toolchain._build
    monkeypatch.setattr(toolchain, "_build", lambda *arguments: (builds.append(1), build(*arguments)))
    with ThreadPoolExecutor(3) as pool:
        preludes = list(pool.map(lambda _: compiled_prelude(tmp_path / "cache"), range(3)))
    assert len(builds) == 1
    assert len(set(preludes)) == 1
    assert not list((tmp_path / "cache" / "lean").glob("build-*"))


@pytest.fixture
def other_sources(tmp_path, monkeypatch):
    """A copy of the sources that a test may change."""
    shutil.copytree(toolchain.PRELUDE.parent, tmp_path / "prelude")
    monkeypatch.setattr(toolchain, "PRELUDE", tmp_path / "prelude" / "Draftproof")
    return tmp_path / "prelude" / "Draftproof"


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_other_sources_are_another_library(other_sources):
    before = source_digest(other_sources)
    change(other_sources / "Claims.lean", "/-! ## Tests -/", "/-! ## tests -/")
    assert source_digest(other_sources) != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("Logic", "theorem rfl {α", "theorem rfl {β"),
        ("Numbers", "  | Nat.zero => Nat.zero\n", "  | Nat.zero => sorryAx Nat true\n"),
        ("Claims", "theorem impossible {p : Prop} (h : Eq false true) : p := False.elim (Bool.false_ne_true h)",
         "axiom impossible {p : Prop} (h : Eq false true) : p"),
    ],
    ids=["does-not-compile", "sorry-in-a-definition", "rests-on-an-axiom"],
)  # fmt: skip
def test_a_library_that_is_not_sound_is_refused(other_sources, tmp_path, module, old, new):
    change(other_sources / f"{module}.lean", old, new)
    with pytest.raises(ProofEnvironmentError, match=r"does not compile|not free of axioms"):
        compiled_prelude(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "lean").iterdir() if path.is_dir()]


def test_a_wheel_that_is_not_installed_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"draftproof\[lean\]"):
        EmbeddedLean.find()


def test_a_lean_that_does_not_start_is_an_error(tmp_path):
    with pytest.raises(ProofEnvironmentError, match="does not start"):
        _ = EmbeddedLean(tmp_path).version


def test_another_version_of_lean_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(EmbeddedLean, "run", lambda *_, **__: LeanRun(0, "Lean (version 4.36.0, somewhere)", "", False))
    with pytest.raises(ProofEnvironmentError, match=r"4\.35\.0.*4\.36\.0"):
        compiled_prelude(tmp_path, lean=EmbeddedLean(tmp_path))


def test_a_run_that_takes_too_long_is_killed_with_all_it_started(monkeypatch, tmp_path):
    script = tmp_path / "command.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(toolchain, "COMMAND", script)
    run = EmbeddedLean(tmp_path).run([], modules=tmp_path, seconds=1.0)
    assert run == LeanRun(-9, "started\n", "", True)


def test_only_exported_symbols_are_found(prelude):
    assert prelude.lean.exports("lean_main")
    assert not prelude.lean.exports("lean_mai")
    assert prelude.toolchain == prelude.lean.version


def test_the_cache_lies_where_the_settings_say(tmp_path, monkeypatch):
    from draftproof.settings import settings

    monkeypatch.setenv("DRAFTPROOF_CACHE_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        assert cache_folder() == tmp_path
    finally:
        settings.cache_clear()
