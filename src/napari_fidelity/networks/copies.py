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
        If it cannot be copied, or holds no numbers.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ArchitectureError(
            f"{type(model).__name__} holds shapes of weights and no weights",
            found="tensors on the device 'meta'",
            do="Make room for them (module.to_empty(device='cpu')) and load them (load_state_dict) first",
        )
    try:
        with torch.no_grad():  # the copy of a TorchScript program would hang on the original's weights else
            copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"{type(model).__name__} cannot be copied, and a network that was given is never changed",
            found=str(error).partition(".")[0],
            do="Take off hooks such as torch.nn.utils.weight_norm (remove_weight_norm), let it keep nothing of a "
            "run with gradients, or load it from a file",
        ) from error
    return copied.eval().to(device)
