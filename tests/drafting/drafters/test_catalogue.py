"""Drafters by name: every name is made or says what it needs, and listing imports nothing heavy."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from draftproof.drafting.drafters.catalogue import LISTINGS, create_drafter
from draftproof.drafting.drafters.history import History
from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.drafters.trigram_table import TrigramTable
from draftproof.errors import InputError, UnknownNameError, UsageError

ALONE = ["prompt-lookup", "ngram", "trigram", "suffix", "input-copy", "hybrid"]
"""Drafters that need nothing but a name."""
MODELS = ["small-lm", "token-intersection", "string-match", "kangaroo", "medusa", "hydra", "early-exit"]


def test_every_listing_is_tested_here() -> None:
    assert {each.name for each in LISTINGS} == {"none", *ALONE, *MODELS}


@pytest.mark.parametrize("name", ALONE)
def test_a_name_is_enough(name: str) -> None:
    drafter = create_drafter(name)
    assert drafter is not None
    assert drafter.spec.name.startswith(name)


def test_none_is_no_drafter() -> None:
    assert create_drafter("none") is None


@pytest.mark.parametrize("name", MODELS)
def test_what_needs_a_model_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=r"model|heads|adapter"):
        create_drafter(name)


def test_unknown_names_and_arguments_are_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"no drafter 'sufix'.*suffix"):
        create_drafter("sufix")
    with pytest.raises(UsageError, match=r"Drafter 'prompt-lookup'.*n_maks.*n_max"):
        create_drafter("prompt-lookup", n_maks=3)
    with pytest.raises(UsageError, match=r"Drafter 'suffix'.*depth"):
        create_drafter("suffix", depth=3)


def test_files_are_read_where_they_lie(tmp_path: Path) -> None:
    history = History(97)
    history.add([1, 2, 3])
    history.save(tmp_path / "h")
    drafter = create_drafter("suffix", history=str(tmp_path / "h"), max_nodes=4)
    assert isinstance(drafter, Suffix)
    assert drafter.history is not None
    assert drafter.history.sequences == ((1, 2, 3),)
    TrigramTable.build([[1, 2, 3]], 97).save(tmp_path / "t")
    assert create_drafter("trigram", table=str(tmp_path / "t"), search="puct") is not None
    with pytest.raises(InputError, match="nowhere"):
        create_drafter("suffix", history=str(tmp_path / "nowhere"))


def test_a_hybrid_is_named_by_its_parts_with_settings_for_each() -> None:
    settings = {"prompt-lookup.n_max": 2, "ngram.max_depth": 3, "max_nodes": 9}
    hybrid = create_drafter("hybrid", drafters="prompt-lookup+ngram", mode="arbitrate", **settings)
    assert isinstance(hybrid, Hybrid)
    assert hybrid.spec.name == "hybrid(prompt-lookup+ngram)"
    assert hybrid.drafters[1].spec.max_depth == 3
    with pytest.raises(UsageError, match=r"suffix\.learn is for a drafter that is not among prompt-lookup, ngram"):
        create_drafter("hybrid", drafters="prompt-lookup+ngram", **{"suffix.learn": False})
    with pytest.raises(UsageError, match="takes no argument 'depth'"):
        create_drafter("hybrid", depth=4)


def test_a_listing_says_what_it_is_in_a_line_and_its_function_what_it_takes() -> None:
    for listing in LISTINGS:
        assert listing.summary.endswith(".")
        assert len(listing.summary) < 90
        if callable(listing.make) and listing.name != "none":
            assert inspect.getdoc(listing.make)


def test_listing_drafters_imports_no_torch() -> None:
    code = (
        "import sys; from draftproof.drafting.drafters.catalogue import LISTINGS; "
        "assert LISTINGS; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=60).returncode == 0
