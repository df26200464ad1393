"""How much memory a fine-tuning will need, before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.device import free_memory
from napari_fidelity.core.errors import MemoryNeededError

if TYPE_CHECKING:
    from collections.abc import Callable

_CROP = 48  # pixels along an axis of the part of the measurement on which the need is measured
_SMALL = 256**2  # pixels of a measurement below which nothing is checked
_OVERHEAD = 3.0  # of features, gradients and scratch space over what is kept for the backward pass (measured 2.6)
_CLOSED_FORM = 0.4e9  # bytes of the regression, whatever the size


def check_memory(run: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor) -> None:
    """Refuse a gradient step that would not fit into the free memory.

    Parameters
    ----------
    run
        The network, differentiable.
    y
        The measurement ``(N, C, H, W)``.

    Raises
    ------
    MemoryNeededError
        With the memory needed and the memory there is.
    """
    pixels = y[:, 0].numel()
    free = free_memory(y.device)
    if pixels < _SMALL or free is None:
        return
    crop = y[:1, :, :_CROP, :_CROP]
    needed = _OVERHEAD * kept_for_backward(run, crop) / crop[:, 0].numel() * pixels + _CLOSED_FORM
    if needed > free:
        height, width = y.shape[2:]
        raise MemoryNeededError(
            f"Fine-tuning all layers on {height} × {width} pixels needs about {needed / 1e9:.1f} GB of memory",
            found=f"{free / 1e9:.1f} GB free on {y.device}",
            do="Crop the image, choose a smaller network or another device, or let only the last layer move "
            "(parameters: last)",
        )


def kept_for_backward(run: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor) -> int:
    """Return how many bytes a forward pass keeps for its backward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        image = run(y)  # kept alive to the end, so that no storage is freed and counted again
    del image
    return sum(kept.values())
