"""The memory a fine-tuning needs is known before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.methods import FineTune, _memory
from napari_fidelity.methods._memory import check_memory, kept_for_backward
from napari_fidelity.operators import Downsample

if TYPE_CHECKING:
    from conftest import MakeNetwork


def test_what_is_kept_is_counted_once() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    y = torch.rand(1, 1, 32, 32)
    weights = 4 * sum(p.numel() for p in layers.parameters() if p.ndim > 1)
    activations = 4 * 32 * 32 * (1 + 4)  # the input, and the ReLU's output, which the second layer keeps too
    assert kept_for_backward(layers, y) == pytest.approx(weights + activations, abs=256)


def test_too_large_an_image_is_refused_with_the_numbers(
    network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "free_memory", lambda device: 10**8)
    monkeypatch.setattr(_memory, "_SMALL", 32**2)
    y = torch.rand(1, 1, 64, 64)
    with pytest.raises(MemoryNeededError, match=r"64 × 64 .* GB .*0\.1 GB free.*parameters: last"):
        next(FineTune().steps(y, Downsample(scale=2), network()))
    next(FineTune(parameters="last", iterations=1).steps(y, Downsample(scale=2), network()))


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_SMALL", 0)
    check_memory(nn.Conv2d(1, 1, 3, padding=1), torch.rand(1, 1, 64, 64))
