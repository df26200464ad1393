"""Handling of the network during fine-tuning: the private copy, its arithmetic, its optimiser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.core.precision import autocast as autocast
from napari_fidelity.core.precision import uses_bfloat16 as uses_bfloat16
from napari_fidelity.methods import calls
from napari_fidelity.networks import copies
from napari_fidelity.networks.adapters import innermost

if TYPE_CHECKING:
    from napari_fidelity.methods.base import Network
    from napari_fidelity.methods.finetune import FineTune


def private_copy(model: Network | None, device: torch.device) -> nn.Module:
    """Return a copy of the network in evaluation mode on the measurement's device.

    Raises
    ------
    ArchitectureError
        If it is no network with parameters, cannot learn, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ArchitectureError(
            "Fine-tuning needs a restoration network (torch.nn.Module)",
            found="none" if model is None else type(model).__name__,
            do="Give a model, or use projection",
        )
    if reason := untrainable(model):
        raise ArchitectureError(
            f"{innermost(model).info.architecture} cannot be fine-tuned",
            found=reason,
            do="Choose another model; projection and maps still work with this one",
        )
    if not any(True for _ in model.parameters()):
        raise ArchitectureError(
            f"{type(model).__name__} has no parameters, so there is nothing to fine-tune", do="Use projection"
        )
    return calls.in_channels_last(copies.private_copy(model, device))


def untrainable(model: nn.Module) -> str:
    """Return why a network cannot learn, as it was found when it was loaded; ``""`` if it can."""
    return str(getattr(getattr(innermost(model), "info", None), "untrainable", ""))


def optimizer_for(options: FineTune, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser that the options name."""
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options.learning_rate, momentum=options.momentum)
    return torch.optim.Adam(parameters, lr=options.learning_rate, betas=(options.momentum, 0.999))


def learning_rate(options: FineTune, index: int) -> float:
    """Return the learning rate of gradient step ``index``: constant, or a half cosine down to a tenth."""
    if options.schedule == "constant":
        return options.learning_rate
    progress = index / (options.iterations + 1)
    return options.learning_rate * max(0.1, 0.5 * (1 + math.cos(math.pi * progress)))
