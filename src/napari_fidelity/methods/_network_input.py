"""What the network is shown: the measurement, or what it was trained to see in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_fidelity.core.errors import OperatorError
from napari_fidelity.methods.calls import call_operator, trained_part
from napari_fidelity.methods.projection import project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.operators.base import Operator

_ROUNDS = 2  # of projecting and downsampling; one leaves 0.3 dB, a third sharpens the noise
_SMALLEST_COPY = 8  # pixels of the coarser copy along an axis below which it says nothing


@dataclass(frozen=True)
class NetworkInput:
    """Makes the network's input from a measurement, and a second, coarser example of both.

    A super-resolution network is trained for downsampling alone. Where the image formation model has a blur
    before that, the network is shown the downsampled version of its own output, projected onto the data.

    Attributes
    ----------
    operator
        The image formation model.
    run
        The network, from an input to an image.
    projection
        Arguments of :func:`project` beside image, measurement and operator.
    sigma2
        Variance of the measurement's noise, known or assumed.
    seed
        For the noise of the coarser example.
    as_trained
        Whether to show what the network was trained for, or always the measurement.
    """

    operator: LinearOperator
    run: Callable[[torch.Tensor], torch.Tensor]
    projection: Mapping[str, Any]
    sigma2: float
    seed: int
    as_trained: bool

    @property
    def plain(self) -> Operator | None:
        """The downsampling that the network was trained for, where the model has something before it."""
        return trained_part(self.operator) if self.as_trained else None

    @torch.no_grad()
    def show(self, y: torch.Tensor, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the network is shown of ``y``, and its output for that; ``first`` is that for ``y``."""
        shown = y
        if self.plain is not None:
            for _ in range(_ROUNDS):
                shown = self.plain.A(project(first, y, self.operator, **self.projection))
                first = self.run(shown)
        return shown, first

    @torch.no_grad()
    def coarser(self, shown: torch.Tensor, fine: torch.Size) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return ``(A y, y)``, a pair of which the network should make the second from the first.

        The first goes through the same stages as what is shown of the measurement, noise included. ``None`` where
        there is no such pair: the operator does not coarsen or fits this image size alone, or the network's
        output would not have the right size.

        Parameters
        ----------
        shown
            What the network is shown of the measurement, here taken as an image, ``(N, C, *m)``.
        fine
            Spatial shape of the restored image.
        """
        coarse = shown.shape[2:]
        if fine == coarse:
            return None
        factors = [round(n / m) for n, m in zip(fine, coarse, strict=True)]
        sizes = [m // f for m, f in zip(coarse, factors, strict=True)]
        if min(sizes) < _SMALLEST_COPY:
            return None
        target = shown[..., : sizes[0] * factors[0], : sizes[1] * factors[1]].contiguous()
        try:
            small = call_operator(self.operator, target)
        except OperatorError:
            return None
        if list(small.shape[2:]) != sizes:
            return None
        if self.plain is not None:
            noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(self.seed)).to(small)
            small = small + math.sqrt(self.sigma2) * noise
            small, _ = self.show(small, self.run(small))
        return small, target
