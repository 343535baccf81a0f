"""Labelled steps as a head sees them: features from one reading of each trace, kept in shards, and how they are split.

Shards are bound to the model, the feature set, the texts and the labels; a run that was killed keeps those that it
finished. Features are float16: states have mean square 1, and what a head needs of the rest is not finer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import InputError
from draftproof.subject import step_subjects
from draftproof.trace import StepLabel
from draftproof.verifiers.uncertainty_head.baselines import FIGURES
from draftproof.verifiers.uncertainty_head.features import FeatureSet, NoInternalsError, StepInternals
from draftproof.verifiers.uncertainty_head.labels import Labelled
from draftproof.verifiers.uncertainty_head.reader import Reader

FORMAT = "draftproof-step-internals-1"
_TRACES_A_SHARD = 64
_LARGEST = 65_000.0

FEWEST_STEPS = 20
"""Of either class, in all: fewer teach nothing, and measure nothing."""
FEWEST_PROBLEMS = 6
"""Problems with a wrong step, and problems without one: each part of the split needs both."""
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15


@dataclass(frozen=True)
class Examples:
    """Labelled steps: M of them."""

    features: list[Tensor]
    """[n_i, F] float16 each."""
    wrong: Tensor
    """[M] bool."""
    problems: list[str]
    """Digest of the problem of each."""
    places: list[tuple[int, int]]
    """Trace and step of each."""
    baselines: dict[str, Tensor]
    """Name -> [M] float64: the score that each untrained verifier gives."""
    unread: dict[str, int]
    """Labelled steps without internals, by reason."""
    digest: str
    """Of texts, labels, features and model."""

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Split:
    """Indices of examples. All steps of a problem, in whatever trace, are on one side."""

    train: Tensor
    validation: Tensor
    test: Tensor


def collect(
    reader: Reader, wanted: FeatureSet, labelled: Labelled, folder: Path, *, report: Report = silent
) -> Examples:
    """Make `folder` hold the internals of all labelled steps, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = list(_blocks(labelled))
    total, hashed = len(labelled.traces), hashlib.sha256()
    held: list[dict[str, Tensor]] = []
    for number, block in enumerate(blocks):
        stated = _stated(reader, wanted, labelled, block)
        hashed.update(json.dumps(stated, sort_keys=True).encode())
        file = folder / f"internals-{number:05}.safetensors"
        tensors = _stored(file, stated)
        if tensors is None:
            tensors = _read(reader, wanted, labelled, block)
            partial = file.with_suffix(".partial")
            save_file(tensors, partial, metadata=stated)
            partial.replace(file)
        held.append(tensors)
        report("reading", block.stop, total, "")
    return _joined(held, labelled, f"sha256:{hashed.hexdigest()}")


def split(examples: Examples) -> Split:
    """A fifth of the problems to measure on, some to stop training by, the rest to learn from.

    Which is which depends on the problems' digests alone; problems with a wrong step and those without are shared out
    separately, so that no part lacks either. Raises InputError where there is too little of something.
    """
    check_enough(int(examples.wrong.sum()), int((~examples.wrong).sum()))
    faulty = {problem for problem, wrong in zip(examples.problems, examples.wrong.tolist(), strict=True) if wrong}
    clean = set(examples.problems) - faulty
    if len(faulty) < FEWEST_PROBLEMS or len(faulty) + len(clean) < 2 * FEWEST_PROBLEMS:
        raise InputError(
            f"The wrong steps are in {len(faulty)} of {len(faulty) + len(clean)} problems; at least {FEWEST_PROBLEMS} "
            f"of {2 * FEWEST_PROBLEMS} are needed, because problems are held out as a whole.",
            remedy="Give more problems, or let the model write more solutions (--generate).",
        )
    side: dict[str, int] = {}
    for group in (faulty, clean):
        ordered = sorted(group)
        test = max(1, round(TEST_SHARE * len(ordered)))
        validation = max(1, round(VALIDATION_SHARE * len(ordered)))
        for place, problem in enumerate(ordered):
            side[problem] = 2 if place < test else 1 if place < test + validation else 0
    sides = torch.tensor([side[problem] for problem in examples.problems])
    parts = [(sides == each).nonzero().flatten() for each in range(3)]
    return Split(train=parts[0], validation=parts[1], test=parts[2])


