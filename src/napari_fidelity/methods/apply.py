"""The restoration network alone: its output as it is, to compare everything else with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods.base import (
    Method,
    call_network,
    check_finite_output,
    check_fit,
    check_measurement,
    private_copy,
)
from napari_fidelity.methods.scores import lr_psnr, mean_square

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


class Apply(Method):
    """The network's output as it is: ``f(y)``, with its agreement with the data as scores."""

    kind: Literal["apply"] = "apply"

    def steps(
        self,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None = None,
        *,
        noise: Noise | None = None,
        stop: StoppingRule | None = None,
        weights: torch.Tensor | None = None,
        rng: int | torch.Generator = 0,
    ) -> Steps:
        """Run the network once; yields a single step. See :meth:`Method.steps`."""
        started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        with torch.no_grad():
            x, prediction = network_output(y, operator, model)
        step = only_step(x, prediction - y, weights, started)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "the network's output as it is", step.seconds)


def network_output(
    y: torch.Tensor, operator: LinearOperator, model: Network | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``f(y)`` in float32, and ``A f(y)``.

    Raises
    ------
    OptionError
        If there is no network.
    ShapeError
        If network, operator and measurement do not fit each other.
    DivergedError
        If the output is not finite.
    """
    if model is None:
        raise OptionError("This method needs a restoration network", do="Give a model")
    x = call_network(ready(model, y.device), y).float()
    check_finite_output(x)
    return x, check_fit(operator, x, y)


def only_step(
    x: torch.Tensor, residual: torch.Tensor, weights: torch.Tensor | None, started: float
) -> Step[torch.Tensor]:
    """Return the step of a method that has a single one, with the scores of its residual ``A x − y``."""
    scores = {"lr_psnr": lr_psnr(residual, weights)}
    return Step(0, 1, mean_square(residual, weights), scores, lambda: x, time.perf_counter() - started)


def ready(model: Network, device: torch.device) -> Network:
    """Return the network in evaluation mode on a device; one that is not gets a copy."""
    if not isinstance(model, torch.nn.Module):
        return model
    own = next(iter(model.parameters()), None)
    if not model.training and (own is None or own.device == device):
        return model
    return private_copy(model, device)
