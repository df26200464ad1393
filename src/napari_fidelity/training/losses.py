"""Pixel losses for training: differentiable, averaged over all pixels, value range as the images'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LossName = Literal["l1", "charbonnier", "mse"]


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two tensors (N, C, *spatial) of the same shape."""
    return (output - target).abs().mean()


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Smooth L1, ``mean(sqrt(d**2 + epsilon**2))``: Charbonnier 1994, doi:10.1109/ICIP.1994.413553."""
    return torch.sqrt((output - target).square() + epsilon**2).mean()


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two tensors (N, C, *spatial) of the same shape."""
    return (output - target).square().mean()


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "charbonnier": charbonnier, "mse": mse}
"""Name → loss of (output, target), a scalar tensor."""
