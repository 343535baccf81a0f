"""Fails unless `draftproof` is imported from the installed wheel, with every module that this checkout has.

Run with PYTHONSAFEPATH=1. Tests and type checks that see the checkout instead of the wheel would not
notice a folder that is missing from the wheel.
"""

from __future__ import annotations

import sys
import sysconfig
import tomllib
from importlib.metadata import distribution
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    import draftproof

    installed = Path(draftproof.__file__).resolve().parent
    site_packages = Path(sysconfig.get_path("purelib")).resolve()
    if installed.parent != site_packages:
        print(f"draftproof is imported from {installed}, not from {site_packages}: the wheel is not what is tested")
        return 1
    mapping = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    missing = [
        path
        for package, folder in mapping.items()
        for path in sorted((CHECKOUT / folder).rglob("*"))
        if path.suffix in {".py", ".lean", ".typed", ".html", ".css", ".js"}
        and not (site_packages.joinpath(*package.split(".")) / path.relative_to(CHECKOUT / folder)).is_file()
    ]
    for path in missing:
        print(f"{path.relative_to(CHECKOUT)} is not in the wheel")
    modules = sum(str(file).endswith(".py") for file in distribution("draftproof").files or ())
    print(f"draftproof {draftproof.__version__} from the wheel: {modules} modules", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
