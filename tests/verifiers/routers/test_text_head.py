"""The router that reads: tags, what it can learn, that it is stored whole, and that long texts are abstained from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftproof.errors import InputError, ModelError, UsageError
from draftproof.verdict import Outcome
from draftproof.verifier import run_verifier
from draftproof.verifiers.routers.fitting import fit_router
from draftproof.verifiers.routers.router import RouterVerifier
from draftproof.verifiers.routers.rows import RouterRow
from draftproof.verifiers.routers.stored import load_router
from draftproof.verifiers.routers.text_head import TextTraining, annotated
from tests.verifiers.routers.made_rows import one_row
from tests.verifiers.routers.test_router import Log, written

QUICK = TextTraining(epochs=4, batch=8, learning_rate=3e-3)


def test_every_step_has_its_writers_tag_and_nobody_forges_one() -> None:
    read = annotated("Sum? Model 1: no", ["a\n\n", "b\n\n", "Model 1: c"], ["draft", "target", "pipeline"])
    assert read == "Sum? Model 1 : no\nModel 0: a\n\nModel 1: b\n\nModel 1 : c"


def text_rows(count: int = 160) -> list[RouterRow]:
    """The target does better on the draft's steps that end with a question mark."""
    rows = []
    for number in range(count):
        better = number % 3 == 0
        draft = f"x{number % 7}{'?' if better else '.'}"
        row = one_row(
            problem=f"P{number // 2}", position=0, context=[], writers=[], draft=draft, target="y",
            target_score=0.9 if better else 0.1, draft_score=0.5, features={},
        )  # fmt: skip
        del row["advantage"]
        rows.append(RouterRow.model_validate(row))
    return rows


def test_it_learns_from_the_text_and_is_stored_whole(tiny_chat_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "router"
    fitted, report = fit_router(
        text_rows(), out, kind="text", minimum=20, checkpoint=tiny_chat_folder, training=QUICK, state=out / "s" / "t"
    )
    assert report.says_something
    assert (report.accuracy_better, report.accuracy_not_better) == (1.0, 1.0)
    assert fitted.features == ()
    router = RouterVerifier(str(out))
    assert router.needs == frozenset()
    doubtful, fine, long, elsewhere = run_verifier(
        router,
        [
            written(text="x3?", context=(), writers=(), problem="P", features={}),
            written(text="x3.", context=(), writers=(), problem="P", features={}),
            written(text="x" * 5000, context=(), writers=(), features={}),
            written(text="x3.", pair=("a#1", "b#2")),
        ],
        log=Log(),
    )
    assert (doubtful.outcome, fine.outcome) == (Outcome.ACCEPT, Outcome.REJECT)
    assert (long.outcome, long.reason) == (Outcome.ABSTAIN, "too_long")
    assert (elsewhere.outcome, elsewhere.reason) == (Outcome.ABSTAIN, "unknown_pair")
    (alone,) = run_verifier(router, [written(text="x3?", context=(), writers=(), problem="P")], log=Log())
    assert alone.score == doubtful.score

    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}), encoding="utf-8")
    with pytest.raises(InputError, match="not those that its router was saved with"):
        load_router(out)


def test_a_run_that_is_done_is_not_done_again(tiny_chat_folder: Path, tmp_path: Path) -> None:
    said: list[int] = []

    def fit(out: str) -> str:
        training = TextTraining(epochs=1, batch=16)
        fitted, _ = fit_router(
            text_rows(60), tmp_path / out, kind="text", minimum=5, checkpoint=tiny_chat_folder, training=training,
            state=tmp_path / "state", progress=lambda stage, done, total, detail: said.append(done),
        )  # fmt: skip
        return fitted.digest

    first, steps = fit("one"), len(said)
    assert steps > 0
    assert fit("two") == first
    assert len(said) == steps


def test_a_checkpoint_is_needed_and_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a checkpoint"):
        fit_router(text_rows(), tmp_path / "router", kind="text", minimum=20)
    with pytest.raises(ModelError, match=r"config\.json"):
        fit_router(text_rows(), tmp_path / "router", kind="text", minimum=20, checkpoint=tmp_path)


def test_rows_too_long_are_left_out_and_counted(tiny_chat_folder: Path, tmp_path: Path) -> None:
    rows = text_rows(60)
    long = [RouterRow.model_validate(row.model_dump() | {"problem": f"L{n}" * 200}) for n, row in enumerate(rows[:30])]
    _, report = fit_router(
        [*rows, *long], tmp_path / "router", kind="text", minimum=5, checkpoint=tiny_chat_folder,
        training=TextTraining(epochs=1),
    )  # fmt: skip
    assert report.too_long > 0
    with pytest.raises(UsageError, match=r"0 of .* short enough"):
        fit_router(long, tmp_path / "none", kind="text", minimum=5, checkpoint=tiny_chat_folder)
