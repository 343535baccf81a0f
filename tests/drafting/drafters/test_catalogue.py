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


@pytest.mark.parametrize("name", [each.name for each in LISTINGS if each.remedies])
def test_what_must_be_given_is_named_with_where_it_comes_from(name: str) -> None:
    with pytest.raises(UsageError, match=rf"Drafter '{name}' needs (model|heads|adapter).*{name}:\w+=FOLDER"):
        create_drafter(name)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        pytest.param("suffix", {"max_nodes": "many"}, "max_nodes is many, and a whole number is expected", id="text"),
        pytest.param("suffix", {"max_nodes": True}, "max_nodes is true, and a whole number", id="bool-is-no-int"),
        pytest.param("suffix", {"learn": 1}, "learn is 1, and true or false is expected", id="int-is-no-bool"),
        pytest.param("suffix", {"min_probability": float("nan")}, "min_probability is nan, and a number", id="nan"),
        pytest.param("suffix", {"history": 7}, "history is 7, and text is expected", id="number-for-text"),
        pytest.param("hydra", {"heads": "h", "tree": "oak"}, "tree is oak, and dynamic or static", id="one-of-two"),
        pytest.param("small-lm", {"model": "m", "name": "x"}, "takes no argument 'name'", id="filled-in"),
        pytest.param("small-lm", {"model": "m", "vocabulary": "x"}, "no argument 'vocabulary'", id="filled-in-too"),
        pytest.param("hydra", {"heads": "h", "record": 3}, "no argument 'record'", id="made-from-another"),
        pytest.param("kangaroo", {"adapter": "a", "etta": 0.5}, "no argument 'etta'.*eta=0.6", id="handed-on"),
        pytest.param("none", {"max_nodes": 3}, "takes no argument 'max_nodes'. It takes no arguments", id="none"),
        pytest.param("early-exit", {"exit_layer": 2, "candidates": "1+x"}, r"10,candidates=6\+10", id="exits"),
    ],
)
def test_wrong_arguments_are_told_in_words_of_the_part(name: str, given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        create_drafter(name, **given)
    assert not any(word in str(caught.value) for word in ("__init__", "keyword", "positional", "NoneType"))


def test_whole_numbers_are_numbers_and_null_is_none() -> None:
    assert create_drafter("suffix", min_probability=1, history=None) is not None
    assert create_drafter("input-copy", span=(0, 4)) is not None


@pytest.mark.parametrize("candidates", ["1+3+2", (1, 2, 3)])
def test_exits_to_choose_from_are_written_with_plus_signs(candidates: object) -> None:
    drafter = create_drafter("early-exit", exit_layer=2, candidates=candidates)
    assert drafter is not None
    assert drafter.spec.exits is not None
    assert drafter.spec.exits.candidates == (1, 2, 3)
    with pytest.raises(UsageError, match="not among the candidates"):
        create_drafter("early-exit", exit_layer=2, candidates=4)


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
