"""What fine-tuning minimises: how badly ``A x`` explains ``y``, and the regularisers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.methods.calls import apply_to_features, call_operator
from napari_fidelity.methods.scores import known_variance, lr_psnr, mean_square
from napari_fidelity.operators._axes import Resize
from napari_fidelity.operators.local import Axes, LocalMap, Multiply, local_map
from napari_fidelity.operators.noise import PoissonNoise
from napari_fidelity.operators.resample import resize
from napari_fidelity.stopping.rules import HeldOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


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
    target
        What is held out, where that is another measurement than ``y``; or ``None``.
    """

    y: torch.Tensor
    operator: LinearOperator
    noise: Noise | None = None
    weights: torch.Tensor | None = None
    held_out: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    target: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of an image ``x``."""
        if self.mask is not None:
            return (self.linear(x) - self.linear_target()).square().mean()
        return self.misfit(call_operator(self.operator, x))

    def misfit(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the loss of an image without mask from its ``A x``."""
        if self.noise is None or self._variance is None:
            terms = (prediction - self.y).square()
        else:
            # A negative log-likelihood is r²/2σ²: times 2σ² it is comparable with the plain squared error.
            terms = 2 * self.noise_variance * self.noise.nll(prediction, self.y)
        if self.weights is None:
            return terms.mean()
        weights = self.weights.expand_as(terms)
        return (terms * weights).sum() / weights.sum()

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """Return the linear map whose distance from :meth:`linear_target` is the least-squares data term.

        ``A x``, whitened by a noise that differs from pixel to pixel; with a mask, bicubically enlarged to the
        image's grid and multiplied by the mask (eq. 2).
        """
        return self._seen(apply_to_features(self.operator, x, self.y.shape[1]))

    def linear_target(self) -> torch.Tensor:
        """Return the measurement put through what :meth:`linear` does after ``A``."""
        return self._seen(self.y)

    def _seen(self, z: torch.Tensor) -> torch.Tensor:
        # One factor for all channels of a pixel: what goes through here may be features, not an image.
        if self._variance is not None:
            z = z * (self.noise_variance / self._variance.mean(dim=1, keepdim=True)).sqrt()
        if self.mask is None:
            return z
        if self.weights is not None:
            z = z * self.weights.amin(dim=1, keepdim=True)
        return self.mask * (z if z.shape[2:] == self.mask.shape[2:] else resize(z, self.mask.shape[2:]))

    def local(self, shape: Sequence[int]) -> LocalMap | None:
        """Return :meth:`linear` as a map that works on windows of an image of spatial ``shape``, if it can."""
        found = local_map(self.operator, shape)
        if found is None:
            return None
        stages = list(found.stages)
        if self._variance is not None:
            stages.append(Multiply((self.noise_variance / self._variance.mean(dim=1, keepdim=True)).sqrt()))
        if self.mask is not None:
            if self.weights is not None:
                stages.append(Multiply(self.weights.amin(dim=1, keepdim=True).expand_as(self.y[:, :1])))
            seen, grid = self.y.shape[2:], self.mask.shape[2:]
            chains = tuple((Resize(m),) if m != n else () for m, n in zip(grid, seen, strict=True))
            stages += [Axes(chains, tuple(seen)), Multiply(self.mask)]
        return LocalMap(tuple(stages))

    @property
    def row_weights(self) -> torch.Tensor | None:
        """Weights of the pixels of :meth:`linear_target`; the mask has taken them in already."""
        return self.weights.expand_as(self.y) if self.weights is not None and self.mask is None else None

    @cached_property
    def _variance(self) -> torch.Tensor | None:
        return known_variance(self.noise, self.y)

    @cached_property
    def noise_variance(self) -> float:
        """Mean variance of the noise; 0 where it is not known."""
        return 0.0 if self._variance is None else float(self._variance.mean())

    def scores(self, prediction: torch.Tensor) -> dict[str, float]:
        """Return the numbers that stopping rules read, from ``A x``."""
        residual = prediction - self.y
        scores = {"lr_psnr": lr_psnr(residual, self.weights)}
        if self.noise is not None and self._variance is not None:
            scores["discrepancy"] = float(self.noise.discrepancy(prediction, self.y, self.weights))
        if self.held_out is not None:
            target = self.y if self.target is None else self.target
            scores["held_out"] = mean_square(prediction - target, self.held_out)
        return scores


