"""Whether an image is like those that a calibration was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.noise import Noise

STATISTICS = {
    "residual_to_noise": "residual over noise",
    "noise_to_contrast": "noise over contrast",
    "std_to_contrast": "standard deviation over contrast",
    "slope": "slope of the power spectrum",
}
"""Numbers about a restored image by which it is compared with the calibration images; none has a unit."""

UNLIKELY = 0.01
"""Probability of a deviation from the calibration images below which nothing is guaranteed."""

_FEWEST = 3  # images from which a deviation can be told
_LEAST_SPREAD = 0.05  # relative: calibration images are not taken to be more alike than that
_LINEAR = {"slope"}  # the others are ratios, of which the logarithm is looked at
_BAND = (0.05, 0.45)  # cycles per pixel, in which the slope of the spectrum is taken
_TINY = 1e-12


@dataclass(frozen=True)
class Shift:
    """How far an image lies from those of a calibration.

    Attributes
    ----------
    p_value
        How probable so large a deviation is for an image like them; NaN where there are too few to tell.
    words
        What deviates most, and how.
    """

    p_value: float
    words: str

    @property
    def tested(self) -> bool:
        """Whether it could be told how likely the image is."""
        return not math.isnan(self.p_value)

    @property
    def void(self) -> bool:
        """Whether the image is so different that nothing can be guaranteed."""
        return self.p_value < UNLIKELY


@dataclass(frozen=True)
class Verdict:
    """Whether the coverage of intervals is guaranteed, and why or why not."""

    holds: bool
    words: str
    shift: Shift


def compare(usual: Mapping[str, Sequence[float]], found: Mapping[str, float]) -> Shift:
    """Compare a new image with others.

    Each statistic (of ratios: its logarithm) is taken as normally distributed with the mean and spread of the
    others, so that a new one follows a t-distribution with ``n − 1`` degrees of freedom; the least p-value times
    the number of statistics is returned (Bonferroni).

    Parameters
    ----------
    usual
        For each statistic the numbers of the others.
    found
        Those of the new image; statistics that are not among ``usual``, or not finite, are ignored.
    """
    known = [name for name in usual if name in found and np.isfinite([found[name], *usual[name]]).all()]
    if not known:
        return Shift(math.nan, "nothing is known by which the image could be compared")
    if len(usual[known[0]]) < _FEWEST:
        return Shift(math.nan, f"at least {_FEWEST} calibration images are needed to tell whether it is like them")
    p_values = {name: _p_value(name, usual[name], found[name]) for name in known}
    worst = min(p_values, key=p_values.__getitem__)
    middle = float(np.median(usual[worst]))
    words = f"{STATISTICS.get(worst, worst)} is {found[worst]:.3g}, {middle:.3g} in the calibration images"
    return Shift(min(1.0, len(known) * p_values[worst]), words)


def _p_value(name: str, usual: Sequence[float], found: float) -> float:
    """Return how probable so large a deviation of one statistic is."""
    from scipy.stats import t

    numbers = np.array([*usual, found])
    if name not in _LINEAR:
        numbers = np.log(np.maximum(numbers, _TINY))
    known, new = numbers[:-1], numbers[-1]
    least = _LEAST_SPREAD * (max(1.0, abs(float(known.mean()))) if name in _LINEAR else 1.0)
    spread = max(float(known.std(ddof=1)), least) * math.sqrt(1 + 1 / len(known))
    return float(2 * t.sf(abs(new - known.mean()) / spread, len(known) - 1))


def statistics_of(
    x: torch.Tensor,
    y: torch.Tensor,
    operator: LinearOperator,
    *,
    noise: Noise | None = None,
    weights: torch.Tensor | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return the statistics of a result, but for that of its map (:func:`with_std`).

    Parameters
    ----------
    x
        The result ``(N, C, *n)``.
    y, operator, noise, weights
        As for :meth:`napari_fidelity.methods.Method.steps`. The noise's level is estimated where it is not known.
    seed
        Of the probes for that.
    """
    from napari_fidelity.methods._start import is_picture, noise_variance
    from napari_fidelity.methods.calls import call_operator
    from napari_fidelity.methods.scores import mean_square

    picture = weights is None and is_picture(operator, y, x.shape)
    sigma = math.sqrt(noise_variance(y, operator, x.shape[2:], noise, weights, seed, picture=picture))
    left = math.sqrt(mean_square(call_operator(operator, x) - y, weights))
    seen = y if weights is None else y[weights.expand_as(y) > 0]
    contrast = max(float(seen.std(correction=0)), _TINY)
    return {
        "residual_to_noise": left / sigma,
        "noise_to_contrast": sigma / contrast,
        "slope": spectral_slope(x),
    }


def with_std(statistics: Mapping[str, float], x: torch.Tensor, std: torch.Tensor) -> dict[str, float]:
    """Return the statistics of a result ``x`` with that of its standard deviation map, of the same shape."""
    contrast = max(float(x.std(correction=0)), _TINY)
    return {**statistics, "std_to_contrast": float(std.square().mean().sqrt()) / contrast}


def spectral_slope(x: torch.Tensor) -> float:
    """Return the exponent ``a`` of an image's power spectrum ``1 / f^a``: 0 for white noise, 2 … 3 for scenes.

    Parameters
    ----------
    x
        ``(N, C, *n)``. All axes but the last two are averaged over; 0 where there are too few pixels to tell.
    """
    planes = x.detach().float().reshape(-1, *x.shape[-2:])
    window = [torch.hann_window(n, periodic=False).to(planes) for n in planes.shape[1:]]
    centred = (planes - planes.mean(dim=(1, 2), keepdim=True)) * window[0][:, None] * window[1]
    power = torch.fft.rfft2(centred).abs().square().mean(dim=0).cpu().numpy().astype(np.float64)
    rows, columns = np.fft.fftfreq(x.shape[-2]), np.fft.rfftfreq(x.shape[-1])
    frequency = np.hypot(rows[:, None], columns)
    inside = (frequency > _BAND[0]) & (frequency < _BAND[1]) & (power > 0)
    if inside.sum() < 3:
        return 0.0
    logs = np.log(frequency[inside]), np.log(power[inside])
    return -float(np.polyfit(*logs, 1)[0])
