"""Trained heads on disk: bound to one model, complete, and refused otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.errors import InputError, UsageError
from draftproof.verifiers.uncertainty_head.features import FeatureSet
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead, padded
from draftproof.verifiers.uncertainty_head.head_files import (
    RECORD_FILE,
    WEIGHTS_FILE,
    Base,
    HeadRecord,
    load_head,
    save_head,
)
from draftproof.verifiers.uncertainty_head.verifier import UncertaintyHeadVerifier


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / RECORD_FILE
    described = json.loads(file.read_text())
    change(described)
    file.write_text(json.dumps(described))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], object], **metadata: str) -> None:
    file = folder / WEIGHTS_FILE
    tensors = load_file(file)
    change(tensors)
    digest = json.loads((folder / RECORD_FILE).read_text())["base"]["digest"]
    save_file(tensors, file, metadata={"base_digest": digest} | metadata)


def test_a_head_comes_back_as_it_was(trained_folder: Path, tmp_path: Path) -> None:
    first = load_head(trained_folder)
    save_head(tmp_path / "again", first.head, first.record)
    second = load_head(tmp_path / "again")
    assert second.digest == first.digest
    assert second.record == first.record
    step = torch.randn(7, first.head.config.features)
    assert torch.equal(first.head(*padded([step])), second.head(*padded([step])))


def test_other_weights_and_other_features_are_other_heads(trained_folder: Path, head_copy: Path) -> None:
    digest = load_head(trained_folder).digest
    rewritten(head_copy, lambda tensors: tensors["second.bias"].add_(1e-3))
    assert load_head(head_copy).digest != digest


def test_a_head_is_refused_for_another_model(trained_folder: Path, other_folder: Path, loaded: LoadedModel) -> None:
    assert load_head(trained_folder, loaded.model.info)
    with pytest.raises(UsageError, match=r"was trained for .* not for .*other"):
        load_head(trained_folder, load_model(other_folder).model.info)
    with pytest.raises(UsageError, match="its scores would mean nothing"):
        UncertaintyHeadVerifier(str(trained_folder), str(other_folder))


def test_a_head_is_refused_for_another_tokenizer(trained_folder: Path, ascii_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ascii_folder, tmp_path / "model"))
    file = copy / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match="another tokenizer or chat template"):
        UncertaintyHeadVerifier(str(trained_folder), str(copy))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        pytest.param(lambda d: d.update(version=2), UsageError, "version 2", id="newer-version"),
        pytest.param(lambda d: d.pop("version"), UsageError, "version None", id="no-version"),
        pytest.param(lambda d: d.update(format="else"), InputError, "does not describe", id="format"),
        pytest.param(lambda d: d["base"].update(digest="sha256:0"), InputError, "of different heads", id="digest"),
        pytest.param(lambda d: d["head"].update(width=64), InputError, "has shape", id="shape"),
        pytest.param(lambda d: d["head"].update(features=10**12), UsageError, "at most", id="endless"),
        pytest.param(lambda d: d["head"].update(layers=2), InputError, "lacks tensor blocks.1", id="missing-layer"),
        pytest.param(lambda d: d["features"].update(layers="1"), UsageError, "Layers are whole numbers", id="layers"),
        pytest.param(lambda d: d["features"].update(more=1), InputError, "cannot be read", id="unknown-feature"),
        pytest.param(lambda d: d.pop("base"), InputError, "cannot be read", id="no-base"),
        pytest.param(lambda d: d.update(blank=["x"]), InputError, "cannot be read", id="blank"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object], error: type[Exception], said: str, head_copy: Path
) -> None:
    changed(head_copy, change)
    with pytest.raises(error, match=said):
        load_head(head_copy)


def nan_in(tensors: dict[str, Tensor]) -> None:
    tensors["project.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda t: t.pop("second.weight"), "lacks tensor second.weight", id="missing"),
        pytest.param(lambda t: t.update(more=torch.zeros(1)), "has a strange tensor more", id="extra"),
        pytest.param(nan_in, "project.weight holds values that are not numbers", id="nan"),
        pytest.param(lambda t: t.update(std=t["std"].double() * 0), "not above 0", id="std"),
        pytest.param(lambda t: t.update(mean=t["mean"].long()), "not numbers", id="integers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], object], said: str, head_copy: Path
) -> None:
    rewritten(head_copy, change)
    with pytest.raises(InputError, match=said):
        load_head(head_copy)


def test_files_of_different_heads_are_refused(head_copy: Path) -> None:
    rewritten(head_copy, lambda tensors: None, base_digest="sha256:other")
    with pytest.raises(InputError, match="of different heads"):
        load_head(head_copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_a_record_that_is_none_is_refused(content: bytes, head_copy: Path) -> None:
    (head_copy / RECORD_FILE).write_bytes(content)
    with pytest.raises(InputError):
        load_head(head_copy)


def test_weights_that_are_none_and_folders_without_a_head_are_refused(head_copy: Path, tmp_path: Path) -> None:
    (head_copy / WEIGHTS_FILE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="cannot be read"):
        load_head(head_copy)
    with pytest.raises(UsageError, match="holds no uncertainty head"):
        load_head(tmp_path / "nothing")


def test_a_head_that_must_read_needs_its_model(tmp_path: Path, loaded: LoadedModel) -> None:
    wanted = FeatureSet(window=1)
    head = StepHead(HeadConfig(11, width=16, heads=2))
    save_head(tmp_path, head, HeadRecord(Base.of(loaded.model.info, "x"), wanted, (0,)))
    with pytest.raises(UsageError, match="Name its model"):
        UncertaintyHeadVerifier(str(tmp_path))
