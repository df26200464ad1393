"""Range-space projection: the least change that makes an image agree with the data."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result
from napari_fidelity.methods.apply import OneRun, network_output, only_step
from napari_fidelity.methods.calls import adjoint, dagger, generator
from napari_fidelity.methods.checks import check_measurement
from napari_fidelity.methods.scores import known_variance, mean_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

UNKNOWN_NOISE = 0.4 / 255
"""Least standard deviation on [0, 1] that the noise is taken to have where it is not known."""
_HIDDEN = 1e-3  # share of the largest eigenvalue of A Aᵀ below which a direction counts as hidden
_LEAST_SHARE = 0.02  # of all directions that must be hidden to read the noise off them


class Project(OneRun):
    """Network output plus the least correction that explains the measurement as well as its noise allows.

    ``x + Aᵀ(A Aᵀ + λ V)⁻¹(y − A x)``, where ``V`` is the noise variance relative to its mean, and ``λ`` weighs
    the noise against the network's error (:func:`ridge_for`); for ``λ = 0`` it is ``x + A†(y − A x)``. What lies
    in the null space of ``A`` stays the network's.
    """

    kind: Literal["project"] = "project"
    ridge: float | None = Field(
        None, ge=0, description="λ; left out, it follows from the noise and the residual, 0 projects all the way."
    )

    def steps(
        self,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None = None,
        *,
        noise: Noise | None = None,
        stop: StoppingRule | None = None,
        weights: torch.Tensor | None = None,
        rng: int | torch.Generator = 0,
    ) -> Steps:
        """Run the network once and project its output; yields a single step. See :meth:`Method.steps`."""
        started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        with torch.no_grad():
            x, _, tiles = network_output(self, y, operator, model)
            x = project(x, y, operator, noise=noise, weights=weights, ridge=self.ridge, rng=rng)
            residual = operator.A(x) - y
        step = only_step(x, residual, weights, started)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "projected in closed form", step.seconds, tiles)


def project(
    x: torch.Tensor,
    y: torch.Tensor,
    operator: LinearOperator,
    *,
    noise: Noise | None = None,
    weights: torch.Tensor | None = None,
    ridge: float | None = None,
    rng: int | torch.Generator = 0,
) -> torch.Tensor:
    """Return the image nearest to ``x`` that explains ``y`` as well as the noise allows.

    Parameters
    ----------
    x
        Image ``(N, C, *n)``.
    y
        Measurement ``(N, C, *m)``.
    operator
        Image formation model ``A``.
    noise
        Noise model in the units of ``y``; see :func:`ridge_for` for what happens without one.
    weights
        1 where ``y`` was observed, 0 elsewhere.
    ridge
        ``λ``; 0 projects all the way, ``None`` takes that of :func:`ridge_for`.
    rng
        For the probe that estimates the trace of ``A Aᵀ``.
    """
    if ridge is None:
        ridge = ridge_for(x, y, operator, noise=noise, weights=weights, rng=rng)
    if math.isinf(ridge):
        return x
    return proximal(x, y, operator, ridge, variance=known_variance(noise, y), weights=weights)


def proximal(
    x: torch.Tensor,
    y: torch.Tensor,
    operator: LinearOperator,
    ridge: float,
    *,
    variance: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    tolerance: float | None = None,
) -> torch.Tensor:
    """Return the minimiser over ``z`` of ``‖S (A z − y)‖² + ridge ‖z − x‖²``.

    ``S²`` is 1 over the noise variance of each pixel relative to its mean, 0 where nothing was observed. In closed
    form where the operator has one and ``S`` is constant, else by conjugate gradients.

    Parameters
    ----------
    x, y, operator, weights
        As for :func:`project`.
    ridge
        Weight of the distance to ``x``, zero or positive.
    variance
        Noise variance of each pixel of ``y``; ``None`` for the same everywhere.
    tolerance
        Relative accuracy of conjugate gradients, where they are needed.
    """
    r = y - operator.A(x)
    if weights is None and (variance is None or ridge == 0 or _is_constant(variance)):
        return x + dagger(operator, r, x.shape[2:], ridge, tolerance)
    return x + _weighted_dagger(operator, r, x.shape[2:], ridge, variance, weights, tolerance)


def ridge_for(
    x: torch.Tensor,
    y: torch.Tensor,
    operator: LinearOperator,
    *,
    noise: Noise | None = None,
    weights: torch.Tensor | None = None,
    sigma2: float | None = None,
    before_fit: float | None = None,
    rng: int | torch.Generator = 0,
) -> float:
    """Return ``λ = σ²/τ²``, the noise's variance over that of the network's error ``x − x_true``.

    ``τ²`` is what the residual has beyond the noise: ``E‖y − A x‖² = τ² tr(A Aᵀ) + n σ²`` for a white error.
    Infinite, so that a projection changes nothing, if the residual is no larger than the noise. ``σ²`` is that of
    :func:`assumed_variance` unless it is given.

    The residual of an image that was fitted to ``y`` understates its error, and that of the image before the fit
    (``before_fit``, its ``λ``) overstates it: then the geometric mean of both is returned.
    """
    r = y - operator.A(x)
    seen = torch.ones_like(r) if weights is None else (weights > 0).to(r).expand_as(r)
    if sigma2 is None:
        sigma2 = assumed_variance(y, operator, x.shape[2:], noise=noise, weights=weights, rng=rng)
    probe = _signs(r, rng)
    trace = float(adjoint(operator, probe * seen, x.shape[2:]).square().sum() / seen.sum())
    excess = mean_square(r, seen) - sigma2
    ridge = sigma2 * trace / excess if excess > 0 else math.inf
    return ridge if before_fit is None else math.sqrt(ridge * before_fit)


def assumed_variance(
    y: torch.Tensor,
    operator: LinearOperator,
    image_shape: Sequence[int],
    *,
    noise: Noise | None = None,
    weights: torch.Tensor | None = None,
    rng: int | torch.Generator = 0,
) -> float:
    """Return the noise's mean variance: the known one, or else what the measurement itself shows of it.

    What ``A`` hardly lets through shows in the measurement as noise alone. With ``W = ε(A Aᵀ + εI)⁻¹``, which
    keeps just those directions, ``‖W y‖² / tr W²`` is the variance there. Where ``A`` has none (downsampling
    without blur), or if they show less, it is taken as that of two roundings to 8 bit: without any, the inverse of
    a blur would blow up the rounding.
    """
    variance = known_variance(noise, y)
    if variance is not None:
        return mean_square(variance.sqrt(), weights)
    if weights is not None:
        return UNKNOWN_NOISE**2
    constant = torch.ones_like(y[:1])
    largest = float(adjoint(operator, constant, image_shape).square().sum() / constant.sum())

    def hidden(z: torch.Tensor) -> torch.Tensor:
        return z - operator.A(dagger(operator, z, image_shape, _HIDDEN * largest))

    share = float(hidden(_signs(y, rng)).square().mean())
    if share < _LEAST_SHARE:
        return UNKNOWN_NOISE**2
    return max(UNKNOWN_NOISE**2, float(hidden(y).square().mean()) / share)


def _signs(like: torch.Tensor, rng: int | torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, like.shape, generator=generator(rng)).to(like) * 2 - 1


def _is_constant(variance: torch.Tensor) -> bool:
    return bool(variance.min() == variance.max())


def _weighted_dagger(
    operator: LinearOperator,
    r: torch.Tensor,
    shape: torch.Size,
    ridge: float,
    variance: torch.Tensor | None,
    weights: torch.Tensor | None,
    tolerance: float | None,
) -> torch.Tensor:
    """Return the ``d`` that minimises ``‖S (A d − r)‖² + ridge ‖d‖²``, ``S`` scaling by weight and noise."""
    from napari_fidelity.operators._cg import damped_least_squares

    seen = torch.ones_like(r) if weights is None else (weights > 0).to(r).expand_as(r)
    if variance is not None:
        seen = seen * (variance.mean() / variance).sqrt()
    return damped_least_squares(
        lambda d: seen * operator.A(d),
        lambda z: adjoint(operator, seen * z, shape),
        seen * r,
        ridge,
        tolerance=tolerance,
    )
