"""Fails unless `draftproof` is imported from the installed wheel, whole, among packages of the pinned versions.

Run with PYTHONSAFEPATH=1. Tests and type checks that see the checkout instead of the wheel would not
notice a file that is missing from the wheel.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib")).resolve()


def main() -> int:
    import draftproof

    installed = Path(draftproof.__file__).resolve().parent
    if installed.parent != SITE_PACKAGES:
        faults = [f"draftproof is imported from {installed}, not from {SITE_PACKAGES}: the wheel is not what is tested"]
    else:
        faults = [*missing_files(), *unpinned_packages()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def missing_files() -> list[str]:
    """Files of the package's folders that the wheel did not bring. Notes for developers need not be there."""
    mapping = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-dir"
    ]
    return [
        f"{file.relative_to(CHECKOUT)} is not in the wheel"
        for package, folder in mapping.items()
        for file in sorted((CHECKOUT / folder).rglob("*"))
        if file.is_file()
        and file.suffix != ".md"
        and "__pycache__" not in file.parts
        and not (SITE_PACKAGES.joinpath(*package.split(".")) / file.relative_to(CHECKOUT / folder)).is_file()
    ]


def unpinned_packages() -> list[str]:
    """Installed packages that constraints.txt does not have at this version.

    A build of torch for one kind of machine is that version (`2.13.0+cpu`), and the build for CUDA pins what it brings.
    """
    pins = re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = {(_normal(name), version) for name, version in pins}
    ours = {"draftproof", "pip"}
    found = {(_normal(each.name), _public(each.version)) for each in distributions(path=[str(SITE_PACKAGES)])}
    return [
        f"{name} {version} is not pinned in constraints.txt"
        for name, version in sorted(found - pinned)
        if name not in ours and not name.startswith(("cuda-", "nvidia-"))
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    """A version without what names its build."""
    return version.partition("+")[0]


if __name__ == "__main__":
    sys.exit(main())
