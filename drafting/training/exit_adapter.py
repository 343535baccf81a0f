"""Training of the readout of one early exit, on texts in the target's own words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.exit_adapter import ExitAdapter, ExitAdapterConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.exit_states import read_exit
from draftproof.drafting.training.exit_training import Epoch, ExitTraining, train_readout
from draftproof.drafting.training.progress import Report, silent


def train_exit_adapter(
    model: CachedModel,
    texts: Sequence[Sequence[int]],
    exit_layer: int,
    *,
    rank: int = 32,
    trimmed: TrimmedVocabulary | None = None,
    training: ExitTraining = ExitTraining(),  # noqa: B008 (frozen)
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[ExitAdapter, tuple[Epoch, ...]]:
    """An adapter for leaving `model` after `exit_layer` layers, and how held-out acceptance rose.

    Args:
        texts: token ids, best what the target itself generates (`self_text.generate`).
        trimmed: tokens that will be drafted; None: all. Cross-entropy over all of 49152 takes most of the time.
        checkpoint: where the state of training lies; a run that finds one goes on with it.
    """
    data = read_exit(model, texts, exit_layer, report=report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        adapter = ExitAdapter(ExitAdapterConfig(exit_layer, rank), AdapterTarget.of(model.info), trimmed)
    return adapter, train_readout(adapter, model, data, trimmed, training, checkpoint=checkpoint, report=report)
