"""Noise models: what the measurement is given its noise-free prediction ``p = A x``.

All options are in the intensity units of the measurement; :meth:`Noise.rescale` gives the model of the tensor
the network sees. ``nll`` is the negative log-likelihood per pixel up to a constant that depends on the data
alone, differentiable and finite for every prediction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options
from napari_fidelity.operators._stabilise import Anscombe

if TYPE_CHECKING:
    from torch import Generator, Tensor

FEWEST_COUNTS = 0.1
"""Expected count below which the Poisson likelihood is continued by its quadratic expansion."""


class Noise(Options, ABC):
    """A noise model with independent pixels."""

    kind: str

    @abstractmethod
    def nll(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of ``y`` for each pixel, up to a constant; shape of ``y``."""

    @abstractmethod
    def variance(self, prediction: Tensor) -> Tensor:
        """Return the variance of each pixel of the measurement; 0 where the level is unknown."""

    def surrogate_variance(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return the variance of the Gaussian whose likelihood stands in for this one around a prediction.

        Weighted least squares with it, repeated from the new prediction, end where the likelihood has its maximum
        (Fisher scoring). By default :meth:`variance`.
        """
        return self.variance(prediction)

    def stabilised(self) -> Anscombe | None:
        """Return the map to a scale on which the noise has the variance 1; ``None`` if it is even already."""
        return None

    @abstractmethod
    def sample(self, clean: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw a measurement of the noise-free ``clean``; the generator lives on the device of ``clean``."""

    @abstractmethod
    def rescale(self, offset: float, gain: float) -> Self:
        """Return the noise model of ``t = (y - offset) / gain``, ``gain > 0``."""

    def to_deepinv(self) -> Any:
        """Return the noise model of the library deepinv with this variance, as far as it has one."""
        from napari_fidelity.operators._deepinv import noise_of

        return noise_of(self)

    def discrepancy(self, prediction: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean of ``(prediction - y)² / variance``: 1 when the residual is nothing but noise.

        Parameters
        ----------
        prediction, y
            ``A x`` and the measurement, of one shape.
        weights
            Weights of the pixels, broadcast to that shape; 0 leaves a pixel out.

        Raises
        ------
        OptionError
            If the noise level is unknown (Gaussian with ``sigma = 0``).
        """
        variance = self.variance(prediction)
        if not bool((variance > 0).all()):
            raise OptionError("The discrepancy needs a noise level", found=f"{self.kind} noise of level 0")
        ratio = (prediction - y).square() / variance
        if weights is None:
            return ratio.mean()
        weights = weights.expand_as(ratio)
        return (weights * ratio).sum() / weights.sum()


class GaussianNoise(Noise):
    """Additive Gaussian noise of one level; ``nll = (p - y)² / 2σ²``.

    ``sigma = 0`` stands for none or an unknown level: ``nll`` is then the squared error ``(p - y)²``, and there is
    no discrepancy.
    """

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(
        0.0, ge=0, description="Standard deviation; 0 = none or unknown.", json_schema_extra={"unit": "intensity"}
    )

    def nll(self, prediction: Tensor, y: Tensor) -> Tensor:  # noqa: D102 - inherited
        error = (prediction - y).square()
        return error / (2 * self.sigma**2) if self.sigma > 0 else error

    def variance(self, prediction: Tensor) -> Tensor:  # noqa: D102 - inherited
        return torch.full_like(prediction, self.sigma**2)

    def sample(self, clean: Tensor, generator: Generator | None = None) -> Tensor:  # noqa: D102 - inherited
        return clean + self.sigma * _normal(clean, generator)

    def rescale(self, offset: float, gain: float) -> Self:  # noqa: D102 - inherited
        return self.replace(sigma=self.sigma / gain)


class LaplaceNoise(Noise):
    """Additive Laplace noise, for outliers and compression; ``nll = |p - y| / b``, variance ``2b²``."""

    kind: Literal["laplace"] = "laplace"
    scale: float = Field(gt=0, description="Mean absolute deviation b.", json_schema_extra={"unit": "intensity"})

    def nll(self, prediction: Tensor, y: Tensor) -> Tensor:  # noqa: D102 - inherited
        return (prediction - y).abs() / self.scale

    def variance(self, prediction: Tensor) -> Tensor:  # noqa: D102 - inherited
        return torch.full_like(prediction, 2 * self.scale**2)

    def surrogate_variance(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return ``b |p - y|``: the parabola that touches ``|p - y| / b`` from above (iteratively reweighted)."""
        return self.scale * (prediction - y).abs().clamp_min(0.01 * self.scale)

    def sample(self, clean: Tensor, generator: Generator | None = None) -> Tensor:  # noqa: D102 - inherited
        u = torch.rand(clean.shape, dtype=clean.dtype, device=clean.device, generator=generator) - 0.5
        # the inverse distribution function; |u| = ½ would give infinity
        tail = (1 - 2 * u.abs()).clamp_min(torch.finfo(clean.dtype).tiny)
        return clean - self.scale * u.sign() * tail.log()

    def rescale(self, offset: float, gain: float) -> Self:  # noqa: D102 - inherited
        return self.replace(scale=self.scale / gain)


class PoissonNoise(Noise):
    """Photon noise: ``y = gain · Poisson((p - offset) / gain) + offset``, variance ``gain · (p - offset)``.

    With expected counts ``s = (p - offset) / gain`` and counts ``k``, ``nll = s - k log s`` plus what makes it
    zero at ``s = k``. Below ``s =`` :data:`FEWEST_COUNTS` it is continued by its quadratic expansion there, with
    the same value and slope (where ``k = 0`` it is linear anyway); counts below 0 are read as 0.
    """

    kind: Literal["poisson"] = "poisson"
    gain: float = Field(
        1.0, gt=0, description="Intensity units per photon.", json_schema_extra={"unit": "intensity"}
    )
    offset: float = Field(
        0.0, description="Intensity without light (camera offset).", json_schema_extra={"unit": "intensity"}
    )

    def nll(self, prediction: Tensor, y: Tensor) -> Tensor:  # noqa: D102 - inherited
        return _poisson_nll((prediction - self.offset) / self.gain, (y - self.offset) / self.gain)

    def variance(self, prediction: Tensor) -> Tensor:
        """Return ``gain · (p - offset)``, at least that of :data:`FEWEST_COUNTS`."""
        return self.gain**2 * ((prediction - self.offset) / self.gain).clamp_min(FEWEST_COUNTS)

    def stabilised(self) -> Anscombe:  # noqa: D102 - inherited
        return Anscombe(self.gain, self.offset)

    def sample(self, clean: Tensor, generator: Generator | None = None) -> Tensor:  # noqa: D102 - inherited
        counts = ((clean - self.offset) / self.gain).clamp_min(0)
        return self.gain * torch.poisson(counts, generator=generator) + self.offset

    def rescale(self, offset: float, gain: float) -> Self:  # noqa: D102 - inherited
        return self.replace(gain=self.gain / gain, offset=(self.offset - offset) / gain)


class PoissonGaussianNoise(Noise):
    """Photon noise and read noise: a camera. Variance ``gain · (p - offset) + sigma²``.

    The likelihood is that of a shifted Poisson variable, ``k + (sigma / gain)²``, which has the right mean and
    variance, is convex in the prediction and exact for ``sigma = 0``; continued below
    :data:`FEWEST_COUNTS` like :class:`PoissonNoise`.

    References
    ----------
    Snyder, Helstrom, Lanterman, Faisal and White 1995, Compensation for readout noise in CCD images,
    doi:10.1364/JOSAA.12.000272.
    """

    kind: Literal["poisson_gaussian"] = "poisson_gaussian"
    gain: float = Field(
        1.0, gt=0, description="Intensity units per photon.", json_schema_extra={"unit": "intensity"}
    )
    offset: float = Field(
        0.0, description="Intensity without light (camera offset).", json_schema_extra={"unit": "intensity"}
    )
    sigma: float = Field(
        1.0, ge=0, description="Standard deviation of the read noise.", json_schema_extra={"unit": "intensity"}
    )

    def nll(self, prediction: Tensor, y: Tensor) -> Tensor:  # noqa: D102 - inherited
        shift = (self.sigma / self.gain) ** 2
        return _poisson_nll((prediction - self.offset) / self.gain + shift, (y - self.offset) / self.gain + shift)

    def variance(self, prediction: Tensor) -> Tensor:
        """Return ``gain · (p - offset) + sigma²``, at least that of :data:`FEWEST_COUNTS`."""
        counts = (prediction - self.offset) / self.gain
        return self.gain**2 * (counts.clamp_min(0) + (self.sigma / self.gain) ** 2).clamp_min(FEWEST_COUNTS)

    def stabilised(self) -> Anscombe:  # noqa: D102 - inherited
        return Anscombe(self.gain, self.offset, self.sigma)

    def sample(self, clean: Tensor, generator: Generator | None = None) -> Tensor:  # noqa: D102 - inherited
        photons = PoissonNoise(gain=self.gain, offset=self.offset).sample(clean, generator)
        return photons + self.sigma * _normal(clean, generator)

    def rescale(self, offset: float, gain: float) -> Self:  # noqa: D102 - inherited
        return self.replace(gain=self.gain / gain, offset=(self.offset - offset) / gain, sigma=self.sigma / gain)


# The list of noise models: a new one is added here.
_Noises = GaussianNoise | PoissonNoise | PoissonGaussianNoise | LaplaceNoise

AnyNoise = Annotated[_Noises, Field(discriminator="kind")]
"""Any noise model as a field of options, told apart by ``kind``."""

NOISES: tuple[type[Noise], ...] = get_args(_Noises)
"""Every noise model."""


def _poisson_nll(expected: Tensor, counts: Tensor) -> Tensor:
    counts = counts.clamp_min(0)
    inside = expected.clamp_min(FEWEST_COUNTS)
    below = expected - inside  # 0 in the regular range
    log = torch.log(inside)
    regular = inside - counts * log + torch.xlogy(counts, counts) - counts
    slope, curvature = 1 - counts / FEWEST_COUNTS, counts / FEWEST_COUNTS**2
    return regular + below * (slope + 0.5 * curvature * below)


def _normal(like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
