"""In which tiles a method runs its network, from the memory there is: the whole image at once where that fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_fidelity.core.device import free_memory
from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.methods._checkpointing import has_blocks
from napari_fidelity.methods._memory import (
    FLOATS,
    Footprint,
    footprint_of,
    network_memory,
    weights_memory,
)
from napari_fidelity.methods._network import uses_bfloat16
from napari_fidelity.methods._tiles import ALIGN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from napari_fidelity.methods.apply import OneRun
    from napari_fidelity.methods.base import Network
    from napari_fidelity.methods.finetune import FineTune

SMALL = 256**2
"""Pixels of a measurement below which nothing is planned."""
_LEAST = 64  # side of the smallest tile that is chosen by itself: below, margins cost more than cores
_MARGIN = 16  # pixels beyond a tile, where it has not been measured
_SHARE = 0.8  # of the free memory, for which tiles are chosen: estimates are not exact


@dataclass(frozen=True)
class Plan:
    """How a network will be run.

    Attributes
    ----------
    tile
        Side of the tiles in pixels of the measurement; ``None`` for the whole image at once.
    checkpointing
        Whether what the backward pass needs is computed again for it.
    needed, free
        Bytes; ``free`` is ``None`` where nobody can tell.
    """

    tile: int | None
    checkpointing: bool = False
    needed: float = 0.0
    free: int | None = None

    @property
    def fits(self) -> bool:
        """Whether there is that much memory."""
        return self.free is None or self.needed <= self.free


@dataclass(frozen=True)
class _Task:
    """What a method asks of a network for an image ``(N, C, H, W)``."""

    shape: Sequence[int]
    found: Footprint
    beside: float  # bytes of weights and snapshots
    steps: bool
    solves: bool
    margin: int

    def needed(self, side: int | None) -> float:
        """Return the bytes of running in tiles of a side; of the whole image at once without."""
        found, pixels = self.found, self._pixels(None)
        if side is None:
            run = found.with_gradients(pixels) if self.steps else found.without_gradients(pixels)
            return run + self._solved(pixels) + self.beside
        tile, core = self._pixels(side + 2 * self.margin), self._pixels(side)
        run = found.network_alone(tile, gradients=self.steps)
        solving = found.network_alone(tile, gradients=False) + self._solved(tile, core) if self.solves else 0.0
        return FLOATS * found.image * pixels + max(run, solving) + self.beside

    def _solved(self, pixels: int, rows: int | None = None) -> float:
        return self.found.closed_form(pixels, rows) if self.solves else 0.0

    def _pixels(self, side: int | None) -> int:
        count, _, height, width = self.shape
        return count * (height * width if side is None else min(side, height) * min(side, width))

    def sides(self) -> Iterator[int | None]:
        """Yield the sides to choose from: none, then smaller and smaller ones."""
        yield None
        largest = (max(self.shape[2:]) - 1) // ALIGN * ALIGN
        yield from range(largest, _LEAST - 1, -ALIGN)

    def plan(self, tile: int | None, free: int, *, checkpointing: bool) -> Plan:
        """Return the plan with the largest tiles that fit, or the one asked for."""
        if tile is not None:
            return Plan(tile, checkpointing, self.needed(tile), free)
        side = None
        for side in self.sides():
            if self.needed(side) <= (free if side is None else _SHARE * free):
                break
        return Plan(side, checkpointing, self.needed(side), free)


def plan_finetuning(options: FineTune, shape: Sequence[int], model: Network | None, device: torch.device) -> Plan:
    """Return how a fine-tuning of a measurement ``(N, C, H, W)`` runs its network.

    Of a small one, and of one of which nothing can be told, only what was asked for.
    """
    tile, ahead = _tile_for(options.tile, shape), options.checkpointing == "on" and has_blocks(model)
    if tile is None and shape[0] * shape[2] * shape[3] < SMALL:
        return Plan(None, ahead)
    return estimated(options, shape, model, device) or Plan(tile, ahead)


def estimated(options: FineTune, shape: Sequence[int], model: Network | None, device: torch.device) -> Plan | None:
    """Return :func:`plan_finetuning` with the memory needed, whatever the size; ``None`` if it cannot be told."""
    bfloat16 = uses_bfloat16(options.precision, device)
    found = footprint_of(model, shape[1], bfloat16=bfloat16)
    if found is None:
        return None
    steps = options.iterations > 0 and options.parameters != "last"
    # a private copy of the weights; with steps, their gradients and two moments
    weights = weights_memory(model) * (4 if steps else 1)
    pixels = shape[0] * shape[2] * shape[3]
    # tensors first, images in the end
    snapshots = 2 * min(options.snapshots, options.iterations + 1) * found.image * pixels
    margin = _MARGIN if options.margin is None else options.margin
    task = _Task(shape, found, weights + snapshots, steps, options.last_layer == "solve", margin)
    tile = _tile_for(options.tile, shape)
    ahead = options.checkpointing == "on" and has_blocks(model)
    free = free_memory(device)
    if free is None or (tile is None and pixels < SMALL):
        return Plan(tile, ahead, task.needed(tile), free)
    plan = None
    if not ahead:
        plan = task.plan(tile, free, checkpointing=False)
        if plan.fits or options.checkpointing == "off" or not (steps and has_blocks(model)):
            return plan
    less = footprint_of(model, shape[1], bfloat16=bfloat16, checkpoints=True)
    return plan if less is None else replace(task, found=less).plan(tile, free, checkpointing=True)


def plan_run(options: OneRun, shape: Sequence[int], model: Network | None, device: torch.device) -> Plan:
    """Return how a network is run once on a measurement ``(N, C, *m)``; of a small one only what was asked for."""
    if len(shape) != 4 or (options.tile is None and shape[0] * shape[2] * shape[3] < SMALL):
        return Plan(None)
    return estimated_run(options, shape, model, device)


def estimated_run(options: OneRun, shape: Sequence[int], model: Network | None, device: torch.device) -> Plan:
    """Return :func:`plan_run` with the memory needed, whatever the size."""
    free = free_memory(device)
    found = footprint_of(model, shape[1]) if len(shape) == 4 else None
    if found is None:
        return Plan(None, needed=network_memory(model, shape), free=free)
    task = _Task(shape, found, 0.0, False, False, _MARGIN if options.margin is None else options.margin)
    tile = _tile_for(options.tile, shape)
    if free is None or (tile is None and shape[0] * shape[2] * shape[3] < SMALL):
        return Plan(tile, needed=task.needed(tile), free=free)
    return task.plan(tile, free, checkpointing=False)


def check(plan: Plan, shape: Sequence[int], device: torch.device) -> None:
    """Refuse gradient steps that would not fit into the free memory.

    Raises
    ------
    MemoryNeededError
        With the memory needed and the memory there is.
    """
    if plan.fits:
        return
    height, width = shape[2:]
    tiles = "" if plan.tile is None else f" in tiles of {plan.tile} × {plan.tile}"
    raise MemoryNeededError(
        f"Fine-tuning all layers on {height} × {width} pixels{tiles} needs about {plan.needed / 1e9:.1f} GB of "
        "memory",
        found=f"{(plan.free or 0) / 1e9:.1f} GB free on {device}",
        do="Crop the image, choose a smaller tile, a smaller network or another device, or let only the last "
        "layer move (parameters: last)",
    )


def _tile_for(tile: int | None, shape: Sequence[int]) -> int | None:
    return None if tile is None or tile >= max(shape[2:]) else tile
