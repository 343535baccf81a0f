"""The pocket reward model: what it is taught, that a run can be gone on with, and that it learns to tell mistakes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.drafting.pocket.arithmetic import Calculation
from draftproof.drafting.pocket.problems import SEPARATOR, PlannedStep, PocketProblem, problem
from draftproof.drafting.pocket.tokenizer import pocket_tokenizer
from draftproof.drafting.pocket.truth import Fault, read_calculation, step_labels
from draftproof.errors import ModelError, UsageError
from draftproof.subject import step_subjects
from draftproof.trace import Step, StepLabel, Trace
from draftproof.verdict import Proposition
from draftproof.verifiers.process_reward.examples import Batch, batch_of, drawn, token_truths
from draftproof.verifiers.process_reward.mistakes import (
    LabelledSolution,
    drill,
    right_solution,
    written_solution,
    wrong_solution,
)
from draftproof.verifiers.process_reward.model import ProcessRewardModel
from draftproof.verifiers.process_reward.reading import SeparatorReader
from draftproof.verifiers.process_reward.record import FILE, read_record
from draftproof.verifiers.process_reward.training import PrmTraining, train_process_reward
from draftproof.verifiers.process_reward.verifier import ProcessRewardVerifier

TINY = PrmTraining(steps=6, batch=8, held_out=12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the pocket models' tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = pocket_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reader() -> SeparatorReader:
    return SeparatorReader(pocket_tokenizer(), problem_separator=SEPARATOR, step_separator=SEPARATOR)


def of_seed(seed: int) -> tuple[PocketProblem, random.Random]:
    source = random.Random(seed)
    return problem(source), source


class TestMistakes:
    @given(st.integers(0, 10**9))
    @settings(max_examples=200, deadline=None)
    def test_only_the_last_step_of_a_wrong_solution_is_wrong(self, seed: int) -> None:
        asked, source = of_seed(seed)
        solution = wrong_solution(asked, source)
        labels = step_labels(asked, solution.steps)
        assert labels == [StepLabel.CORRECT] * (len(solution.steps) - 1) + [StepLabel.INCORRECT]
        assert solution.fault not in (None, Fault.UNREADABLE)

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_a_right_solution_is_right(self, seed: int) -> None:
        asked, _ = of_seed(seed)
        assert set(step_labels(asked, right_solution(asked).steps)) == {StepLabel.CORRECT}

    def test_what_a_model_wrote_is_labelled_up_to_its_first_mistake(self) -> None:
        asked = PocketProblem(
            "Ben has 25 pens.",
            (
                PlannedStep("So Ben has 25+10=35.", Calculation(25, "+", 10)),
                PlannedStep("So Ben has 35+21=56.", Calculation(35, "+", 21), 0),
            ),
            56,
        )
        right = ("So Ben has 25+10=35.\n\n", "So Ben has 35+21=56.\n\n", "The answer is 56.")
        assert written_solution(asked, right) == right_solution(asked)
        wrong = written_solution(asked, (right[0], "So Ben has 35+21=66.\n\n", "The answer is 66."))
        assert (len(wrong.steps), wrong.fault) == (2, Fault.LOST_CARRY)

    def test_every_kind_is_made_and_so_are_right_solutions(self) -> None:
        made = Counter(str(each.fault) for each in drawn(3000, random.Random(0)))
        asked_for = {
            "slip", "lost_carry", "wrong_answer", "early_answer", "skipped_step", "wrong_operation", "wrong_number",
        }  # fmt: skip
        assert asked_for <= set(made)
        assert min(made[kind] for kind in asked_for) > 60
        assert 800 < made["None"] < 1000

    def test_a_mistake_does_not_show_in_how_a_step_opens(self) -> None:
        """Hard steps open otherwise than easy ones: a wrong calculation opens as one of its own difficulty does."""
        rewritten = 0
        for solution in drawn(2000, random.Random(1)):
            if solution.fault not in (Fault.WRONG_NUMBER, Fault.WRONG_OPERATION, Fault.SKIPPED_STEP):
                continue
            written = read_calculation(solution.steps[-1])
            assert written is not None
            assert solution.steps[-1].startswith("So ") is not written.calculation.hard
            rewritten += 1
        assert rewritten > 300

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_a_drill_says_of_every_result_whether_it_is_right(self, seed: int) -> None:
        asked, source = of_seed(seed)
        made = drill(asked, source)
        for step, instead in zip(made.steps, made.instead, strict=True):
            written = read_calculation(step)
            assert written is not None
            assert (written.result == written.calculation.result) is (instead is None)
            if instead is not None:
                better = read_calculation(instead)
                assert better is not None
                assert better.calculation == written.calculation
                assert better.result == better.calculation.result


class TestLabels:
    def test_labels_stand_at_the_separators_and_wrong_tokens_begin_at_the_first_wrong_digit(
        self, reader: SeparatorReader
    ) -> None:
        solution = LabelledSolution(
            "Ben has 25 pens.", ("So Ben has 25+10=35.", "So Ben has 35+21=66."), Fault.SLIP, "So Ben has 35+21=56."
        )
        tokenizer = pocket_tokenizer()
        ids = reader.read(solution.problem, solution.steps).ids
        truths = token_truths(solution, reader)
        assert [(tokenizer.decode(ids[place]), right) for place, right in truths.ends] == [("\n\n", 1), ("\n\n", 0)]
        wrong = [tokenizer.decode(ids[place]) for place, right in truths.inner if not right]
        assert wrong == ["6", "6", "."]
        right = "".join(tokenizer.decode(ids[place]) for place, true in truths.inner if true)
        assert right == "So Ben has 25+10=35.So Ben has 35+21="

    def test_of_another_mistake_only_the_end_is_known(self, reader: SeparatorReader) -> None:
        solution = LabelledSolution("Ben has 25 pens.", ("So Ben has 25+11=36.",), Fault.WRONG_NUMBER)
        truths = token_truths(solution, reader)
        assert [right for _, right in truths.ends] == [0]
        assert truths.inner == []

    def test_a_step_of_training_is_a_function_of_its_number_and_the_seed(self, reader: SeparatorReader) -> None:
        def flat(batch: Batch) -> list[torch.Tensor]:
            return [batch.ids, *(part for places in (batch.ends, batch.inner)
                                 for part in (places.rows, places.columns, places.right))]  # fmt: skip

        one, same, next_, other = (
            flat(batch_of(n, 8, seed, reader, 512)) for n, seed in ((5, 0), (5, 0), (6, 0), (5, 1))
        )
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
        for different in (next_, other):
            assert different[0].shape != one[0].shape or not torch.equal(different[0], one[0])

    def test_a_context_that_is_too_short_is_an_error(self, reader: SeparatorReader) -> None:
        with pytest.raises(UsageError, match="the base model's context holds 20"):
            batch_of(0, 8, 0, reader, 20)


class TestTraining:
    def test_the_result_is_a_folder_for_the_verifier(self, base: Path, tmp_path: Path) -> None:
        record = train_process_reward(base, tmp_path, TINY)
        assert record == read_record(tmp_path, record.weights)
        assert record.training["wrong_steps"] > 0
        assert record.training["seed"] == 0
        held = record.held_out
        assert held["solutions"] == TINY.held_out
        assert 0.0 < held["base_rate"] < 0.5
        assert 0.0 <= held["accuracy"] <= 1.0
        assert sum(each["wrong"] for each in held["caught"].values()) == round(held["base_rate"] * held["steps"])
        verifier = ProcessRewardVerifier(str(tmp_path))
        assert verifier.scorer.layout == "token-classification"
        assert verifier.proposition is Proposition.CORRECT
        trace = Trace(
            problem="Ben has 4 pens.", steps=(Step(text="So Ben has 4+1=5.\n\n"), Step(text="The answer is 5."))
        )
        assert all(verdict.score is not None for verdict in verifier.check(list(step_subjects(trace))))

    def test_scores_are_read_where_they_were_trained(self, base: Path, tmp_path: Path) -> None:
        train_process_reward(base, tmp_path, TINY)
        model = ProcessRewardModel(tmp_path)
        reading = model.reader.read("Ben has 4 pens.", ("So Ben has 4+1=5.", "The answer is 5."))
        text = load_tokenizer(tmp_path).decode(reading.ids)
        assert text == "Ben has 4 pens.\n\nSo Ben has 4+1=5.\n\nThe answer is 5.\n\n"

    def test_before_the_first_step_it_is_the_base_model_with_no_opinion(self, base: Path, tmp_path: Path) -> None:
        """New layers change nothing at first: the states under the head are those of the base model."""
        from draftproof.verifiers.process_reward.training import _classifier

        ids = torch.arange(20)[None]
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        made = _classifier(base).eval()
        with torch.no_grad():
            assert torch.allclose(made.base_model(ids).last_hidden_state, model.model(ids).last_hidden_state, atol=1e-5)
            assert not made(ids).logits.any()

    def test_equal_seeds_give_equal_weights_and_others_do_not(self, base: Path, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "abc"]
        for folder, seed in zip(folders, (0, 0, 1), strict=True):
            train_process_reward(base, folder, PrmTraining(steps=2, batch=4, held_out=4, seed=seed))
        one, same, other = (load_file(folder / "model.safetensors") for folder in folders)
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["score.weight"], other["score.weight"])

    def test_a_run_that_was_killed_goes_on_to_the_same_weights(self, base: Path, tmp_path: Path) -> None:
        whole = train_process_reward(base, tmp_path / "whole", TINY)

        def kill(stage: str, done: int, total: int, detail: str) -> None:
            if stage == "training" and done == 3:
                raise KeyboardInterrupt

        state = tmp_path / "state.safetensors"
        from draftproof.drafting.training import optimisation

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optimisation, "_SAVE_SECONDS", 0.0)  # the state is stored at every step
            with pytest.raises(KeyboardInterrupt):
                train_process_reward(base, tmp_path / "parts", TINY, checkpoint=state, report=kill)
        seen: list[int] = []
        resumed = train_process_reward(
            base, tmp_path / "parts", TINY, checkpoint=state, report=lambda stage, done, *_: seen.append(done)
        )
        assert seen[0] == 4, "it went on, and did not start anew"
        assert resumed.weights == whole.weights
        assert resumed.training == whole.training | {"base_name": str(base)}
        with pytest.raises(UsageError, match="other settings"):
            train_process_reward(base, tmp_path / "parts", PrmTraining(steps=7, batch=8), checkpoint=state)

    def test_solutions_from_models_are_trained_on_as_well(self, base: Path, tmp_path: Path) -> None:
        sampled = [LabelledSolution("Ben has 1 pen.", ("So Ben has 1+1=3.",), Fault.SLIP)]
        plain, mixed = (
            train_process_reward(base, tmp_path / name, TINY, sampled=more)
            for name, more in (("plain", []), ("mixed", sampled))
        )
        assert (plain.training["sampled_solutions"], mixed.training["sampled_solutions"]) == (0, 1)
        assert plain.training["sampled"] != mixed.training["sampled"]
        assert plain.weights != mixed.weights

    @pytest.mark.slow
    def test_it_learns_what_is_wrong(self, base: Path, tmp_path: Path) -> None:
        """From random weights, in a minute: answers that come too early and do not follow; not yet arithmetic."""
        record = train_process_reward(base, tmp_path, PrmTraining(steps=300, batch=32, held_out=200))
        assert record.held_out["wrong_pr_auc"] > 1.5 * record.held_out["base_rate"]
        assert record.held_out["caught"]["early_answer"]["below_half"] > 0

    def test_a_base_without_layers_like_llamas_is_refused(self, base: Path, tmp_path: Path) -> None:
        folder = tmp_path / "gpt2"
        tokenizer = load_tokenizer(base)
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with pytest.raises(ModelError, match="no layers of Llama's shape"):
            train_process_reward(folder, tmp_path / "out", TINY)

    def test_the_command_line(self, base: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-P", "-m", "draftproof", "train", "process-reward", "--base", str(base)]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "prm"), "--fast", "--steps", "2", "--quiet", "--json"],
            capture_output=True, text=True, cwd=tmp_path, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        assert {"accuracy", "wrong_pr_auc", "base_rate", "caught"} <= set(figures)
        assert ProcessRewardVerifier(str(tmp_path / "prm")).scorer.record is not None


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_process_reward(base, folder, PrmTraining(steps=1, batch=4, held_out=4))
    return folder


class TestRecord:
    def test_a_record_is_of_its_weights_alone(self, trained: Path, tmp_path: Path) -> None:
        folder = tmp_path / "other"
        shutil.copytree(trained, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["score.bias"][0] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match="belongs to other weights"):
            ProcessRewardVerifier(str(folder))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"version": 2}, id="version"),
            pytest.param({"layout": "unheard-of"}, id="layout"),
            pytest.param({"surplus": 1}, id="field"),
        ],
    )
    def test_a_record_of_another_kind_is_refused(self, trained: Path, tmp_path: Path, change: dict[str, Any]) -> None:
        folder = tmp_path / "other"
        shutil.copytree(trained, folder)
        (folder / FILE).write_text(json.dumps(json.loads((folder / FILE).read_text()) | change))
        with pytest.raises(ModelError, match="cannot be read"):
            ProcessRewardVerifier(str(folder))

    def test_a_separator_of_ones_own_is_refused(self, trained: Path) -> None:
        with pytest.raises(UsageError, match="its record says it"):
            ProcessRewardVerifier(str(trained), separator="\n")
