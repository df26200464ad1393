"""The numbers that a step carries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def mean_square(residual: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """Return the mean square of a residual over the observed pixels."""
    if weights is None:
        return float(residual.square().mean())
    w = weights.to(residual).expand_as(residual)
    return float((residual.square() * w).sum() / w.sum())


def lr_psnr(residual: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """Return the PSNR in dB of ``A x`` against ``y`` for a range of 1, from their difference."""
    error = mean_square(residual, weights)
    return math.inf if error == 0 else -10 * math.log10(error)
