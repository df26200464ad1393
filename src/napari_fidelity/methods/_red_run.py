"""The run behind :class:`napari_fidelity.methods.RED`."""

from __future__ import annotations

import math
import time
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from napari_fidelity.methods._anderson import Anderson
from napari_fidelity.methods._denoising import Denoising
from napari_fidelity.methods._iteration import Iterate, iterate
from napari_fidelity.methods._start import (
    believed,
    found_noise,
    image_shape,
    image_sigma,
    is_picture,
    largest_eigenvalue,
    noise_variance,
    pictures,
    starting_image,
)
from napari_fidelity.methods.calls import adjoint, generator
from napari_fidelity.methods.checks import check_fit, check_measurement
from napari_fidelity.methods.data_term import split
from napari_fidelity.methods.projection import assumed_variance, proximal, ridge_for
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.methods.views import VIEWS, from_view, to_view

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.methods.red import RED
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

LEAST_SIGMA = 4 / 255
"""Noise level a denoiser is told where the noise is weaker or unknown; a quarter in tomography and the like."""
_SHARE = 0.4  # of the noise in the directions that tomography and the like measure best
_TOLERANCE = 1e-3  # of each proximal step that conjugate gradients solve


class Run:
    """One reconstruction of one measurement."""

    def __init__(
        self,
        options: RED,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None,
        *,
        noise: Noise | None,
        stop: StoppingRule | None,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        self.options, self.operator, self.model = options, operator, model
        self.stop, rng = stop or options.default_stop(), generator(rng)
        self.seed = rng.initial_seed()
        self.shape = image_shape(y, operator)
        picture = weights is None and is_picture(operator, y, self.shape)
        self.stated = known_variance(noise, y) is not None
        if picture and not self.stated:
            noise = found_noise(y)
        elif not picture:
            noise = believed(noise, y, operator, self.shape[2:], weights, self.seed)
        # what is held out says as much of an unknown noise as the rest
        sigma2 = noise_variance(y, operator, self.shape[2:], noise, weights, self.seed, picture=picture)
        self.term = split(y, noise, weights, self.stop, rng).term(operator)
        self.y, noise, weights = self.term.y, self.term.noise, self.term.weights
        self.noise = noise if known_variance(noise, self.y) is not None else None
        self.x = starting_image(options.start, self.y, operator, noise=noise, weights=weights)
        check_fit(operator, self.x, self.y)
        self.sigma2 = (
            sigma2
            if self.noise is None
            else assumed_variance(self.y, operator, self.shape[2:], noise=noise, weights=weights)
        )
        self.sigma_f = options.sigma_f or self._last_level()
        self.falls = options.sigma_start > self.sigma_f
        self.plain = picture and not options.states_iteration
        self.views = options.views if y.ndim == 4 else 1
        self.anderson = Anderson() if options.acceleration == "anderson" else None
        self.u = torch.zeros_like(self.x)  # the multiplier of ADMM
        self.denoised = self.x

    def _last_level(self) -> float:
        """Return the noise level that the denoiser is told in the end."""
        level = image_sigma(math.sqrt(self.sigma2), self.operator, self.x)
        if pictures(self.operator):
            return max(level, LEAST_SIGMA)
        return max(_SHARE * level, LEAST_SIGMA / 4)

    # -- the iteration ----------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Yield one step per iteration; return the result."""
        if self.plain:
            return Denoising(self).steps()
        options = self.options
        last = options.iterations - 1
        if options.iteration is not None:
            last = min(options.iteration, last)
        return iterate(
            options,
            self.stop,
            self._advance,
            started=self.started,
            last=last,
            weight=self._weight,
            finish=self._projected if options.project else None,
        )

    @torch.no_grad()
    def _projected(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image changed as little as it has to be to explain the measurement to within its noise."""
        weights, noise = self.term.weights, self.noise
        ridge = ridge_for(
            x, self.y, self.operator, noise=noise, weights=weights, sigma2=self.sigma2, rng=self.seed
        )
        if math.isinf(ridge):
            return x
        variance = None
        if noise is not None:
            variance = noise.surrogate_variance(self.operator.A(x), self.y).expand_as(self.y)
        return proximal(x, self.y, self.operator, ridge, variance=variance, weights=weights, tolerance=_TOLERANCE)

    def _weight(self, count: int) -> float:
        """Return the newest image's weight: the last round of views is averaged where the level falls."""
        averaged = min(self.views, max(1, self.options.iterations // 2))
        return 1 / max(1, count - (self.options.iterations - averaged)) if self.falls else 1.0

    @torch.no_grad()
    def _advance(self, index: int) -> Iterate:
        sigma, fixed = self._sigma(index)
        before = self.x
        after = self._solve(before, sigma, index)
        self.x = self.anderson(before, after) if self.anderson is not None and fixed else after
        image = self.denoised if self.options.output == "denoised" else self.x
        prediction = self.operator.A(image)
        return Iterate(
            self._loss(prediction, sigma),
            image,
            lambda estimate: self.term.scores(prediction if estimate is image else self.operator.A(estimate)),
            settles=fixed,
        )

    def _sigma(self, index: int) -> tuple[float, bool]:
        """Return the noise level for the denoiser, and whether it stays the same from now on."""
        options = self.options
        first = options.sigma_start
        if not self.falls or options.iterations == 1:
            return self.sigma_f, True
        share = index / (options.iterations - 1)
        return first * (self.sigma_f / first) ** share, False

    def _denoise(self, x: torch.Tensor, sigma: float, index: int) -> torch.Tensor:
        self._noisy = x
        view = VIEWS[index % self.views]
        return from_view(self.options.denoiser.denoise(to_view(x, view), sigma, self.model), view)

    def _solve(self, x: torch.Tensor, sigma: float, index: int) -> torch.Tensor:
        """Return the next ``x``."""
        weight = self.options.strength / sigma**2  # λ
        if self.options.solver == "fixed_point":
            if self.options.output == "denoised":
                # around the denoised image, from which outliers stick out
                x = self._nearest(self.denoised, self.denoised, weight)
            self.denoised = self._denoise(x, sigma, index)
            return x if self.options.output == "denoised" else self._nearest(x, self.denoised, weight)
        if self.options.solver == "admm":
            return self._admm(x, sigma, weight, index)
        self.denoised = self._denoise(x, sigma, index)
        gradient = self._data_gradient(x) + weight * (x - self.denoised)
        return x - 2 / (self._lipschitz + weight) * gradient

    def _admm(self, v: torch.Tensor, sigma: float, weight: float, index: int) -> torch.Tensor:
        """Return the next ``v``: one round of ADMM with penalty β = λ and one inner fixed-point iteration."""
        x = self._nearest(v, v - self.u, weight)
        self.denoised = self._denoise(v, sigma, index)
        v = (self.denoised + x + self.u) / 2
        self.u = self.u + x - v
        return v

    def _nearest(self, x: torch.Tensor, z: torch.Tensor, weight: float) -> torch.Tensor:
        """Return the minimiser of ``D(A x, y) + λ/2 ‖x − z‖²``, for other than Gaussian noise around ``x``."""
        variance = None
        if self.noise is not None:
            variance = self.noise.surrogate_variance(self.operator.A(x), self.y).expand_as(self.y)
        mean = self.sigma2 if variance is None else float(variance.mean())
        return proximal(
            z,
            self.y,
            self.operator,
            weight * mean,
            variance=variance,
            weights=self.term.weights,
            tolerance=_TOLERANCE,
        )

    def _data_gradient(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.operator.A(x) - self.y
        if self.noise is None:
            slope = residual / self.sigma2
        else:
            slope = residual / self.noise.surrogate_variance(residual + self.y, self.y)
        if self.term.weights is not None:
            slope = slope * self.term.weights
        return adjoint(self.operator, slope, self.shape[2:])

    @cached_property
    def _lipschitz(self) -> float:
        """Largest curvature of the data term, by power iteration."""
        least = self.sigma2
        if self.noise is not None:
            least = float(self.noise.surrogate_variance(self.y, self.y).min())
        return 1.05 * largest_eigenvalue(self.operator, self.x) / least

    def _loss(self, prediction: torch.Tensor, sigma: float) -> float:
        """Return the objective per pixel, in squared intensity like the data term."""
        x, y = self._noisy, self.y
        prior = self.options.strength / sigma**2 * self.sigma2 * float((x * (x - self.denoised)).sum())
        weights = self.term.weights
        return float(self.term.misfit(prediction)) + prior / float(
            y.numel() if weights is None else weights.expand_as(y).sum()
        )
