"""Anderson acceleration of a fixed-point iteration."""

from __future__ import annotations

from collections import deque

import torch


class Anderson:
    """Extrapolates from the last iterations (Walker and Ni 2011, doi:10.1137/10078356X).

    The next iterate is the combination of the last images whose residuals ``G(x) − x``, combined alike, are the
    smallest; where that would be worse than the plain iteration has been, it starts over from there.

    Parameters
    ----------
    depth
        Number of earlier iterations that are combined.
    """

    def __init__(self, depth: int = 5) -> None:
        self._images: deque[torch.Tensor] = deque(maxlen=depth + 1)
        self._residuals: deque[torch.Tensor] = deque(maxlen=depth + 1)

    def __call__(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Return the next iterate, from one iterate and what the plain iteration makes of it."""
        residual = after - before
        if self._residuals and residual.norm() > 2 * self._residuals[-1].norm():
            self._images.clear()
            self._residuals.clear()
        self._images.append(after)
        self._residuals.append(residual)
        if len(self._residuals) == 1:
            return after
        # One least-squares problem for all images of the batch, in double precision.
        steps = torch.stack([(r - residual).flatten() for r in list(self._residuals)[:-1]]).cpu().double()
        gram = steps @ steps.T
        gram.diagonal().add_(1e-8 * float(gram.diagonal().mean()) + 1e-30)
        weights = torch.linalg.solve(gram, -(steps @ residual.flatten().cpu().double())).to(after)
        changes = torch.stack([image - after for image in list(self._images)[:-1]])
        extrapolated: torch.Tensor = after + torch.tensordot(weights, changes, dims=1)
        return extrapolated
