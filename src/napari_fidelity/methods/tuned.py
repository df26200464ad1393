"""The network that a fine-tuning ended with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.errors import DivergedError
from napari_fidelity.core.precision import autocast
from napari_fidelity.methods._tiles import in_tiles
from napari_fidelity.methods.last_layer import run_network
from napari_fidelity.methods.views import from_view, to_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from napari_fidelity.core.step import Result
    from napari_fidelity.methods._network_input import NetworkInput
    from napari_fidelity.methods._tiling import Tiling
    from napari_fidelity.methods.last_layer import Change


class TunedNetwork(nn.Module):
    """A fine-tuned network just as the last iteration ran it: ``(N, C, H, W)`` to ``(N, C, h, w)``, float32.

    That is the network with its parameters of that iteration, in the view of the image that the iteration looked
    at, and with the last layer as it was solved for that view.

    Parameters
    ----------
    network
        The private copy that was tuned; from now on without gradients, in evaluation mode.
    last, change
        The last layer and how it was changed; ``None`` if all layers moved by steps.
    view
        The flip and turn that the last iteration looked at.
    given
        How a measurement becomes what the network is shown.
    seen
        The measurement it was tuned on, and what it was shown of it.
    precision
        Arithmetic of the network.
    tiling
        In which tiles it is run, if in any.
    """

    def __init__(
        self,
        network: nn.Module,
        last: nn.Conv2d | None,
        change: Change | None,
        *,
        view: int,
        given: NetworkInput,
        seen: tuple[torch.Tensor, torch.Tensor],
        precision: str,
        tiling: Tiling,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.network.zero_grad(set_to_none=True)
        self.change, self.view, self.precision, self.tiling = change, view, precision, tiling
        self.within: Callable[[], AbstractContextManager[object]] = nullcontext
        """What the network is run in, tile by tile: something that changes it meanwhile."""
        self._last = [last]  # in a list: it is a part of the network already
        self._given = replace(given, run=self.image)
        self._seen = seen
        self.eval()

    def shown(self, y: torch.Tensor) -> torch.Tensor:
        """Return what the network is shown of a measurement: itself, unless the model blurs first."""
        own, shown = self._seen
        if own.shape == y.shape and torch.equal(own, y):
            return shown
        return y if self._given.plain is None else self._given.show(y, self.image(y))[0]

    def image(self, shown: torch.Tensor) -> torch.Tensor:
        """Return the image that the network makes of what it is shown."""
        z, tiling = to_view(shown, self.view), self.tiling
        return from_view(tiling.fitting(lambda: in_tiles(self._image, z, tiling.tiles)), self.view)

    def _image(self, z: torch.Tensor) -> torch.Tensor:
        with self.within(), autocast(self.precision, z.device):
            run = run_network(self.network, self._last[0], z)
        return run.changed(self.change)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return the image that belongs to a measurement."""
        return self.image(self.shown(y))


def tuned_network(result: Result[torch.Tensor]) -> nn.Module:
    """Return the network that a fine-tuning ended with.

    Raises
    ------
    DivergedError
        If there is none, because its last step diverged.
    """
    if result.network is None:
        raise DivergedError(
            "The fine-tuning diverged, so there is no tuned network to look at",
            do="Choose a smaller learning rate, or look at the network as it was trained (method apply)",
        )
    network: nn.Module = result.network
    return network
