"""The ways in which published process reward models are stored and asked, and which of them a checkpoint is.

A layout says what text the model reads, at which token of it a step's score stands, and what is computed there:

- `skywork`: a value head (one number; its sigmoid is the score) on a causal model, at the last token of the separator
  behind each step. Weights `v_head.summary.weight` [1, H] and `.bias` [1] beside those of the model.
- `qwen-math-prm`: two classes at the special token `<extra_0>` behind each step, from a head of two layers with a ReLU
  between them: `score.0` [H, H] and `score.2` [2, H], each with a bias.
- `math-shepherd`: a causal language model that says `+` or `-` at the tag `ки` behind each step. Nothing in such a
  checkpoint tells it from any other language model, so that this layout is never guessed.
- `sequence-classification`, `token-classification`: transformers' own kinds of classifier, the first over the text up
  to a step's end, the second at the last token of the separator behind it (as TRL's `PRMTrainer` makes them, and as
  `draftproof train process-reward` does).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from draftproof.drafting.models.checkpoint import Checkpoint
from draftproof.errors import ModelError, UsageError
from draftproof.verdict import Proposition

VALUE_HEAD = "v_head.summary"
REWARD_HEAD = ("score.0", "score.2")


class Layout(StrEnum):
    SKYWORK = "skywork"
    QWEN_MATH_PRM = "qwen-math-prm"
    MATH_SHEPHERD = "math-shepherd"
    SEQUENCE = "sequence-classification"
    TOKENS = "token-classification"

    @property
    def proposition(self) -> Proposition:
        """What the score is the probability of. Math-Shepherd's labels say whether a step can still lead to the right
        answer, not whether it is right (arXiv 2312.08935); the others were trained on labels of right and wrong."""
        return Proposition.LEADS_TO_ANSWER if self is Layout.MATH_SHEPHERD else Proposition.CORRECT


def find_layout(checkpoint: Checkpoint, tensors: Collection[str], asked: str, recorded: Layout | None) -> Layout:
    """The layout of a checkpoint whose safetensors hold `tensors`.

    Args:
        asked: a layout's name, or `auto`.
        recorded: what a file of ours beside the weights says.

    Raises UsageError for a name that there is not, and ModelError where the checkpoint is not what was asked for, or
    does not say what it is: a wrong guess would give scores that mean nothing.
    """
    signs = _signs(checkpoint, tensors)
    if asked == "auto":
        if recorded is not None:
            return _held(checkpoint, recorded, signs)
        if len(signs) == 1:
            return next(iter(signs))
        raise _ambiguous(checkpoint, signs)
    try:
        layout = Layout(asked)
    except ValueError:
        raise UsageError(
            f"There is no layout {asked!r} of process reward models.", remedy=f"There are: auto, {', '.join(Layout)}."
        ) from None
    if recorded not in (None, layout):
        raise ModelError(f"{checkpoint.folder} was written as {recorded}, and {layout} was asked for.")
    return _held(checkpoint, layout, signs)


def good_class(labels: Mapping[Any, Any], folder: object) -> int:
    """Which of two classes means that a step is good, from a configuration's `id2label`.

    Class 1 where the labels have no names of their own, as everywhere in this field. Raises ModelError for names that
    say neither: a wrong guess would accept what the model rejects.
    """
    names = [str(labels.get(index, labels.get(str(index), ""))).strip().lower() for index in (0, 1)]
    if names == ["label_0", "label_1"] or (names[0] in _BAD and names[1] in _GOOD):
        return 1
    if names[0] in _GOOD and names[1] in _BAD:
        return 0
    raise ModelError(
        f"{folder} calls its two classes {names[0]!r} and {names[1]!r}, and does not say which one is that of "
        "good steps.",
        remedy='Name them in its config.json: "id2label": {"0": "incorrect", "1": "correct"}.',
    )


_GOOD = frozenset({"correct", "right", "positive", "good", "true", "valid", "yes", "+", "1"})
_BAD = frozenset({"incorrect", "wrong", "negative", "bad", "false", "invalid", "no", "-", "0"})


def _signs(checkpoint: Checkpoint, tensors: Collection[str]) -> dict[Layout, str]:
    """Layouts that something in the checkpoint speaks for, and what that is."""
    found: dict[Layout, str] = {}
    if any(name == f"{VALUE_HEAD}.weight" for name in tensors):
        found[Layout.SKYWORK] = f"the value head {VALUE_HEAD}"
    if all(f"{name}.weight" in tensors for name in REWARD_HEAD):
        found[Layout.QWEN_MATH_PRM] = "the two-layer head " + " and ".join(REWARD_HEAD)
    for layout, ending in ((Layout.SEQUENCE, "ForSequenceClassification"), (Layout.TOKENS, "ForTokenClassification")):
        if checkpoint.architecture.endswith(ending):
            found[layout] = f"the architecture {checkpoint.architecture}"
    return found


def _held(checkpoint: Checkpoint, layout: Layout, signs: Mapping[Layout, str]) -> Layout:
    """`layout`, where the checkpoint can be that."""
    if layout in signs or (layout is Layout.MATH_SHEPHERD and not signs):
        return layout
    has = "; ".join(signs.values()) or f"a plain {checkpoint.architecture}"
    raise ModelError(
        f"{checkpoint.folder} is no {layout} model: it has {has}.", remedy="Leave the choice to layout=auto."
    )


def _ambiguous(checkpoint: Checkpoint, signs: Mapping[Layout, str]) -> ModelError:
    if signs:
        return ModelError(
            f"{checkpoint.folder} may be of several layouts: "
            + "; ".join(f"{k} by {v}" for k, v in signs.items())
            + ".",
            remedy="Say which with layout=NAME.",
        )
    return ModelError(
        f"{checkpoint.folder} holds a {checkpoint.architecture}, and nothing in it says that it is a process reward "
        "model.",
        remedy="If it answers + or - at the tag ки, give layout=math-shepherd.",
    )