def check_enough(wrong: int, right: int) -> None:
    """Raises InputError for too few steps of a class."""
    if wrong < FEWEST_STEPS or right < FEWEST_STEPS:
        raise InputError(
            f"There are {wrong} wrong and {right} right steps; at least {FEWEST_STEPS} of each are needed, and "
            "hundreds make a good head.",
            remedy="Give more traces, another source of labels (--labels), or let the model write more (--generate).",
        )


def _blocks(labelled: Labelled) -> Iterator[range]:
    for begin in range(0, len(labelled.traces), _TRACES_A_SHARD):
        yield range(begin, min(begin + _TRACES_A_SHARD, len(labelled.traces)))


def _stated(reader: Reader, wanted: FeatureSet, labelled: Labelled, block: range) -> dict[str, str]:
    contents = [[labelled.traces[t].digest, [each.value for each in labelled.labels[t]]] for t in block]
    return {
        "format": FORMAT,
        "base": f"{reader.info.digest}#{reader.writer}",
        "features": json.dumps(asdict(wanted), sort_keys=True),
        "contents": hashlib.sha256(json.dumps(contents).encode()).hexdigest(),
    }


def _stored(file: Path, stated: dict[str, str]) -> dict[str, Tensor] | None:
    """The tensors of a shard, or None where there is no file, a broken one, or one of something else."""
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as opened:
            if opened.metadata() != stated:
                return None
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError):
        return None


_UNREAD = ("context_too_long", "empty_step", "internals_not_finite", "unreadable_text")


def _read(reader: Reader, wanted: FeatureSet, labelled: Labelled, block: range) -> dict[str, Tensor]:
    features: list[Tensor] = []
    rows: list[tuple[int, int, int, int]] = []
    scores: list[list[float]] = []
    unread = [0] * len(_UNREAD)
    for number in block:
        labels = labelled.labels[number]
        known = [place for place, each in enumerate(labels) if each is not StepLabel.UNKNOWN]
        subjects = list(step_subjects(labelled.traces[number]))
        found = reader.read([subjects[place] for place in known])
        for place, step in zip(known, found, strict=True):
            try:
                seen = _features(step, wanted)
            except NoInternalsError as error:
                unread[_UNREAD.index(error.reason)] += 1
                continue
            assert isinstance(step, StepInternals)
            features.append(seen.clamp(-_LARGEST, _LARGEST).to(torch.float16))
            rows.append((number, place, len(seen), labels[place] is StepLabel.INCORRECT))
            scores.append([figure(step)[2] for figure in FIGURES.values()])
    return {
        "features": torch.cat(features) if features else torch.zeros(0, 1, dtype=torch.float16),
        "rows": torch.tensor(rows, dtype=torch.int64).view(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float64).view(-1, len(FIGURES)),
        "unread": torch.tensor(unread),
    }


def _features(step: StepInternals | NoInternalsError, wanted: FeatureSet) -> Tensor:
    if isinstance(step, NoInternalsError):
        raise step
    return step.features(wanted)


def _joined(shards: Sequence[dict[str, Tensor]], labelled: Labelled, digest: str) -> Examples:
    features: list[Tensor] = []
    for shard in shards:
        if len(shard["rows"]):
            features += torch.split(shard["features"], shard["rows"][:, 2].tolist())
    rows = torch.cat([shard["rows"] for shard in shards]) if shards else torch.zeros(0, 4, dtype=torch.int64)
    scores = torch.cat([shard["scores"] for shard in shards]) if shards else torch.zeros(0, len(FIGURES))
    lost = torch.stack([shard["unread"] for shard in shards]).sum(0).tolist() if shards else []
    named = [hashlib.sha256(trace.problem.encode()).hexdigest() for trace in labelled.traces]
    return Examples(
        features=features,
        wrong=rows[:, 3].bool(),
        problems=[named[trace] for trace in rows[:, 0].tolist()],
        places=[(trace, place) for trace, place in rows[:, :2].tolist()],
        baselines={name: scores[:, column] for column, name in enumerate(FIGURES)},
        unread={reason: count for reason, count in zip(_UNREAD, lost, strict=False) if count},
        digest=digest,
    )
