"""Conjugate gradients for symmetric positive (semi-)definite maps given as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def conjugate_gradient(
    apply: Callable[[torch.Tensor], torch.Tensor],
    b: torch.Tensor,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> torch.Tensor:
    """Solve ``apply(x) = b``, each image of the batch on its own.

    Stops when every residual has fallen to ``tolerance`` times its right-hand side; on a singular map it
    converges to the least-norm solution for a right-hand side in the range.

    Reference: Hestenes and Stiefel 1952, doi:10.6028/jres.049.044.
    """
    axes = tuple(range(1, b.ndim))

    def dot(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (u * v).sum(dim=axes, keepdim=True)

    x = torch.zeros_like(b)
    r = b.clone()
    p = r.clone()
    rho = dot(r, r)
    target = tolerance**2 * rho
    tiny = torch.finfo(b.dtype).tiny
    for _ in range(max_iterations):
        if bool((rho <= target).all()):
            break
        q = apply(p)
        alpha = rho / dot(p, q).clamp_min(tiny)
        alpha = torch.where(rho > target, alpha, torch.zeros_like(alpha))
        x = x + alpha * p
        r = r - alpha * q
        rho_next = dot(r, r)
        p = r + (rho_next / rho.clamp_min(tiny)) * p
        rho = rho_next
    return x
