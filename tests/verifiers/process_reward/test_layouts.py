"""Every layout's scores are those of a plain transformers computation, written out here from its model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Qwen2ForCausalLM,
)

from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import ModelError, UsageError
from draftproof.subject import step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifiers.process_reward.verifier import ProcessRewardVerifier

PROBLEM = "Ben has 4 pens and buys 3 more. How many has he?"
STEPS = ("First we count: 4 pens.", "Then 4 + 3 = 7.", "The answer is 7.")


def judged(verifier: ProcessRewardVerifier, *steps: str, problem: str = PROBLEM) -> list[Verdict]:
    trace = Trace(problem=problem, steps=tuple(Step(text=text) for text in steps or STEPS))
    return verifier.check(list(step_subjects(trace)))


def scores(verdicts: list[Verdict]) -> list[float]:
    return [verdict.score for verdict in verdicts if verdict.score is not None]


def close(found: list[float], expected: Tensor | list[float]) -> bool:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    assert wanted.std() > 0.005, "the scores must differ, or the test could not tell places apart"
    return torch.allclose(torch.tensor(found, dtype=torch.float64), wanted, atol=1e-5)


def tokens_of(folder: Path) -> Any:
    return load_tokenizer(folder)


def test_skywork(skywork: Path) -> None:
    """Steps are encoded by themselves, the separator's id behind each; the value head's sigmoid is the score."""
    tokenizer = tokens_of(skywork)
    ids = tokenizer.encode(tokenizer.bos_token + PROBLEM + "\n", add_special_tokens=False)
    (line_break,) = tokenizer.encode("\n", add_special_tokens=False)
    places = []
    for step in STEPS:
        ids += [*tokenizer.encode(step, add_special_tokens=False), line_break]
        places.append(len(ids) - 1)
    model = Qwen2ForCausalLM.from_pretrained(skywork)
    head = load_file(skywork / "model.safetensors")
    with torch.no_grad():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, places]
        expected = (states @ head["v_head.summary.weight"][0] + head["v_head.summary.bias"]).sigmoid()
    verifier = ProcessRewardVerifier(str(skywork))
    verdicts = judged(verifier)
    assert verifier.scorer.layout == "skywork"
    assert verifier.proposition is Proposition.CORRECT
    assert verifier.guarantee is Guarantee.OPINION
    assert close(scores(verdicts), expected)
    assert [verdict.raw["token"] for verdict in verdicts] == places


def test_qwen_math_prm(qwen: Path) -> None:
    """A chat with <extra_0> behind each step; softmax over two classes there. Its own code is never imported."""
    tokenizer = tokens_of(qwen)
    answer = "".join(f"{step}<extra_0>" for step in STEPS)
    system = r"Please reason step by step, and put your final answer within \boxed{}."
    text = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{PROBLEM}<|im_end|>\n"
        f"<|im_start|>assistant\n{answer}<|im_end|>\n"
    )
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    heads = load_file(qwen / "model.safetensors")
    model = Qwen2ForCausalLM(Qwen2ForCausalLM.config_class.from_pretrained(qwen, trust_remote_code=False))
    model.load_state_dict({name: value for name, value in heads.items() if not name.startswith("score")}, strict=False)
    with torch.no_grad():
        states = model.eval()(ids, output_hidden_states=True).hidden_states[-1][0]
        inner = torch.relu(states @ heads["score.0.weight"].T + heads["score.0.bias"])
        logits = inner @ heads["score.2.weight"].T + heads["score.2.bias"]
        expected = logits.softmax(-1)[ids[0] == tokenizer.convert_tokens_to_ids("<extra_0>"), 1]
    verifier = ProcessRewardVerifier(str(qwen))
    assert verifier.scorer.layout == "qwen-math-prm"
    assert close(scores(judged(verifier)), expected)


def test_math_shepherd(shepherd: Path) -> None:
    """One text with the tag behind each step; softmax over the logits of + and - at the tags."""
    tokenizer = tokens_of(shepherd)
    text = f"{PROBLEM} " + "\n".join(f"{step} ки" for step in STEPS)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    tag, plus, minus = (tokenizer.encode(f" {word}", add_special_tokens=False) for word in ("ки", "+", "-"))
    assert len(tag) == len(plus) == len(minus) == 1
    model = LlamaForCausalLM.from_pretrained(shepherd)
    with torch.no_grad():
        expected = model(ids).logits[0][:, [*plus, *minus]].softmax(-1)[ids[0] == tag[0], 0]
    verifier = ProcessRewardVerifier(str(shepherd), layout="math-shepherd")
    assert verifier.proposition is Proposition.LEADS_TO_ANSWER
    assert close(scores(judged(verifier)), expected)


def test_token_classification(classifier: Path) -> None:
    """As TRL's trainer encodes: problem, then each step with the separator's ids; the label is at the last of them."""
    tokenizer = tokens_of(classifier)
    separator = tokenizer.encode("\n", add_special_tokens=False)
    ids = [tokenizer.bos_token_id, *tokenizer.encode(PROBLEM, add_special_tokens=False)]
    places = []
    for step in STEPS:
        ids += tokenizer.encode(step, add_special_tokens=False) + separator
        places.append(len(ids) - 1)
    model = LlamaForTokenClassification.from_pretrained(classifier)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, places].softmax(-1)[:, 1]
    verifier = ProcessRewardVerifier(str(classifier))
    assert verifier.scorer.layout == "token-classification"
    assert close(scores(judged(verifier)), expected)


@pytest.mark.parametrize("kind", ["causal_sequences", "bert"])
def test_sequence_classification(kind: str, request: pytest.FixtureRequest) -> None:
    """Each prefix by itself, as a classifier of texts is used; a causal one need not read them one by one."""
    folder: Path = request.getfixturevalue(kind)
    tokenizer = tokens_of(folder)
    model_class: Any = BertForSequenceClassification if kind == "bert" else LlamaForSequenceClassification
    model = model_class.from_pretrained(folder).eval()
    expected = []
    for count in range(1, len(STEPS) + 1):
        ids = tokenizer.encode("\n".join([PROBLEM, *STEPS[:count]]))
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected.append(float(logits.sigmoid() if len(logits) == 1 else logits.softmax(-1)[1]))
    verifier = ProcessRewardVerifier(str(folder))
    assert verifier.scorer.layout == "sequence-classification"
    assert verifier.scorer.network.causal is (kind != "bert")
    assert close(scores(judged(verifier)), expected)


def test_a_merged_token_does_not_take_the_place_of_a_separator(skywork: Path) -> None:
    """The text's own tokens would be `.` and the line break in one, at which the model learnt no score."""
    tokenizer = tokens_of(skywork)
    whole = tokenizer.tokenize("\n".join(STEPS) + "\n")
    assert any("." in token and "Ċ" in token for token in whole), "this tokenizer merges them"
    reading = ProcessRewardVerifier(str(skywork)).scorer.reader.read(PROBLEM, STEPS)
    ends = [reading.ids[place] for place in reading.ends if place is not None]
    assert ends == tokenizer.encode("\n", add_special_tokens=False) * len(STEPS)


