"""Trained networks that are told the image formation model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_fidelity.networks.info import ModelInfo


class ReconstructionNetwork(nn.Module):
    """A network ``f(y, A)`` from a file, with what is known of it.

    How large its image is, and so its scale, is told by the operator; ``scale`` is 1.

    Parameters
    ----------
    module
        The network, ``(y, physics)`` to an image on the grid that belongs to the operator.
    info
        What is known of it.
    in_channels
        The numbers of channels that it has parts for.
    """

    takes_operator = True
    takes_noise_level = False
    frames = 1
    scale = 1

    def __init__(self, module: nn.Module, *, info: ModelInfo, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.info, self.in_channels = module, info, in_channels

    def forward(self, y: Tensor, physics: Any) -> Tensor:
        """Restore the measurement ``(N, C, *m)`` of a ``deepinv.physics.LinearPhysics``."""
        x: Tensor = self.module(y, physics)
        return x

    def to_scale(self, scale: int) -> Self:
        """Return a copy that shares no storage; the same network is for every scale."""
        return copy.deepcopy(self)
