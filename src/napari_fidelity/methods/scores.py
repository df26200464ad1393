"""The numbers that a step carries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from napari_fidelity.operators.noise import Noise


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


def known_variance(noise: Noise | None, y: torch.Tensor) -> torch.Tensor | None:
    """Return the noise variance of each pixel of ``y``, or ``None`` where the noise has no known strength."""
    if noise is None:
        return None
    variance = noise.variance(y).expand_as(y)
    return variance if bool((variance > 0).all()) else None
