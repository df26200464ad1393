"""Which images a network of unknown make takes, found by trying some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_fidelity.core.device import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of width and height, that networks ask for
_TRIED = (1, 3, 2, 4, 5, 6, 7, 8)  # channels, to tell what a network takes that is refused


def found_sizes(module: nn.Module) -> tuple[int, int, int, int] | None:
    """Return channels, scale, size multiple and smallest size of a module, as trials find them.

    Gray is tried before RGB, as a network for RGB refuses gray images, and not the other way round. ``None`` if no
    size works.
    """
    for channels in (1, 3):
        for multiple, height, width in _trial_sizes():
            if scale := _scale(module, channels, height, width):
                tried = sorted({n for n in (multiple, 2 * multiple, 4, 8, 16) if n % multiple == 0 and n < width})
                fits = (size for size in tried if _scale(module, channels, size, size) == scale)
                return channels, scale, multiple, next(fits, width)
    return None


def found_shapes(module: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shapes of an image that a module takes, and of what it makes of it; ``None`` if none is found.

    For modules that :func:`found_sizes` knows nothing of: images of more channels are tried as well.
    """
    for channels in _TRIED:
        for _, height, width in _trial_sizes():
            output = _made(module, channels, height, width)
            if output is not None:
                return (1, channels, height, width), tuple(output.shape)
    return None


def _trial_sizes() -> Iterator[tuple[int, int, int]]:
    """Yield multiples that widths and heights may have to be of, with a height and a width."""
    for multiple in _MULTIPLES:
        least = max(1, 24 // multiple) | 1  # odd, and the image neither tiny nor large
        yield multiple, multiple * (least + 2), multiple * least


def _scale(module: nn.Module, channels: int, height: int, width: int) -> int:
    """Return by how much a module enlarges images of a size; 0 if it does not take them, or not evenly."""
    output = _made(module, channels, height, width)
    if output is None or output.ndim != 4:
        return 0
    scale = output.shape[3] // width
    return scale if tuple(output.shape) == (1, channels, scale * height, scale * width) else 0


def _made(module: nn.Module, channels: int, height: int, width: int) -> Tensor | None:
    """Return what a module makes of a random image; ``None`` if it does not take it, or makes no tensor of it."""
    y = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = module(y)
    except Exception as error:  # somebody else's code: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        return None
    return output if isinstance(output, Tensor) else None
