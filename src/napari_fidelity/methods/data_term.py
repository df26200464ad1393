"""What fine-tuning minimises: how badly ``A x`` explains ``y``, and the regularisers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.methods.scores import lr_psnr, mean_square
from napari_fidelity.operators.resample import resize

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise


@dataclass(frozen=True)
class DataTerm:
    """The data term ``D(A x, y)``, in squared intensity whatever the noise model.

    Attributes
    ----------
    y
        Measurement ``(N, C, *m)``.
    operator
        Image formation model.
    noise
        Noise model in the units of ``y``, or ``None``.
    weights
        Weight of each measurement pixel, 0 where unobserved or held out, or ``None``.
    held_out
        1 at observed pixels that are kept out of the fit, or ``None``.
    mask
        Weight of each image pixel for Lucas 2020, eq. 2, ``(N, 1 or C, *n)``, or ``None``.
    """

    y: torch.Tensor
    operator: LinearOperator
    noise: Noise | None = None
    weights: torch.Tensor | None = None
    held_out: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the residual ``A x − y`` for an image ``x``."""
        prediction = self.operator.A(x)
        residual = prediction - self.y
        if self.mask is not None:
            return self._masked(residual), residual.detach()
        variance = known_variance(self.noise, self.y)
        if self.noise is None or variance is None:
            terms = residual.square()
        else:
            # A negative log-likelihood is r²/2σ²: times 2σ² it is comparable with the plain squared error.
            terms = 2 * variance.mean() * self.noise.nll(prediction, self.y)
        if self.weights is None:
            return terms.mean(), residual.detach()
        weights = self.weights.expand_as(terms)
        return (terms * weights).sum() / weights.sum(), residual.detach()

    def _masked(self, residual: torch.Tensor) -> torch.Tensor:
        """Return ``mean (M ⊙ up(A x − y))²`` with ``up`` bicubic to the image's grid (eq. 2)."""
        assert self.mask is not None
        variance = known_variance(self.noise, self.y)
        if variance is not None:
            residual = residual * (variance.mean() / variance.clamp_min(1e-12)).sqrt()
        if self.weights is not None:
            residual = residual * self.weights
        if residual.shape[2:] != self.mask.shape[2:]:
            residual = resize(residual, self.mask.shape[2:])
        return (self.mask * residual).square().mean()

    def scores(self, residual: torch.Tensor) -> dict[str, float]:
        """Return the numbers that stopping rules read, from a residual ``A x − y``."""
        scores = {"lr_psnr": lr_psnr(residual, self.weights)}
        if self.noise is not None and known_variance(self.noise, self.y) is not None:
            scores["discrepancy"] = float(self.noise.discrepancy(self.y + residual, self.y, self.weights))
        if self.held_out is not None:
            scores["held_out"] = mean_square(residual, self.held_out)
        return scores


def known_variance(noise: Noise | None, y: torch.Tensor) -> torch.Tensor | None:
    """Return the noise variance of each pixel of ``y``, or ``None`` where the noise has no known strength."""
    if noise is None:
        return None
    variance = noise.variance(y)
    return variance if bool((variance > 0).all()) else None


def edge_mask(x: torch.Tensor) -> torch.Tensor:
    """Return ``1 − Sobel(x)``, the weight that spares edges (Lucas 2020, eq. 2): ``(N, 1, *n)`` in [0, 1].

    The gradient magnitude of the channels' mean is divided by its largest value in the image.
    """
    gray = x.detach().mean(dim=1, keepdim=True)
    derivative = torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype, device=x.device)
    smooth = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    padded = nn.functional.pad(gray, (1, 1, 1, 1), mode="replicate")
    rows = nn.functional.conv2d(padded, (derivative[:, None] * smooth)[None, None])
    columns = nn.functional.conv2d(padded, (smooth[:, None] * derivative)[None, None])
    magnitude = (rows.square() + columns.square()).sqrt()
    largest = magnitude.amax(dim=(1, 2, 3), keepdim=True)
    return 1 - magnitude / largest.clamp_min(1e-12)


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Return the isotropic total variation per pixel (Rudin 1992, doi:10.1016/0167-2789(92)90242-F)."""
    squares = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        step = x.diff(dim=axis)
        pad = [0, 0] * (x.ndim - 1 - axis) + [0, 1]
        squares = squares + nn.functional.pad(step, pad).square()
    return (squares + 1e-8).sqrt().mean()
