"""Copies of networks: one that was given is never changed."""

from __future__ import annotations

import copy

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.core.lazy import torch


def private_copy(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return a copy of a network in evaluation mode on a device.

    Raises
    ------
    ArchitectureError
        If it cannot be copied.
    """
    try:
        with torch.no_grad():  # the copy of a TorchScript program would hang on the original's weights else
            copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"{type(model).__name__} cannot be copied, and a network that was given is never changed",
            found=str(error).partition(".")[0],
            do="Take off hooks such as torch.nn.utils.weight_norm (remove_weight_norm), or load it from a file",
        ) from error
    return copied.eval().to(device)
