"""`draftproof.verify` from Python: what goes in, what comes back, and what it raises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import draftproof as dp
from draftproof.errors import InputError, UnknownNameError
from draftproof.settings import settings
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Proposition
from draftproof.verifier import identity

TRACES = [
    dp.Trace(id="right", problem="p", steps=(dp.Step(text="1 + 1 = 2"), dp.Step(text="So 2 * 3 = 6."))),
    dp.Trace(id="wrong", problem="q", steps=(dp.Step(text="2 + 2 = 5"),), generator="a model"),
]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'verdicts.db'}"


@dataclass
class Shouting:
    """A verifier of one's own: rejects what shouts."""

    name: str = "shouting"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.EASY
    guarantee: Guarantee = Guarantee.OPINION
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def check(self, subjects: Sequence[dp.Subject]) -> list[dp.Verdict]:
        self.seen += [subject.text for subject in subjects]
        return [
            dp.Verdict(
                subject=subject.key,
                verifier=identity(self),
                proposition=self.proposition,
                outcome=dp.Outcome.REJECT if "!" in subject.text else dp.Outcome.ACCEPT,
                guarantee=self.guarantee,
            )
            for subject in subjects
        ]


def test_the_exported_names_are_those_that_are_there() -> None:
    assert sorted(dp.__all__) == dp.__all__
    for name in dp.__all__:
        assert getattr(dp, name) is not None
    assert dir(dp) == dp.__all__
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        dp.verfy  # noqa: B018


@pytest.mark.parametrize("workers", [pytest.param(0, id="in-this-process"), pytest.param(1, id="in-a-worker")])
def test_traces_go_in_and_verdicts_come_out(workers: int, store: str) -> None:
    result = dp.verify(TRACES, ["arithmetic"], store, workers=workers)
    places = {(v.subject.trace_digest, v.subject.position): v.outcome for v in result.verdicts}
    assert places == {
        (TRACES[0].digest, 0): dp.Outcome.ACCEPT,
        (TRACES[0].digest, 1): dp.Outcome.ACCEPT,
        (TRACES[1].digest, 0): dp.Outcome.REJECT,
    }
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.rejected, total.missing) == (3, 2, 1, 0)
    assert result.run.status.value == "finished"
    assert result.run.command.startswith("draftproof.verify in ")
    assert result.store_url == store


def test_any_iterable_of_traces_will_do(store: str) -> None:
    def one_by_one() -> Iterator[dp.Trace]:
        yield from TRACES

    assert len(dp.verify(one_by_one(), ["arithmetic"], store, workers=0).verdicts) == 3


def test_verdicts_come_in_the_order_of_traces_and_steps(store: str) -> None:
    result = dp.verify(TRACES, ["arithmetic"], store, workers=0)
    streamed = list(result.iter_verdicts())
    assert streamed == result.verdicts
    assert [v.subject.position for v in streamed if v.subject.trace_digest == TRACES[0].digest] == [0, 1]


@pytest.mark.parametrize("as_text", [True, False], ids=["as-text", "as-a-path"])
def test_a_file_is_read_as_the_command_line_reads_it(as_text: bool, store: str, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"problem": "p", "steps": ["1 + 1 = 3"]}) + "\n")
    result = dp.verify(str(path) if as_text else path, ["arithmetic"], store, workers=0)
    assert [verdict.outcome for verdict in result.verdicts] == [dp.Outcome.REJECT]
    assert result.run.inputs == ({"name": str(path)},)


def test_an_unreadable_line_raises_with_its_place(store: str, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"problem": "p", "steps": ["1 + 1 = 3"]}) + "\nnonsense\n")
    with pytest.raises(InputError, match=r"traces\.jsonl, line 2: "):
        dp.verify(path, ["arithmetic"], store, workers=0)


def test_a_verifier_of_ones_own_is_run_beside_a_named_one(store: str) -> None:
    own = Shouting()
    traces = [dp.Trace(id="t", problem="p", steps=(dp.Step(text="1 + 1 = 3. Really!"), dp.Step(text="so there")))]
    result = dp.verify(traces, [own, "arithmetic"], store)
    assert own.seen == ["1 + 1 = 3. Really!", "so there"]
    found = {(v.verifier.partition("@")[0], v.subject.position): v.outcome.value for v in result.verdicts}
    assert found == {
        ("shouting", 0): "reject",
        ("shouting", 1): "accept",
        ("arithmetic", 0): "reject",
        ("arithmetic", 1): "abstain",
    }
    assert [v.proposition for v in result.verdicts if v.verifier == identity(own)] == [Proposition.EASY] * 2


