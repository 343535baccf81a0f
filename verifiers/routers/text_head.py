"""A router that reads: a small language model with a head on its last token, as published for Arbitrage.

It sees the problem and all steps, each behind a tag that says who wrote it: who was trusted so far is part of the
evidence (arXiv 2512.05033: without the tags, the rank correlation with the advantage falls from 0.151 to 0.131). One
logit is the difference of the paper's two. The whole model is tuned, so that a checkpoint of a few million parameters
will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from draftproof.canonical import digest
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from draftproof.drafting.models.byte_vocabulary import ByteVocabulary

HEAD = "router_head.safetensors"
_TAGS = {"draft": "Model 0: ", "target": "Model 1: ", "pipeline": ""}
_FORGED = re.compile(r"(Model [01])(?=:)")


def annotated(problem: str, steps: Sequence[str], writers: Sequence[str]) -> str:
    """What the model reads: the problem, then each step behind its writer's tag.

    Text that spells a tag itself gets a space before the colon: nobody speaks in another's name.
    """
    lines = [_TAGS[writer] + _FORGED.sub(r"\1 ", step) for step, writer in zip(steps, writers, strict=True)]
    return "\n".join([_FORGED.sub(r"\1 ", problem), "".join(lines)])


@dataclass(frozen=True)
class TextTraining:
    """How a text router is tuned."""

    epochs: int = 3
    batch: int = 16
    learning_rate: float = 1e-4
    """Peak. For models of billions of parameters 1e-5, as published."""
    seed: int = 0


@dataclass(frozen=True)
class TextHead:
    """`logit = head · state of the last token + shift`."""

    model: PreTrainedModel
    head: nn.Linear
    vocabulary: ByteVocabulary
    tokenizer: Any
    shift: float = 0.0
    kind: Literal["text"] = "text"

    def logit(self, text: str) -> float | None:
        """None for a text that is longer than the model can read. Texts go through one by one: none depends on
        which others were asked about."""
        import torch

        ids = self.vocabulary.encode(text)
        if not 0 < len(ids) <= _context_length(self.model):
            return None
        with torch.inference_mode():
            return float(_forward(self.model, self.head, [ids])[0]) + self.shift

    def shifted(self, by: float) -> TextHead:
        """The same with every logit moved."""
        return replace(self, shift=self.shift + by)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the checkpoint; returns what identifies it."""
        from safetensors.torch import save_file

        from draftproof.drafting.training.distill import save_draft

        save_draft(folder, self.model, self.tokenizer)
        save_file({name: each.detach().contiguous() for name, each in self.head.state_dict().items()}, folder / HEAD)
        return {"kind": self.kind, "shift": self.shift, "files": _digests(folder)}

    @classmethod
    def restored(cls, stored: Mapping[str, Any], folder: Path) -> TextHead:
        """Raises InputError where the folder's files are not those that were saved."""
        from safetensors.torch import load_file

        if stored.get("files") != _digests(folder):
            raise InputError(
                f"The files in {folder} are not those that its router was saved with.",
                remedy="Train the router again, or copy the whole folder again.",
            )
        model, vocabulary, tokenizer = _checkpoint(folder)
        head = _head(model)
        head.load_state_dict(load_file(folder / HEAD))
        return cls(model, head.requires_grad_(False), vocabulary, tokenizer, float(stored["shift"]))


def fit_text_head(
    texts: Sequence[str],
    labels: Sequence[int],
    checkpoint: Path,
    training: TextTraining = TextTraining(),
    *,
    state: Path | None = None,
    report: Report = silent,
) -> tuple[TextHead, int]:
    """Tune the causal language model in `checkpoint` to tell the labels from the texts.

    Args:
        state: where training is kept, so that a run that was killed goes on.

    Returns the router's head, and how many texts were longer than the model can read and left out.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from draftproof.drafting.training.optimisation import Optimisation, shuffled

    if min(training.epochs, training.batch) < 1:
        raise UsageError("epochs and batch must be at least 1.")
    model, vocabulary, tokenizer = _checkpoint(checkpoint)
    limit = _context_length(model)
    read = [(vocabulary.encode(text), label) for text, label in zip(texts, labels, strict=True)]
    kept = [(ids, label) for ids, label in read if 0 < len(ids) <= limit]
    if len({label for _, label in kept}) < 2:
        raise UsageError(
            f"{len(kept)} of {len(read)} texts are short enough for {checkpoint}, and all have the same label.",
            remedy="Take a checkpoint with a longer context.",
        )
    backbone = model.base_model.requires_grad_(True)
    head = _head(model)
    trained = {f"model.{name}": each for name, each in backbone.named_parameters()}
    trained |= {f"head.{name}": each for name, each in head.named_parameters()}
    steps = training.epochs * -(-len(kept) // training.batch)
    data = digest([[ids, label] for ids, label in kept])
    optimisation = Optimisation(
        trained,
        steps=steps,
        learning_rate=training.learning_rate,
        settings=asdict(training) | {"data": data, "checkpoint": _digests(checkpoint)},
        file=state,
    )
    with torch.enable_grad():
        while not optimisation.finished:
            chosen = shuffled(len(kept), training.batch, optimisation.done, training.seed).tolist()
            logits = _forward(model, head, [kept[i][0] for i in chosen])
            wanted = torch.tensor([float(kept[i][1]) for i in chosen])
            loss = binary_cross_entropy_with_logits(logits, wanted)
            optimisation.step(loss)
            report("training", optimisation.done, steps, f"loss {float(loss.detach()):.3f}")
    model.requires_grad_(False)
    head.requires_grad_(False)
    return TextHead(model, head, vocabulary, tokenizer), len(read) - len(kept)


def _forward(model: PreTrainedModel, head: nn.Linear, rows: Sequence[Sequence[int]]) -> Tensor:
    """Logits [B] of token rows, padded on the right, which a causal model does not see."""
    import torch

    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    states = cast(Any, model.base_model)(input_ids=ids, use_cache=False).last_hidden_state  # [B, longest, H]
    last = states[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
    return cast("Tensor", head(last.float()).squeeze(-1))


def _context_length(model: PreTrainedModel) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 0)) or 1 << 30


def _head(model: PreTrainedModel) -> nn.Linear:
    """One logit that says nothing yet."""
    import torch

    config = model.config.get_text_config()
    head = torch.nn.Linear(int(config.hidden_size), 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def _checkpoint(folder: Path) -> tuple[PreTrainedModel, ByteVocabulary, Any]:
    import torch

    from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
    from draftproof.drafting.models.checkpoint import read_checkpoint
    from draftproof.drafting.models.load import checkpoint_config, checkpoint_model, failures_named
    from draftproof.drafting.models.tokenizer import load_tokenizer

    with failures_named(folder):
        checkpoint = read_checkpoint(folder)
        model = checkpoint_model(checkpoint, checkpoint_config(checkpoint), torch.float32, torch.device("cpu"))
        tokenizer = load_tokenizer(folder)
        return model, ByteVocabulary(tokenizer), tokenizer


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that the logits depend on."""
    files = [folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
