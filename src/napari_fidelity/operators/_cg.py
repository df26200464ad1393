"""Conjugate gradients for linear maps given as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def damped_least_squares(
    apply: Callable[[torch.Tensor], torch.Tensor],
    adjoint: Callable[[torch.Tensor], torch.Tensor],
    b: torch.Tensor,
    ridge: float,
    *,
    tolerance: float | None = None,
    max_iterations: int = 300,
) -> torch.Tensor:
    """Return ``x = (AᵀA + ridge·I)⁻¹ Aᵀ b``, each image of the batch on its own; least-norm for ``ridge = 0``.

    CGLS: conjugate gradients on the normal equations without forming them. Unlike plain conjugate gradients on
    ``A Aᵀ`` its residual ``‖A x - b‖`` (damped: the whole objective) falls in every iteration, however badly
    conditioned ``A`` is. Stops when the residual or the gradient has fallen to ``tolerance`` (float64: 1e-10,
    else 1e-6) of its first value.

    Reference: Paige and Saunders 1982, section 7.1, doi:10.1145/355984.355989.
    """
    axes = tuple(range(1, b.ndim))

    def square(u: torch.Tensor) -> torch.Tensor:
        return (u * u).sum(dim=axes, keepdim=True)

    if tolerance is None:
        tolerance = 1e-10 if b.dtype == torch.float64 else 1e-6
    tiny = torch.finfo(b.dtype).tiny
    r = b
    s = adjoint(r)
    p = s
    x = torch.zeros_like(s)
    gamma = square(s)
    small_residual, small_gradient = tolerance**2 * square(b), tolerance**2 * gamma
    for _ in range(max_iterations):
        active = (gamma > small_gradient) & (square(r) > small_residual)
        if not bool(active.any()):
            break
        q = apply(p)
        step = gamma / (square(q) + ridge * square(p)).clamp_min(tiny)
        step = torch.where(active, step, torch.zeros_like(step))
        x = x + step * p
        r = r - step * q
        s = adjoint(r) - ridge * x
        gamma_next = square(s)
        p = s + (gamma_next / gamma.clamp_min(tiny)) * p
        gamma = gamma_next
    return x
