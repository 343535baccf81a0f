"""Training of a small process reward model on pocket problems, from the weights of a language model that solves them.

The network is transformers' own token classifier on a copy of the base model's layers, which stay as they are, with two
new ones above them, which are trained: what the model can work out is not unlearnt while they learn to compare it with
what was written. The loss is the cross-entropy of right and wrong at the last token of the separator behind each
step whose truth is known, where scores are read; and, as a help, at the tokens before it: that a sum is wrong shows at
its first wrong digit, and is learnt there much sooner than from the end of the step alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, AutoModelForTokenClassification

from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.load import checkpoint_config, checkpoint_model, failures_named, find_source
from draftproof.drafting.models.quiet import no_progress_bars
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.drafting.pocket.problems import SEPARATOR
from draftproof.drafting.training.optimisation import Optimisation
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import ModelError
from draftproof.metrics.classification import roc_auc, wrong_pr_auc
from draftproof.verifiers.process_reward.examples import WRONG_SHARE, batch_of, drawn
from draftproof.verifiers.process_reward.layouts import Layout
from draftproof.verifiers.process_reward.mistakes import LabelledSolution
from draftproof.verifiers.process_reward.model import ProcessRewardModel, Question, StepScore
from draftproof.verifiers.process_reward.reading import SeparatorReader
from draftproof.verifiers.process_reward.record import ProcessRewardRecord, files_digest, write_record

_ATTENTION = "draftproof_float32_prm"
NEW_LAYERS = 2


@dataclass(frozen=True)
class PrmTraining:
    """How long, and on what."""

    steps: int = 4000
    batch: int = 48
    learning_rate: float = 3e-3
    inner: float = 4.0
    """Weight of the loss at tokens inside of steps; 0 teaches the ends alone."""
    held_out: int = 600
    """Solutions that it is measured on, of problems that are none of the training's."""
    seed: int = 0


FULL = PrmTraining()
FAST = PrmTraining(steps=220, batch=32, learning_rate=2e-3, held_out=150)


def train_process_reward(
    base: str | Path,
    folder: Path,
    training: PrmTraining,
    *,
    checkpoint: Path | None = None,
    sampled: Sequence[LabelledSolution] = (),
    dtype: torch.dtype = torch.float32,
    report: Report = silent,
) -> ProcessRewardRecord:
    """Write a process reward model to `folder`, and return what is recorded of it.

    Args:
        base: a causal language model: its layers and its tokenizer are taken.
        checkpoint: where the state of training lies; a run that finds one goes on with it.
        sampled: solutions that models wrote (`mistakes.written_solution`), mixed in.
        dtype: in which matrices are multiplied while it is trained; weights stay float32.

    Raises ModelError and UsageError for a base model that it cannot be made from.
    """
    place = find_source(base)
    with failures_named(place):
        source = read_checkpoint(place)
        tokenizer = load_tokenizer(place)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            model = _classifier(place)
    reader = SeparatorReader(tokenizer, problem_separator=SEPARATOR, step_separator=SEPARATOR)
    base_digest = files_digest(source.files)
    made_of = asdict(training) | {"base": base_digest, "dtype": str(dtype), "sampled": _told(sampled)}
    optimisation = Optimisation(
        dict(model.named_parameters()),
        steps=training.steps,
        learning_rate=training.learning_rate,
        settings=made_of,
        file=checkpoint,
    )
    context = float(getattr(model.config, "max_position_embeddings", None) or torch.inf)
    counts = optimisation.carried.setdefault("counts", torch.zeros(2, dtype=torch.int64))
    plain = model.config._attn_implementation
    model.config._attn_implementation = _ATTENTION
    AttentionInterface.register(_ATTENTION, cast(Any, _attention))
    model.train()
    while not optimisation.finished:
        batch = batch_of(optimisation.done, training.batch, training.seed, reader, context, sampled)
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            states = model.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
        at_ends, inside = (
            cross_entropy(model.score(states[places.rows, places.columns].float()), places.right, reduction="sum")
            / max(1, len(places.right))
            for places in (batch.ends, batch.inner)
        )
        counts += torch.bincount(batch.ends.right, minlength=2)
        optimisation.step(at_ends + training.inner * inside)
        report(
            "training",
            optimisation.done,
            training.steps,
            f"loss {float(at_ends.detach()):.4f}",
        )
    model.config._attn_implementation = plain
    with no_progress_bars():
        model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    draft = ProcessRewardRecord(
        layout=Layout.TOKENS,
        problem_separator=SEPARATOR,
        step_separator=SEPARATOR,
        weights=files_digest(read_checkpoint(folder).files),
        training=made_of
        | {
            "base_name": str(base),
            "data": "pocket problems, labelled by their plans",
            "wrong_solutions": WRONG_SHARE,
            "wrong_steps": int(counts[0]),
            "right_steps": int(counts[1]),
            "sampled_solutions": len(sampled),
        },
        held_out={},
    )
    write_record(folder, draft)
    source_of_problems = random.Random(f"held out:{training.seed}")  # noqa: S311 - nothing secret
    measured = measure(ProcessRewardModel(folder), drawn(training.held_out, source_of_problems), report)
    record = draft.model_copy(update={"held_out": measured})
    write_record(folder, record)
    return record


