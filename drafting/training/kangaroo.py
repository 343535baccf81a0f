"""Training of Kangaroo's adapter: cross-entropy with the target's own predictions (arXiv 2404.18911, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter, KangarooConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.exit_states import read_exit
from draftproof.drafting.training.exit_training import Epoch, ExitTraining, train_readout
from draftproof.drafting.training.progress import Report, silent


def train_kangaroo(
    model: CachedModel,
    texts: Sequence[Sequence[int]],
    config: KangarooConfig,
    *,
    trimmed: TrimmedVocabulary | None = None,
    training: ExitTraining = ExitTraining(),  # noqa: B008 (frozen)
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[KangarooAdapter, tuple[Epoch, ...]]:
    """An adapter for `model`, and how held-out acceptance rose. All else is as for `train_exit_adapter`."""
    data = read_exit(model, texts, config.exit_layer, report=report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        adapter = KangarooAdapter(config, AdapterTarget.of(model.info), trimmed)
    return adapter, train_readout(adapter, model, data, trimmed, training, checkpoint=checkpoint, report=report)