class TestWhichLayoutItIs:
    def test_a_plain_language_model_is_not_taken_for_a_reward_model(self, shepherd: Path) -> None:
        with pytest.raises(ModelError, match="nothing in it says") as caught:
            ProcessRewardVerifier(str(shepherd))
        assert caught.value.remedy is not None
        assert "layout=math-shepherd" in caught.value.remedy

    @pytest.mark.parametrize("layout", ["skywork", "qwen-math-prm", "token-classification", "sequence-classification"])
    def test_a_layout_that_the_checkpoint_is_not_is_refused(self, shepherd: Path, layout: str) -> None:
        with pytest.raises(ModelError, match=f"is no {layout} model"):
            ProcessRewardVerifier(str(shepherd), layout=layout)

    def test_a_reward_head_is_not_ignored_by_asking_for_math_shepherd(self, skywork: Path) -> None:
        with pytest.raises(ModelError, match="is no math-shepherd model"):
            ProcessRewardVerifier(str(skywork), layout="math-shepherd")

    def test_two_heads_are_ambiguous_until_one_is_named(self, skywork: Path, qwen: Path, tmp_path: Path) -> None:
        folder = tmp_path / "both"
        shutil.copytree(skywork, folder)
        heads = {name: value for name, value in load_file(qwen / "model.safetensors").items() if "score" in name}
        save_file(load_file(skywork / "model.safetensors") | heads, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match="several layouts"):
            ProcessRewardVerifier(str(folder))
        assert scores(judged(ProcessRewardVerifier(str(folder), layout="skywork"))) == pytest.approx(
            scores(judged(ProcessRewardVerifier(str(skywork))))
        )

    def test_a_name_there_is_not(self, skywork: Path) -> None:
        with pytest.raises(UsageError, match="no layout 'skyworks'"):
            ProcessRewardVerifier(str(skywork), layout="skyworks")

    def test_a_tokenizer_without_the_special_token(self, qwen: Path, shepherd: Path, tmp_path: Path) -> None:
        folder = tmp_path / "without"
        shutil.copytree(qwen, folder)
        text = (folder / "tokenizer.json").read_text().replace("<extra_0>", "<extra_9>")
        (folder / "tokenizer.json").write_text(text)
        config = (folder / "tokenizer_config.json").read_text().replace("<extra_0>", "<extra_9>")
        (folder / "tokenizer_config.json").write_text(config)
        with pytest.raises(ModelError, match="no special token <extra_0>"):
            ProcessRewardVerifier(str(folder))