def test_a_verifier_of_ones_own_under_a_known_name_is_not_mistaken_for_it(store: str) -> None:
    impostor = Shouting(name="arithmetic")
    result = dp.verify(TRACES, [impostor], store, workers=2)
    assert len(impostor.seen) == 3
    assert {v.verifier for v in result.verdicts} == {identity(impostor)}


def test_what_is_stored_is_not_judged_again(store: str) -> None:
    own = Shouting()
    dp.verify(TRACES, [own], store)
    again = dp.verify(TRACES, [own], store)
    assert len(own.seen) == 3
    assert (again.progress.judged, again.progress.known) == (0, 3)
    assert len(again.verdicts) == 3


def test_a_result_covers_its_own_traces_and_no_others(store: str) -> None:
    dp.verify(TRACES[:1], ["arithmetic"], store, workers=0)
    second = dp.verify(TRACES[1:], ["arithmetic"], store, workers=0)
    assert [v.subject.trace_digest for v in second.verdicts] == [TRACES[1].digest]
    assert len(second.to_pandas()) == 1


def test_a_data_frame_has_one_row_a_verdict(store: str) -> None:
    pytest.importorskip("pandas", reason="needs the `tables` extra")
    frame = dp.verify(TRACES, ["arithmetic"], store, workers=0).to_pandas()
    rows = {(row.trace, row.position): (row.outcome, row.score, row.generator) for row in frame.itertuples()}
    assert rows[("right", 0)][:2] == ("accept", 1.0)
    assert rows[("wrong", 0)] == ("reject", 0.0, "a model")
    assert list(frame["reason"]).count("false_equation") == 1
    assert (frame["wall_seconds"] > 0).all()


def test_a_data_frame_of_nothing_has_the_same_columns(store: str) -> None:
    pytest.importorskip("pandas", reason="needs the `tables` extra")
    empty = dp.verify([], ["arithmetic"], store, workers=0).to_pandas()
    full = dp.verify(TRACES, ["arithmetic"], store, workers=0).to_pandas()
    assert (len(empty), list(empty.columns)) == (0, list(full.columns))


def test_without_pandas_the_error_names_the_extra(tmp_path: Path) -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import draftproof as dp
result = dp.verify([dp.Trace(id="t", problem="p", steps=(dp.Step(text="1 + 1 = 2"),))], ["arithmetic"], workers=0)
assert len(result.verdicts) == 1
from draftproof.errors import MissingExtraError
try:
    result.to_pandas()
except MissingExtraError as error:
    print(error.code, error)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("missing_extra to_pandas needs the package 'pandas'.")
    assert "pip install 'draftproof[tables]'" in done.stdout


def test_the_default_store_and_number_of_workers_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAFTPROOF_STORE", f"sqlite:///{tmp_path / 'from-environment.db'}")
    monkeypatch.setenv("DRAFTPROOF_WORKERS", "0")
    settings.cache_clear()
    try:
        result = dp.verify(TRACES, ["arithmetic"])
    finally:
        settings.cache_clear()
    assert result.store_url.endswith("from-environment.db")
    assert (tmp_path / "from-environment.db").is_file()


def test_a_name_that_nobody_has_is_refused_before_the_store_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="arithmetic"):
        dp.verify(TRACES, ["aritmetic"], f"sqlite:///{tmp_path / 'x.db'}")
    assert not (tmp_path / "x.db").exists()


def test_a_negative_number_of_workers_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(dp.DraftproofError, match="-1 workers"):
        dp.verify(
            [dp.Trace(problem="p", steps=(dp.Step(text="1 + 1 = 2"),))], ["arithmetic"], f"{tmp_path}/v.db", workers=-1
        )


@pytest.mark.parametrize(
    ("traces", "verifiers", "says"),
    [
        pytest.param(["a text"], ["arithmetic"], "not a Trace", id="texts-for-traces"),
        pytest.param([], "arithmetic", "a list of names", id="a-text-for-a-list"),
        pytest.param([], [], "needs a verifier", id="no-verifier"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, traces: list[Any], verifiers: Any, says: str) -> None:
    with pytest.raises(dp.DraftproofError, match=says):
        dp.verify(traces, verifiers, f"{tmp_path}/v.db", workers=0)


def test_a_result_shows_its_counts(tmp_path: Path) -> None:
    trace = dp.Trace(problem="p", steps=(dp.Step(text="1 + 1 = 3"),))
    result = dp.verify([trace], ["arithmetic"], f"{tmp_path}/v.db", workers=0)
    assert "1 traces; arithmetic: 0 accepted, 1 rejected" in repr(result)


def test_a_trace_without_a_name_is_named_by_its_content() -> None:
    steps = (dp.Step(text="1 + 1 = 2"),)
    first, again, other = (dp.Trace(problem=p, steps=steps) for p in ("p", "p", "q"))
    assert first.id == again.id != other.id
    assert first.digest.startswith(f"sha256:{first.id}")
