"""What identifies trained weights in records: two drafters of equal digests draft alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass

import torch
from torch import Tensor, nn

from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary


def weights_digest(module: nn.Module, trimmed: TrimmedVocabulary | None) -> str:
    """`sha256:…` over every weight, in float32, what the weights do not say (`module.config`), and the ids that can be
    drafted; None: all."""
    tensors: Mapping[str, Tensor] = module.state_dict()
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    config = getattr(module, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        digest.update(json.dumps(asdict(config), sort_keys=True).encode())
    if trimmed is not None:
        digest.update(trimmed.ids.cpu().to(torch.int64).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