class TestClasses:
    @pytest.mark.parametrize(
        ("names", "flipped"),
        [
            pytest.param({"0": "incorrect", "1": "correct"}, False, id="named"),
            pytest.param({"0": "+", "1": "-"}, True, id="good-first"),
        ],
    )
    def test_the_good_class_is_found_by_its_name(
        self, classifier: Path, tmp_path: Path, names: dict[str, str], flipped: bool
    ) -> None:
        folder = tmp_path / "named"
        shutil.copytree(classifier, folder)
        relabelled(folder, names)
        plain = scores(judged(ProcessRewardVerifier(str(classifier))))
        found = scores(judged(ProcessRewardVerifier(str(folder))))
        assert found == pytest.approx([1 - score if flipped else score for score in plain])

    @pytest.mark.parametrize("names", [{"0": "cat", "1": "dog"}, {"0": "correct", "1": "true"}])
    def test_names_that_say_neither_are_refused(self, classifier: Path, tmp_path: Path, names: dict[str, str]) -> None:
        folder = tmp_path / "named"
        shutil.copytree(classifier, folder)
        relabelled(folder, names)
        with pytest.raises(ModelError, match="does not say which one"):
            ProcessRewardVerifier(str(folder))


def relabelled(folder: Path, names: dict[str, str]) -> None:
    import json

    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = names
    config["label2id"] = {name: int(index) for index, name in names.items()}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["skywork", "qwen", "classifier"])
def test_weights_that_are_missing_are_an_error_and_never_random(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(request.getfixturevalue(kind), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    verifier = ProcessRewardVerifier(str(folder))
    with pytest.raises(ModelError, match="lacks weights"):
        judged(verifier)


def test_a_head_without_its_bias_is_an_error(skywork: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(skywork, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["v_head.summary.bias"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="weight and bias were expected"):
        judged(ProcessRewardVerifier(str(folder)))


def test_pickled_weights_are_refused(skywork: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(skywork, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        ProcessRewardVerifier(str(folder))


def test_nothing_of_it_accepts_below_its_threshold_and_equality_accepts(skywork: Path) -> None:
    found = scores(judged(ProcessRewardVerifier(str(skywork))))
    middle = sorted(found)[1]
    verdicts = judged(ProcessRewardVerifier(str(skywork), threshold=middle))
    assert [v.outcome for v in verdicts] == [Outcome.ACCEPT if score >= middle else Outcome.REJECT for score in found]
    assert {v.outcome for v in verdicts} == {Outcome.ACCEPT, Outcome.REJECT}
    assert all(v.raw["threshold"] == middle for v in verdicts)