def image_mask(mask: str | NDArray[np.floating[Any]], first: torch.Tensor) -> torch.Tensor | None:
    """Return the mask of eq. 2 that an option asks for: ``"none"``, ``"edges"`` or weights per image pixel.

    Parameters
    ----------
    mask
        The option; weights of all images of a batch, ``(*n)``, or of each, ``(N, *n)``.
    first
        The network's first output ``(N, C, *n)``.

    Raises
    ------
    ShapeError
        If the weights do not have the image's size.
    OptionError
        If they are negative or all 0.
    """
    if isinstance(mask, str):
        return edge_mask(first) if mask == "edges" else None
    weights = torch.from_numpy(mask.copy()).to(first)
    # of several images each may have its own
    each = len(first) > 1 and len(weights) == len(first) and weights.ndim == first.ndim - 1
    weights = weights[:, None] if each else weights[None, None]
    if weights.shape[2:] != first.shape[2:]:
        raise ShapeError(
            "The mask does not have the restored image's size",
            found=f"{tuple(mask.shape)} beside {tuple(first.shape[2:])}",
        )
    if float(weights.min()) < 0 or float(weights.max()) == 0:
        raise OptionError("A mask holds weights from 0 upward, not all 0")
    return weights


@dataclass(frozen=True)
class Split:
    """A measurement in two: the part to fit, and the part that is held out.

    Attributes
    ----------
    y, noise, weights
        To fit, as for :class:`DataTerm`.
    held_out, target
        As for :class:`DataTerm`; ``None`` where nothing is held out.
    """

    y: torch.Tensor
    noise: Noise | None
    weights: torch.Tensor | None
    held_out: torch.Tensor | None = None
    target: torch.Tensor | None = None

    def term(self, operator: LinearOperator, mask: torch.Tensor | None = None) -> DataTerm:
        """Return the data term of the part to fit."""
        return DataTerm(self.y, operator, self.noise, self.weights, self.held_out, mask, self.target)


def split(
    y: torch.Tensor,
    noise: Noise | None,
    weights: torch.Tensor | None,
    stop: StoppingRule,
    rng: torch.Generator,
) -> Split:
    """Return the measurement, split if the stopping rule asks for it.

    Raises
    ------
    OptionError
        If the measurement is too small for both parts, or photons are to be split without photon noise.
    """
    rule = next((part for part in stop.parts() if isinstance(part, HeldOut)), None)
    if rule is None:
        return Split(y, noise, weights)
    if rule.of == "counts":
        return _photons(y, noise, weights, rule.fraction, rng)
    seen = torch.ones_like(y[:1, :1]) if weights is None else weights
    draw = (torch.rand(y.shape[2:], generator=rng) < rule.fraction).to(y)
    held_out, fitted = seen * draw, seen * (1 - draw)
    if not bool((held_out > 0).any()) or not bool((fitted > 0).any()):
        raise OptionError(
            "The measurement is too small to hold pixels out", found=f"{tuple(y.shape)}, share {rule.fraction}"
        )
    return Split(torch.where(draw > 0, _from_neighbours(y, fitted), y), noise, fitted, held_out, y)


def _from_neighbours(y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean of the pixels around each that have a weight; what was held out must not be looked at."""
    weights = weights.expand_as(y)
    seen = _neighbours(weights)
    mean = (y * weights).sum() / weights.sum()
    return torch.where(seen > 0, _neighbours(y * weights) / seen.clamp_min(1e-6), mean)


def _neighbours(z: torch.Tensor) -> torch.Tensor:
    pool = nn.functional.avg_pool2d if z.ndim == 4 else nn.functional.avg_pool3d
    # padded first: the pooling's own padding refuses an axis shorter than its window
    return pool(nn.functional.pad(z, (1, 1) * (z.ndim - 2)), 3, 1)


def _photons(
    y: torch.Tensor, noise: Noise | None, weights: torch.Tensor | None, fraction: float, rng: torch.Generator
) -> Split:
    """Hold a share of every pixel's photons out: two Poisson variables that know nothing of each other.

    A photon is held out with probability ``fraction`` (binomial thinning); both parts are scaled to the brightness
    of the whole.
    """
    if not isinstance(noise, PoissonNoise):
        raise OptionError(
            "Photons can only be held out of a measurement with photon noise",
            found="no noise model" if noise is None else f"{noise.kind} noise",
            do="Give the noise as poisson, or hold pixels out",
        )
    counts = ((y - noise.offset) / noise.gain).round().clamp_min(0).cpu()
    held = torch.binomial(counts, torch.full_like(counts, fraction), generator=rng)
    if not bool((held > 0).any()) or not bool((counts > held).any()):
        raise OptionError("There are too few photons to hold some out", found=f"{int(counts.sum())}")
    fitted, target = (
        (part / share * noise.gain + noise.offset).to(y)
        for part, share in ((counts - held, 1 - fraction), (held, fraction))
    )
    seen = torch.ones_like(y[:1, :1]) if weights is None else weights
    return Split(fitted, noise.replace(gain=noise.gain / (1 - fraction)), weights, seen, target)


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
