"""Fourier ring correlation of a restored half of a measurement with the raw other half.

Two restored halves share what the network or the prior added, and correlate where the data hold nothing; a raw
half shares only the signal with whatever is made of the other one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune
from napari_fidelity.methods.calls import call_operator
from napari_fidelity.methods.checks import check_measurement
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.metrics.frc import FIXED, FRC, checkerboard, frc, split_counts, split_gaussian
from napari_fidelity.operators._foreign import name_of
from napari_fidelity.operators.noise import PoissonNoise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.core.step import Step
    from napari_fidelity.methods.base import LinearOperator, Method, Network
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

Split = Literal["auto", "noise", "pixels"]

# what twice the variance makes of the fields of a noise model
_DOUBLED = {"sigma": math.sqrt(2), "scale": math.sqrt(2), "gain": 2.0}


@dataclass(frozen=True, slots=True)
class RestoredFRC:
    """Two curves on the measurement's grid.

    Both are those of a half, which has twice the noise variance (or half the pixels) of the measurement.

    Attributes
    ----------
    raw
        One half of the measurement against the other.
    restored
        What the image restored from one half predicts of the measurement, against the raw other half.
    split
        How the measurement was split: ``"noise"`` or ``"pixels"``.
    image
        The image restored from the first half, ``(N, C, *n)``.
    """

    raw: FRC
    restored: FRC
    split: Literal["noise", "pixels"]
    image: torch.Tensor

    @property
    def raw_resolution(self) -> float:
        """Length where the raw curve falls below 1/7, in its unit; see :meth:`FRC.resolution`."""
        return self.raw.resolution()

    @property
    def restored_resolution(self) -> float:
        """Length where the restored curve falls below √(1/7), in its unit.

        Only one of its two images holds noise, so the signal-to-noise ratio at which two raw halves correlate with
        1/7 gives √(1/7) for a perfect restoration; a restoration that loses signal or adds what is not there stays
        below.
        """
        return self.restored.resolution(math.sqrt(FIXED))


def restored_frc(
    y: torch.Tensor,
    operator: LinearOperator,
    model: Network | None = None,
    *,
    method: Method | None = None,
    noise: Noise | None = None,
    split: Split = "auto",
    stop: StoppingRule | None = None,
    weights: torch.Tensor | None = None,
    rng: int = 0,
    pixel_size: float | Sequence[float] = 1.0,
    unit: str = "pixel",
    on_step: Callable[[Step[torch.Tensor]], str | None] | None = None,
) -> RestoredFRC:
    """Split a measurement, restore one half and correlate it with the raw other one.

    Parameters
    ----------
    y, operator, model, noise, stop, weights
        As for :meth:`Method.steps`; noise in the units of ``y``. Unobserved pixels are filled in from their
        neighbours.
    method
        What restores the half; :class:`FineTune` if left out.
    split
        ``"noise"``: noise of the same strength is added to one half and taken off the other (photon counts: each
        photon goes to one of them), which needs a noise model of known level; ``"pixels"``: every second pixel, as
        on a checkerboard, which needs none, but costs resolution unless the measurement is well sampled;
        ``"auto"`` takes the first where it can.
    rng
        Seed of the splitting and of the method.
    pixel_size, unit
        Of the measurement, as for :func:`~napari_fidelity.metrics.frc.frc`.
    on_step
        Called with each step of the method; a string it returns ends it.

    Raises
    ------
    OperatorError
        If a measurement is no picture of the image, such as a sinogram: its frequencies are not the image's.
    OptionError
        If splitting the noise is asked for and its level is unknown.
    ShapeError
        If the measurement is too small: fewer than 4 pixels along an axis, or 8 for ``"pixels"``.

    References
    ----------
    Koho et al. 2019, doi:10.1038/s41467-019-11024-z (one image, checkerboard); Leiner et al. 2023,
    doi:10.1080/01621459.2023.2270748 (noise).
    """
    from napari_fidelity.methods._start import pictures

    if not pictures(operator):
        raise OperatorError(
            "A Fourier ring correlation needs a measurement that is a picture of the image",
            found=name_of(operator),
            do="Split the data before the reconstruction, and correlate the two reconstructions",
        )
    y, weights = check_measurement(y, weights)
    known = known_variance(noise, y) is not None
    if split == "noise" and not known:
        raise OptionError(
            "Splitting the noise needs a noise model of known level", do="Give one, or split the pixels"
        )
    if noise is not None and known and split != "pixels":
        halves = _split_noise(y, weights, noise, rng)
    else:
        halves = _split_pixels(y, weights, noise)
    raw = halves.compare(halves.first, pixel_size, unit)  # refuses small images before anything is restored
    run = (method or FineTune()).steps(
        halves.first, operator, model, noise=halves.noise, stop=stop, weights=halves.weights, rng=rng
    )
    image = drain(run, on_step).image
    with torch.no_grad():
        seen = call_operator(operator, image)
    return RestoredFRC(raw, halves.compare(seen, pixel_size, unit), halves.split, image)


@dataclass(frozen=True)
class _Halves:
    """A measurement in two halves: what a method is given of the first, and where the second one is."""

    split: Literal["noise", "pixels"]
    first: torch.Tensor
    weights: torch.Tensor | None
    noise: Noise | None
    second: torch.Tensor

    def compare(self, prediction: torch.Tensor, pixel_size: float | Sequence[float], unit: str) -> FRC:
        """Return the correlation of a prediction ``(N, C, *m)`` with the raw second half."""
        dims: Literal[2, 3] = 2 if prediction.ndim == 4 else 3
        a, b = (_channel_last(image) for image in (prediction, self.second))
        if self.split == "noise":
            return frc(a, b, pixel_size=pixel_size, unit=unit, spatial_dims=dims)
        # the other colour of the checkerboard is made of plain grids of twice the pixel size
        half = [n // 2 for n in a.shape[:dims]]
        size = 2 * np.asarray(pixel_size, np.float64)
        curves = []
        for corner in itertools.product((0, 1), repeat=dims):
            if sum(corner) % 2:
                grid = tuple(slice(c, c + 2 * n, 2) for c, n in zip(corner, half, strict=True))
                curves.append(frc(a[grid], b[grid], pixel_size=size.tolist(), unit=unit, spatial_dims=dims))
        correlation = np.mean([curve.correlation for curve in curves], axis=0)
        count = np.sum([curve.count for curve in curves], axis=0)
        return replace(curves[0], correlation=correlation, count=count)


def _split_noise(y: torch.Tensor, weights: torch.Tensor | None, noise: Noise, rng: int) -> _Halves:
    from napari_fidelity.methods._start import filled

    data = y.cpu().double().numpy()
    if isinstance(noise, PoissonNoise):
        parts = split_counts(data, gain=noise.gain, offset=noise.offset, rng=rng)
    else:
        # where the variance depends on the signal, that of the data makes the halves uncorrelated on average
        parts = split_gaussian(data, noise.variance(y).expand_as(y).sqrt().cpu().numpy(), rng=rng)
    first, second = (torch.from_numpy(part).to(y) for part in parts)
    if weights is not None:
        first, second = filled(first, weights), filled(second, weights)
    fields = {name: factor * getattr(noise, name) for name, factor in _DOUBLED.items() if hasattr(noise, name)}
    return _Halves("noise", first, weights, noise.replace(**fields), second)


def _split_pixels(y: torch.Tensor, weights: torch.Tensor | None, noise: Noise | None) -> _Halves:
    from napari_fidelity.methods._start import filled

    board = torch.from_numpy(checkerboard(y.shape[2:])).to(y).expand(1, 1, *y.shape[2:])
    seen = board if weights is None else board * weights
    # what was not observed of the second half is not filled in from the first: it would share its noise
    raw = y if weights is None else torch.where(weights > 0, y, filled(y, (1 - board) * weights))
    return _Halves("pixels", _between(y, seen), seen, noise, raw)


def _between(y: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return a picture ``(N, C, *m)`` whose pixels that were not seen have the mean of their direct neighbours."""
    from napari_fidelity.methods._start import filled

    dims = y.ndim - 2
    cross = torch.zeros((1, 1, *[3] * dims), dtype=y.dtype, device=y.device)
    for axis, end in itertools.product(range(dims), (0, 2)):
        cross[(0, 0, *[end if i == axis else 1 for i in range(dims)])] = 1
    convolve = torch.nn.functional.conv2d if dims == 2 else torch.nn.functional.conv3d
    seen = seen.to(y).expand_as(y)
    sums, counts = (
        convolve(a.flatten(0, 1)[:, None], cross, padding=1).reshape(y.shape) for a in (y * seen, seen)
    )
    mean = sums / counts.clamp_min(1)
    return torch.where(seen > 0, y, torch.where(counts > 0, mean, filled(y, seen)))


def _channel_last(image: torch.Tensor) -> NDArray[Any]:
    return image.detach().flatten(0, 1).movedim(0, -1).cpu().double().numpy()
