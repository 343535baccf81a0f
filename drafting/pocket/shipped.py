"""The pocket models that come with the package, by name: nobody has to train them to begin."""

from __future__ import annotations

from pathlib import Path

from draftproof.errors import ModelError

_WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = {
    "pocket-target": "Solves small word problems step by step; the target of the pocket pair",
    "pocket-draft": "The same, smaller and less sure; the draft of the pocket pair",
}
"""Name -> what it is."""


def shipped_folder(name: str) -> Path:
    """The checkpoint of a pocket model. Raises ModelError where the installation lacks it."""
    folder = _WEIGHTS / name
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"The model {name} comes with draftproof, and {folder} is not there.",
            remedy="Install draftproof again, or make one: draftproof train pocket --out FOLDER",
        )
    return folder