def measure(
    model: ProcessRewardModel, solutions: Sequence[LabelledSolution], report: Report = silent
) -> dict[str, Any]:
    """How well the model's scores tell wrong steps from right ones, at the threshold ½ and by rank.

    The model is asked as the verifier asks it, from the folder. PR-AUC is that of the wrong class; a random ranking
    gets `base_rate`, the share of wrong steps.
    """
    truths: list[bool] = []
    scores: list[float] = []
    caught: dict[str, list[bool]] = {}
    for place in range(0, len(solutions), 64):
        some = solutions[place : place + 64]
        asked = [Question(each.problem, each.steps, tuple(range(len(each.steps)))) for each in some]
        for solution, results in zip(some, model.score(asked), strict=True):
            for index, result in enumerate(results):
                if not isinstance(result, StepScore):
                    raise ModelError(f"A step of a held-out solution has no score: {result.reason}.")
                wrong = solution.fault is not None and index + 1 == len(solution.steps)
                truths.append(not wrong)
                scores.append(result.score)
                if wrong:
                    caught.setdefault(str(solution.fault), []).append(result.score < 0.5)
        report("measuring", min(place + 64, len(solutions)), len(solutions), "")
    area, base_rate = wrong_pr_auc(truths, scores)
    return {
        "solutions": len(solutions),
        "steps": len(truths),
        "base_rate": base_rate,
        "accuracy": sum((score >= 0.5) is truth for truth, score in zip(truths, scores, strict=True)) / len(truths),
        "wrong_pr_auc": area,
        "roc_auc": roc_auc(truths, scores),
        "caught": {fault: {"wrong": len(each), "below_half": sum(each)} for fault, each in sorted(caught.items())},
    }


def _classifier(folder: Path) -> Any:
    """A token classifier: the layers of the causal model in `folder`, `NEW_LAYERS` more above them, and a new head.

    What the model expects at a token is known in its last layer, and one token too early: only a layer above can look
    back at that and compare it with what was written. New layers begin as no change, and the head with no opinion.
    """
    checkpoint = read_checkpoint(folder)
    base = checkpoint_model(checkpoint, checkpoint_config(checkpoint), torch.float32, torch.device("cpu"))
    config = base.config.__class__.from_dict(base.config.to_dict())
    below = config.num_hidden_layers
    config.num_hidden_layers = below + NEW_LAYERS
    if getattr(config, "layer_types", None):
        config.layer_types = [*config.layer_types[:below], *["full_attention"] * NEW_LAYERS]
    config.num_labels = 2
    config.id2label = {0: "incorrect", 1: "correct"}
    config.label2id = {"incorrect": 0, "correct": 1}
    config.classifier_dropout = 0.0
    model: Any = AutoModelForTokenClassification.from_config(config)
    try:
        new = [model.base_model.layers[below + place] for place in range(NEW_LAYERS)]
        silenced = [part for layer in new for part in (layer.self_attn.o_proj, layer.mlp.down_proj)] + [model.score]
    except AttributeError as error:
        raise ModelError(
            f"{folder} holds a {type(base).__name__}, which has no layers of Llama's shape to build upon.",
            remedy="Take a base model of the families of Llama, Mistral or Qwen.",
        ) from error
    copied = model.base_model.load_state_dict(base.base_model.state_dict(), strict=False)
    added = tuple(f"layers.{below + place}." for place in range(NEW_LAYERS))
    if copied.unexpected_keys or not all(name.startswith(added) for name in copied.missing_keys):
        raise ModelError(f"The weights of {folder} do not fit a {type(model).__name__}.")
    with torch.no_grad():
        for part in silenced:
            for parameter in part.parameters():
                parameter.zero_()
    model.float().requires_grad_(True)
    for part in (model.base_model.embed_tokens, *model.base_model.layers[:below]):
        part.requires_grad_(False)
    return model


def _told(sampled: Sequence[LabelledSolution]) -> str:
    """What identifies solutions from elsewhere among a run's settings."""
    from draftproof.canonical import digest

    return digest([[each.problem, list(each.steps), str(each.fault)] for each in sampled]) if sampled else ""


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Causal attention in float32: PyTorch's backward pass in bfloat16 takes several times as long on a CPU. Padding
    stands behind the text, where nothing looks at it."""
    grouped = query.shape[1] != key.shape[1]
    with torch.autocast("cpu", enabled=False):
        mixed = scaled_dot_product_attention(
            query.float(), key.float(), value.float(), is_causal=True, scale=scaling, enable_gqa=grouped
        )
    return mixed.transpose(1, 2).contiguous(), None
