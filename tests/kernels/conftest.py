"""Kernels run in Triton's interpreter where there is no GPU (the root conftest chooses), on poisoned memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def quiet_arithmetic() -> Iterator[None]:
    """The interpreter computes with numpy, which warns of what a GPU is silent about: NaN, wrapped integers."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty` hands out NaN and absurd integers, so that what a kernel forgets to write shows."""
    original = torch.empty

    def poisoned(*args: object, **kwargs: object) -> torch.Tensor:
        tensor = original(*args, **kwargs)  # type: ignore[call-overload]
        if tensor.dtype.is_floating_point:
            return tensor.fill_(float("nan"))
        return tensor.fill_(True if tensor.dtype == torch.bool else 123456789)

    monkeypatch.setattr(torch, "empty", poisoned)
