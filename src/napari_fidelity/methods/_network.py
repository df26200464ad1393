"""Handling of the network during fine-tuning: the private copy, its arithmetic, its optimiser, its states."""

from __future__ import annotations

import copy
import functools
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from napari_fidelity.methods.base import Network
    from napari_fidelity.methods.finetune import FineTune

State = dict[str, torch.Tensor]


def private_copy(model: Network | None, device: torch.device) -> nn.Module:
    """Return a copy of the network in evaluation mode on the measurement's device.

    Raises
    ------
    ArchitectureError
        If it is no network with parameters.
    """
    if not isinstance(model, nn.Module):
        raise ArchitectureError(
            "Fine-tuning needs a restoration network (torch.nn.Module)",
            found="none" if model is None else type(model).__name__,
            do="Give a model, or use projection",
        )
    if not any(True for _ in model.parameters()):
        raise ArchitectureError(
            f"{type(model).__name__} has no parameters, so there is nothing to fine-tune", do="Use projection"
        )
    network = copy.deepcopy(model).eval().to(device)
    return network.to(memory_format=torch.channels_last)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which the network runs: bfloat16 where asked for or where it is faster."""
    wanted = precision == "bfloat16" or (precision == "auto" and _is_fast_in_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def _is_fast_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN emulates bfloat16 on processors without instructions for it, at a loss.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def keep_float32(layer: nn.Conv2d) -> None:
    """Take one layer of a private copy out of mixed precision."""
    compute = layer.forward

    @functools.wraps(compute)
    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return compute(x.float())

    layer.forward = forward  # type: ignore[method-assign,assignment]


def optimizer_for(options: FineTune, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser that the options name."""
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options.learning_rate, momentum=options.momentum)
    return torch.optim.Adam(parameters, lr=options.learning_rate, betas=(options.momentum, 0.999))


def slow_down(optimizer: torch.optim.Optimizer) -> None:
    """Start afresh with steps a quarter as long, after the iteration has left the range of finite numbers."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] /= 4


class Keeper:
    """Remembers the parameters of the best iteration, and of as many others as were asked for.

    The snapshots lie evenly over the iterations there have been: when there are too many, every other one is
    dropped and the distance doubles. So memory is bounded however long the run.
    """

    def __init__(self, network: nn.Module, options: FineTune) -> None:
        self.network = network
        self.most = options.snapshots
        self.stride = 1
        self.snapshots: dict[int, State] = {}
        self._best: State | None = None
        self._best_score = math.inf

    @property
    def has_best(self) -> bool:
        """Whether there has been an iteration yet."""
        return self._best is not None

    def see(self, index: int, score: float) -> None:
        """Look at the network before iteration ``index`` changes it; the lowest score is the best."""
        if score < self._best_score:
            self._best, self._best_score = self._state(), score
        if self.most and index % self.stride == 0:
            self.snapshots[index] = self._state()
            if len(self.snapshots) > self.most:
                self.stride *= 2
                self.snapshots = {i: state for i, state in self.snapshots.items() if i % self.stride == 0}

    def restore_best(self) -> None:
        """Put the parameters of the best iteration back."""
        if self._best is not None:
            self.network.load_state_dict(self._best)

    def _state(self) -> State:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}
