"""A compiled library that somebody else could have changed is not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftproof.errors import ProofEnvironmentError
from draftproof.provers.toolchain import compiled_prelude

pytestmark = pytest.mark.lean


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lean").mkdir(mode=0o700)
    (tmp_path / "lean").chmod(0o777)
    with pytest.raises(ProofEnvironmentError, match="others may write"):
        compiled_prelude(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProofEnvironmentError, match="cannot be made"):
        compiled_prelude(tmp_path / "file")
