"""The run behind :class:`napari_fidelity.methods.FineTune`."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.core.errors import DivergedError, OperatorError, OptionError, ShapeError
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods._network import Keeper, autocast, keep_float32, optimizer_for, private_copy, slow_down
from napari_fidelity.methods.base import call_operator, check_fit, check_measurement, generator
from napari_fidelity.methods.data_term import DataTerm, edge_mask, known_variance, total_variation
from napari_fidelity.methods.last_layer import Change, Pass, Regression, find_last_layer, run_network
from napari_fidelity.methods.parameters import choose_parameters
from napari_fidelity.methods.projection import project
from napari_fidelity.methods.views import ViewedOperator, from_view, to_view
from napari_fidelity.stopping.rules import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.methods.finetune import FineTune
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

    Estimate = Callable[[], torch.Tensor]

_MAX_RESTARTS = 3
_SMALLEST_COPY = 24  # pixels of the measurement along an axis below which its coarser copy says nothing


class Run:
    """One fine-tuning of one network on one measurement; owns a private copy of the network."""

    def __init__(
        self,
        options: FineTune,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None,
        *,
        noise: Noise | None,
        stop: StoppingRule,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        check_measurement(y, weights)
        if y.ndim != 4:
            raise ShapeError("Fine-tuning works on 2-D images (N, C, H, W)", found=f"{tuple(y.shape)}")
        self.options, self.y, self.operator, self.noise, self.weights = options, y, operator, noise, weights
        self.stop, self.rng = stop, generator(rng)
        self.seed = self.rng.initial_seed()
        self.history: list[Record] = []
        self.network = private_copy(model, y.device)
        self.autocast = autocast(options.precision, y.device)
        self.first = self._first_output()
        self.last = self._last_layer()
        self.term = self._data_term()

    # -- preparation ------------------------------------------------------------------------------------------

    def _first_output(self) -> torch.Tensor:
        with torch.no_grad():
            x = self._forward(self.y)
            if not bool(torch.isfinite(x).all()):
                raise DivergedError(
                    "The network's output for this image is not finite",
                    found=f"{int((~torch.isfinite(x)).sum())} bad pixels",
                    do="Check the intensity scaling and the model file, or use precision float32",
                )
            check_fit(self.operator, x, self.y)
        return x

    def _last_layer(self) -> nn.Conv2d | None:
        if self.options.last_layer == "none":
            return None
        layer = find_last_layer(self.network, self.y)
        # The image is the sum of this layer's products: bfloat16 would quantise it to 1 part in 256.
        keep_float32(layer)
        return layer

    def _data_term(self) -> DataTerm:
        mask = self.options.mask
        if isinstance(mask, str):
            image_mask = edge_mask(self.first) if mask == "edges" else None
        else:
            image_mask = torch.from_numpy(mask.copy()).to(self.y)[None, None]
            if image_mask.shape[2:] != self.first.shape[2:]:
                raise ShapeError(
                    "The mask does not have the restored image's size",
                    found=f"{tuple(image_mask.shape[2:])} beside {tuple(self.first.shape[2:])}",
                )
            if float(image_mask.min()) < 0 or float(image_mask.max()) == 0:
                raise OptionError("A mask holds weights from 0 upward, not all 0")
        fitted, held_out = self._split()
        return DataTerm(self.y, self.operator, self.noise, fitted, held_out, image_mask)

    def _split(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Keep some measurement pixels out of the fit if the stopping rule asks for it."""
        fraction = next((part.fraction for part in self.stop.parts() if hasattr(part, "fraction")), None)
        if fraction is None:
            return self.weights, None
        seen = torch.ones_like(self.y[:1, :1]) if self.weights is None else self.weights
        draw = torch.rand(self.y.shape[2:], generator=self.rng).to(self.y) < fraction
        held_out = seen * draw
        if not bool((held_out > 0).any()) or not bool((seen * ~draw > 0).any()):
            raise OptionError(
                "The measurement is too small to hold pixels out", found=f"{tuple(self.y.shape)}, share {fraction}"
            )
        return seen * ~draw, held_out

    # -- the gradient steps -----------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Yield one step per gradient step, then one per view; return the result."""
        options = self.options
        if options.last_layer == "start":
            self._solve(0).apply_to(self._layer)
        keeper = Keeper(self.network, options)
        reason = ""
        if options.iterations:
            reason = yield from self._descend(keeper)
            keeper.restore_best()
        image, cut_short = yield from self._finish()
        snapshots = {}
        for index, state in keeper.snapshots.items():
            self.network.load_state_dict(state)
            snapshots[index] = self._projected(torch.stack(list(self._views())).mean(dim=0)).cpu()
        reason = "; ".join(part for part in (reason, cut_short) if part) or "solved in closed form"
        return Result(image, tuple(self.history), reason, self._seconds(), {}, snapshots)

    def _descend(self, keeper: Keeper) -> Generator[Step, str | None, str]:
        options = self.options
        parameters = choose_parameters(
            self.network, options.parameters, rank=options.rank, rng=self.rng, last=self.last
        )
        anchor = [p.detach().clone() for p in parameters] if options.proximity else []
        optimizer = optimizer_for(options, parameters)
        watch = self.stop.watch()
        index = restarts = 0
        while True:
            loss, residual, x = self._objective(parameters, anchor)
            value = float(loss.detach())
            if not math.isfinite(value):
                restarts += 1
                if restarts > _MAX_RESTARTS or not keeper.has_best:
                    return f"the iteration diverged at step {index}; the best image before it is returned"
                keeper.restore_best()
                slow_down(optimizer)
                continue
            scores = self._scores(residual)
            keeper.see(index, scores.get("held_out", value))
            step = self._step(index, value, scores, x.detach)
            reply = yield step
            reason = reply or watch(step) or ("" if index < options.iterations else f"all {index} steps are done")
            if reason:
                return reason
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            index += 1

    def _objective(
        self, parameters: list[nn.Parameter], anchor: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self._forward(self.y)
        loss, residual = self.term(x)
        if self.options.tv:
            loss = loss + self.options.tv * total_variation(x)
        if anchor:
            drift = [(p - a).square().sum() for p, a in zip(parameters, anchor, strict=True)]
            loss = loss + self.options.proximity * torch.stack(drift).sum()
        return loss, residual, x

    def _scores(self, residual: torch.Tensor) -> dict[str, float]:
        scores = self.term.scores(residual)
        if "lr_lpips" in set().union(*(part.needs for part in self.stop.parts())):
            from napari_fidelity.metrics import lpips

            scores["lr_lpips"] = lpips(to_channel_last(self.y + residual), to_channel_last(self.y))
        return scores

    def _step(self, index: int, loss: float, scores: dict[str, float], estimate: Estimate) -> Step:
        total = self.options.iterations + self.options.views
        step = Step(index, total, loss, scores, estimate, self._seconds())
        self.history.append(Record.of(step))
        return step

    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def _forward(self, y: torch.Tensor) -> torch.Tensor:
        with self.autocast:
            x: torch.Tensor = self.network(y.contiguous(memory_format=torch.channels_last))
        return x.float()

    # -- the final image --------------------------------------------------------------------------------------

    def _finish(self) -> Generator[Step, str | None, tuple[torch.Tensor, str]]:
        """Average over the views, one step each; return the projected image, and why some views are missing."""
        budget = [part.watch() for part in self.stop.parts() if isinstance(part, Budget) and part.seconds]
        first = self.history[-1].index + 1 if self.history else 0
        mean = torch.zeros_like(self.first)
        for count, image in enumerate(self._views(), start=1):
            mean = mean + (image - mean) / count
            with torch.no_grad():
                loss, residual = self.term(mean)
            estimate = partial(self._projected, mean)
            step = self._step(first + count - 1, float(loss), self.term.scores(residual), estimate)
            reply = yield step
            reason = reply or next((said for look in budget if (said := look(step))), "")
            if reason and count < self.options.views:
                return estimate(), f"{reason} (after {count} of {self.options.views} views)"
        return self._projected(mean), ""

    @torch.no_grad()
    def _views(self) -> Iterator[torch.Tensor]:
        """Yield the image as each view of it makes it, in its own orientation."""
        for view in range(self.options.views):
            y = to_view(self.y, view)
            if self.options.last_layer == "finish":
                run = self._pass(y)
                image = self._regression(run, view).solve(self.options.ridge).applied(self._layer, run)
            else:
                image = self._forward(y)
            yield from_view(image, view)

    @torch.no_grad()
    def _projected(self, image: torch.Tensor) -> torch.Tensor:
        if not self.options.project:
            return image
        return project(image, self.y, self.operator, noise=self.noise, weights=self.weights, rng=self.seed)

    @property
    def _layer(self) -> nn.Conv2d:
        assert self.last is not None
        return self.last

    def _pass(self, y: torch.Tensor) -> Pass:
        with self.autocast:
            return run_network(self.network, self._layer, y.contiguous(memory_format=torch.channels_last))

    def _solve(self, view: int) -> Change:
        run = self._pass(to_view(self.y, view))
        return self._regression(run, view).solve(self.options.ridge)

    def _regression(self, run: Pass, view: int) -> Regression:
        """Gather the equations for the last layer from the measurement and from its coarser copy."""
        operator = ViewedOperator(self.operator, view)
        y, weights = to_view(self.y, view), self.term.weights
        if weights is not None:
            weights = to_view(weights.expand_as(self.y), view)
        variance = known_variance(self.noise, y)
        regression = Regression(self._layer)
        regression.add(run, y, operator.A, weights=weights, variance=variance)
        coarse = self._coarse_copy() if self.options.pairs else None
        if coarse is not None:
            small, target = (to_view(part, view) for part in coarse)
            regression.add(self._pass(small), target, lambda z: z, factor=self.options.pairs)
        return regression

    def _coarse_copy(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return ``(A y, y)``, a pair of which the network should make the second from the first.

        ``None`` where there is no such pair: the operator does not coarsen, is defined for this image size
        alone, parts of the measurement are missing, or the network's output would not have the right size.
        """
        if self.weights is not None or self.y.shape[2:] == self.first.shape[2:]:
            return None
        factor = [round(n / m) for n, m in zip(self.first.shape[2:], self.y.shape[2:], strict=True)]
        height, width = (m // f * f for m, f in zip(self.y.shape[2:], factor, strict=True))
        target = self.y[..., :height, :width].contiguous()
        if min(height, width) < _SMALLEST_COPY:
            return None
        try:
            small = call_operator(self.operator, target)
        except OperatorError:
            return None
        expected = [m // f for m, f in zip((height, width), factor, strict=True)]
        return (small, target) if list(small.shape[2:]) == expected else None
