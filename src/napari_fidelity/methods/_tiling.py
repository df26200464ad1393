"""In which tiles a network is run: smaller ones where memory runs out."""

from __future__ import annotations

import gc
import logging
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError, FidelityError
from napari_fidelity.methods._margin import FADE, measured_margin
from napari_fidelity.methods._tiles import ALIGN, Tiles, scale_of
from napari_fidelity.networks.adapters import is_bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.methods.last_layer import Pass

log = logging.getLogger(__name__)
T = TypeVar("T")

LEAST = 16
"""Side of the smallest tile, in pixels of the input."""
_PARTS = (128, 64, 32)  # sides of the part of the input that the margin is measured on, as memory allows


class Tiling:
    """In which tiles a network is run on images of one kind.

    Parameters
    ----------
    run
        The network, in float32 and without gradients; the margin is measured with it.
    y
        The measurement ``(N, C, H, W)``.
    side
        Of a tile; ``None`` for the whole image at once.
    margin
        Beyond it; ``None`` to measure it.
    align
        Tiles begin at multiples of this.
    network
        Whose ``info`` says where tiles may begin, and which of whose parts ask for the whole image.
    """

    def __init__(
        self,
        run: Callable[[torch.Tensor], Pass],
        y: torch.Tensor,
        side: int | None,
        margin: int | None,
        *,
        network: object,
    ) -> None:
        self.run, self.y, self.network = run, y, network
        self.align = math.lcm(ALIGN, int(getattr(getattr(network, "info", None), "size_multiple", 1)))
        self.whole_alone = False
        """Whether something beside the network needs its output on the whole image at once."""
        self._margin = margin
        self._blend: bool | None = None if margin is None else False
        self.tiles: Tiles | None = None
        if side is not None and side < max(y.shape[2:]) and self.possible:
            self.tiles = self._of(side)

    def fitting(self, work: Callable[[], T]) -> T:
        """Return what some work returns; where memory runs out, halve the tiles and do it again.

        Raises
        ------
        RuntimeError, MemoryError
            The error itself, where there is no smaller tile.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._can_halve():
                    raise
            # not in the handler: there the error still holds what the work had made
            self._halve()

    @property
    def record(self) -> dict[str, Any]:
        """What a result's provenance says of it; nothing where the image was not tiled."""
        if self.tiles is None:
            return {}
        return {"tile": self.tiles.side, "margin": self.tiles.margin, "blended": self.tiles.blend}

    @property
    def possible(self) -> bool:
        """Whether there can be tiles at all."""
        return not self.whole_alone and self.scale is not None

    @cached_property
    def scale(self) -> int | None:
        """How many times larger than its input the image is.

        ``None`` where there can be no tiles: that is no whole number, or the network is told the whole image's
        operator or measures the whole image's intensities.
        """
        modules = self.network.modules() if isinstance(self.network, torch.nn.Module) else ()
        asks = any(getattr(m, "takes_operator", False) or getattr(m, "whole_image", False) for m in modules)
        if asks or is_bound(self.network):  # which may hold a network that does not say so itself
            return None
        small = self.y[..., : 4 * ALIGN, : 4 * ALIGN]
        try:
            with torch.no_grad():
                return scale_of(self.run(small).image, small)
        except FidelityError:
            return None

    def _can_halve(self) -> bool:
        return self._side // 2 >= LEAST and self.possible

    @property
    def _side(self) -> int:
        return int(max(self.y.shape[2:])) if self.tiles is None else self.tiles.side

    def _halve(self) -> None:
        gc.collect()
        if self.y.device.type == "cuda":
            torch.cuda.empty_cache()
        side = max(LEAST, self._side // 2 // self.align * self.align)
        log.warning("memory ran out; going on in tiles of %d × %d pixels", side, side)
        self.tiles = self._of(side)

    def _of(self, side: int) -> Tiles:
        if self._blend is None:
            self._measure()
        assert self._margin is not None
        return Tiles(side, self._margin, bool(self._blend), self.align)

    def _measured(self) -> int | None:
        for side in _PARTS:
            try:
                return measured_margin(self.run, self.y, self.align, side)
            except (RuntimeError, MemoryError, ArchitectureError) as error:
                # a program may have been made for images of one size, smaller than this part
                passing = isinstance(error, ArchitectureError) or is_out_of_memory(error)
                if not passing or side == _PARTS[-1]:
                    raise
        return None

    def _measure(self) -> None:
        found = self._measured()
        self._blend = found is None
        self._margin = FADE if found is None else found
        if found is None:
            log.warning(
                "the network looks at the whole image at once: in tiles its result differs from that of the "
                "whole, and the tiles are blended into each other"
            )
        else:
            log.info("tiles overlap by %d pixels, where their borders show no more", found)
