"""The restoration network alone: its output as it is, to compare everything else with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods._fields import MarginField, TileField
from napari_fidelity.methods.base import Method
from napari_fidelity.methods.calls import call_network
from napari_fidelity.methods.checks import check_finite_output, check_fit, check_measurement
from napari_fidelity.methods.scores import lr_psnr, mean_square
from napari_fidelity.networks.copies import private_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods._tiling import Tiling
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


class OneRun(Method):
    """A method that runs its network once, in tiles where the image is too large for the memory."""

    tile: TileField = None
    margin: MarginField = None

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        from napari_fidelity.methods._plan import estimated_run

        return round(estimated_run(self, shape, model, device).needed)

    def settled(self, shape: Sequence[int], model: Network | None, device: torch.device) -> Self:
        """Return the method with the tiles that its memory asks for. See :meth:`Method.settled`."""
        from napari_fidelity.methods._plan import plan_run

        tile = plan_run(self, shape, model, device).tile if self.tile is None else None
        return self if tile is None else self.replace(tile=tile)


class Apply(OneRun):
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
            x, prediction, tiles = network_output(self, y, operator, model)
        step = only_step(x, prediction - y, weights, started)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "the network's output as it is", step.seconds, tiles)


def network_output(
    options: OneRun, y: torch.Tensor, operator: LinearOperator, model: Network | None
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Return ``f(y)`` in float32, ``A f(y)``, and in which tiles the network was run, if in any.

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
    x, tiles = _output(options, y, ready(model, y.device))
    check_finite_output(x)
    return x, check_fit(operator, x, y), tiles


def _output(options: OneRun, y: torch.Tensor, network: Network) -> tuple[torch.Tensor, dict[str, Any]]:
    from napari_fidelity.methods._tiles import in_tiles

    def run(z: torch.Tensor) -> torch.Tensor:
        return call_network(network, z).float()

    if y.ndim != 4:
        return run(y), {}
    tiling = tiling_for(options, y, network)
    return tiling.fitting(lambda: in_tiles(run, y, tiling.tiles)), tiling.record


def tiling_for(options: OneRun, y: torch.Tensor, network: Network) -> Tiling:
    """Return in which tiles a network is run on a measurement ``(N, C, H, W)``: those asked for, or by memory."""
    from napari_fidelity.methods._plan import plan_run
    from napari_fidelity.methods._tiling import Tiling
    from napari_fidelity.methods.last_layer import Pass

    side = plan_run(options, y.shape, network, y.device).tile
    return Tiling(lambda z: Pass(call_network(network, z).float()), y, side, options.margin, network=network)


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
