"""Range-space projection: the least change that makes an image agree with the data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods.base import (
    Method,
    adjoint,
    check_fit,
    check_measurement,
    dagger,
    generator,
)
from napari_fidelity.methods.scores import lr_psnr, mean_square

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


class Project(Method):
    """Network output plus the least-norm correction that explains the measurement.

    Without noise ``x + A†(y − A x)``; with noise ``x + Aᵀ(A Aᵀ + λ V)⁻¹(y − A x)``, where ``V`` is the noise
    variance relative to its mean and ``λ = σ²/τ²`` weighs the noise against the network's error ``τ²``, both
    read off the residual. What lies in the null space of ``A`` stays the network's.
    """

    kind: Literal["project"] = "project"
    ridge: float | None = Field(
        None, ge=0, description="λ; left out, it follows from the noise model (0 without noise)."
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
        if model is None:
            raise OptionError("Projection needs a restoration network", do="Give a model")
        check_measurement(y, weights)
        with torch.no_grad():
            x = model(y).float()
            check_fit(operator, x, y)
            x = project(x, y, operator, noise=noise, weights=weights, ridge=self.ridge, rng=rng)
            residual = operator.A(x) - y
        loss = float(residual.square().mean())
        scores = {"lr_psnr": lr_psnr(residual, weights)}
        step = Step(0, 1, loss, scores, lambda: x, time.perf_counter() - started)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "projected in closed form", step.seconds)


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
        Noise model in the units of ``y``; ``None`` or zero strength projects all the way.
    weights
        1 where ``y`` was observed, 0 elsewhere.
    ridge
        ``λ``; ``None`` derives it from the noise and the residual.
    rng
        For the probe that estimates the trace of ``A Aᵀ``.
    """
    from napari_fidelity.methods.data_term import known_variance

    shape = x.shape[2:]
    r = y - operator.A(x)
    variance = known_variance(noise, y)
    if ridge is None:
        ridge = _ridge(r, variance, operator, shape, weights, generator(rng))
    if ridge == float("inf"):
        return x
    if weights is None and (variance is None or ridge == 0 or _is_constant(variance)):
        return x + dagger(operator, r, shape, ridge)
    return x + _weighted_dagger(operator, r, shape, ridge, variance, weights)


def _ridge(
    r: torch.Tensor,
    variance: torch.Tensor | None,
    operator: LinearOperator,
    shape: torch.Size,
    weights: torch.Tensor | None,
    rng: torch.Generator,
) -> float:
    """Return ``λ = σ²/τ²``; the network's variance ``τ²`` is what the residual has beyond the noise.

    ``E‖r‖² = τ² tr(A Aᵀ) + n σ²`` for an error of the network that is white with variance ``τ²``.
    """
    if variance is None:
        return 0.0
    seen = torch.ones_like(r) if weights is None else (weights > 0).to(r).expand_as(r)
    sigma2 = float((variance * seen).sum() / seen.sum())
    probe = torch.randint(0, 2, r.shape, generator=rng).to(r) * 2 - 1
    trace = float(adjoint(operator, probe * seen, shape).square().sum() / seen.sum())
    excess = mean_square(r, seen) - sigma2
    return sigma2 * trace / excess if excess > 0 else float("inf")


def _is_constant(variance: torch.Tensor) -> bool:
    return bool(variance.min() == variance.max())


def _weighted_dagger(
    operator: LinearOperator,
    r: torch.Tensor,
    shape: torch.Size,
    ridge: float,
    variance: torch.Tensor | None,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return the ``d`` that minimises ``‖S (A d − r)‖² + ridge ‖d‖²``, ``S`` scaling by weight and noise."""
    from napari_fidelity.operators._cg import damped_least_squares

    seen = torch.ones_like(r) if weights is None else (weights > 0).to(r).expand_as(r)
    if variance is not None:
        seen = seen * (variance.mean() / variance).sqrt()
    return damped_least_squares(
        lambda d: seen * operator.A(d), lambda z: adjoint(operator, seen * z, shape), seen * r, ridge
    )
