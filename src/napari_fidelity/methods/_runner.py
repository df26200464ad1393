"""The network as an iteration runs it: its arithmetic, its tiles, its checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from napari_fidelity.methods._alignment import is_aligned
from napari_fidelity.methods._checkpointing import checkpointed
from napari_fidelity.methods._examples import AtOnce, InTiles
from napari_fidelity.methods._network import autocast
from napari_fidelity.methods._tiles import in_tiles
from napari_fidelity.methods._tiling import Tiling
from napari_fidelity.methods.last_layer import Pass, first_pass, run_network
from napari_fidelity.operators.local import cut

if TYPE_CHECKING:
    from torch import nn

    from napari_fidelity.methods._examples import Example
    from napari_fidelity.methods._plan import Plan


class Runner:
    """Runs a private copy of a network on inputs of any size.

    Parameters
    ----------
    network
        The copy.
    y
        The measurement ``(N, C, H, W)``.
    plan
        In which tiles at first, and whether with checkpoints.
    margin
        Of the tiles; ``None`` to measure it.
    precision
        Arithmetic of the network.
    """

    def __init__(
        self, network: nn.Module, y: torch.Tensor, plan: Plan, *, margin: int | None, precision: str
    ) -> None:
        self.network, self.checkpointing = network, plan.checkpointing
        self.layer: nn.Conv2d | None = None
        """The last layer, where it is solved: then a pass holds what enters it."""
        self._autocast = autocast(precision, y.device)
        self.tiling = Tiling(self._exact, y, plan.tile, margin, network=network)

    def run(self, z: torch.Tensor) -> Pass:
        """Run the network once."""
        with self._checkpoints(), self._autocast:
            return run_network(self.network, self.layer, z)

    @property
    def record(self) -> dict[str, Any]:
        """What a result's provenance says of it."""
        return self.tiling.record | ({"checkpointing": True} if self.checkpointing else {})

    def _exact(self, z: torch.Tensor) -> Pass:
        return run_network(self.network, self.layer, z)

    def _checkpoints(self) -> Any:
        return checkpointed(self.network) if self.checkpointing and torch.is_grad_enabled() else nullcontext()

    @torch.no_grad()
    def first_pass(self, y: torch.Tensor) -> Pass:
        """Run the network and find its last layer; with what enters that only if there are no tiles."""
        tiles = self.tiling.tiles
        with self._autocast:
            if tiles is None:
                return self._with_layer(y)
            layer = self._with_layer(cut(y, next(tiles.over(y.shape[2:])).seen)).layer
            return Pass(in_tiles(lambda z: run_network(self.network, None, z).image, y, tiles), None, layer)

    def _with_layer(self, y: torch.Tensor) -> Pass:
        found = first_pass(self.network, y)
        return found if found.layer is None or is_aligned(self.network, found) else Pass(found.image)

    @torch.no_grad()
    def output(self, z: torch.Tensor) -> torch.Tensor:
        """Return the network's image of an input."""
        with self._autocast:
            return in_tiles(lambda part: run_network(self.network, None, part).image, z, self.tiling.tiles)

    def example(self, z: torch.Tensor) -> Example:
        """Return the network on an input, as an iteration wants it; run already if there are no tiles."""
        tiles = self.tiling.tiles
        if tiles is None:
            return AtOnce(self.run(z))
        assert self.tiling.scale is not None  # else there were no tiles
        return InTiles(self.run, z, tiles, self.tiling.scale)
