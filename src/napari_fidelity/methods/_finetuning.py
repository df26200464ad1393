"""The run behind :class:`napari_fidelity.methods.FineTune`."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.core.errors import ArchitectureError, DivergedError, OperatorError, ShapeError
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods._memory import check_memory
from napari_fidelity.methods._network import autocast, learning_rate, optimizer_for, private_copy
from napari_fidelity.methods._network_input import NetworkInput
from napari_fidelity.methods._outcome import Outcome
from napari_fidelity.methods.base import (
    call_operator,
    check_finite_output,
    check_fit,
    check_measurement,
    generator,
)
from napari_fidelity.methods.data_term import image_mask, split, total_variation
from napari_fidelity.methods.last_layer import Change, Pass, Regression, first_pass, run_network
from napari_fidelity.methods.parameters import choose_parameters
from napari_fidelity.methods.projection import UNKNOWN_NOISE, assumed_variance, project, ridge_for
from napari_fidelity.methods.scores import mean_square
from napari_fidelity.methods.tuned import TunedNetwork
from napari_fidelity.methods.views import VIEWS, from_view, to_view, views_for
from napari_fidelity.networks.adapters import is_bound
from napari_fidelity.stopping.rules import Budget, Discrepancy

if TYPE_CHECKING:
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.methods.finetune import FineTune
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

log = logging.getLogger(__name__)

_ASTRAY = 10  # times the first loss: an image that explains the data so much worse would spoil the average
_FULL_STEP = 3 / 255  # residual of the network's output beyond the noise from which on steps have full length


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
        stop: StoppingRule | None,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        if y.ndim != 4:
            raise ShapeError("Fine-tuning works on 2-D images (N, C, H, W)", found=f"{tuple(y.shape)}")
        self.options, self.y, self.operator, self.weights = options, y, operator, weights
        self.known: dict[str, Any] = {"noise": noise, "weights": weights}
        self.stop, self.rng = stop or options.default_stop(), generator(rng)
        self.network = private_copy(model, y.device)
        self.views = views_for(self.network, operator, y, options.views)
        self.autocast = autocast(options.precision, y.device)
        start = self._first_pass()
        first, self.last = start.image, start.layer if options.last_layer == "solve" else None
        if options.last_layer == "solve" and self.last is None:
            log.info("no layer of %s can be solved in closed form; all move by steps", type(model).__name__)
        # Samples of the image per sample of the measurement: what the closed form's weights go with.
        self.ratio = first[0, 0].numel() / y[0, 0].numel()
        # From the network's own output: once it is fitted, the residual no longer shows its error.
        self.seed = self.rng.initial_seed()
        self.sigma2 = assumed_variance(y, operator, first.shape[2:], **self.known, rng=self.seed)
        self.damping = ridge_for(first, y, operator, **self.known, sigma2=self.sigma2, rng=self.seed)
        self.given = given = NetworkInput(
            operator,
            lambda z: self._pass(z).image,
            {**self.known, "ridge": self.damping},
            self.sigma2,
            self.seed,
            options.reads == "as_trained" and not is_bound(self.network),  # it is told the blur, too
        )
        self.shown, first = given.show(y, first)
        # The first iteration looks at the same; without gradients it need not run the network again.
        self.start = start if self.shown is y and self.last is not None else None
        mask = image_mask(options.mask, first)
        self.term = split(y, noise, weights, self.stop, self.rng).term(operator, mask)
        self.copy = None
        if options.pairs != 0 and weights is None:
            self.copy = given.coarser(self.shown, first.shape[2:])
        if stop is None and self.copy is None and options.average:
            self.stop = self.stop | Discrepancy()  # nothing else keeps the steps from fitting the noise
        self.stride = self._stride(first) if options.adaptive else 1.0
        if self.last is not None and (self._nothing_to_solve or not self._suits_features(first)):
            self.last = None
        self.made: tuple[Change | None, int] | None = None  # the last iteration's last layer, and its view

    # -- preparation ------------------------------------------------------------------------------------------

    def _first_pass(self) -> Pass:
        with torch.no_grad(), self.autocast:
            start = first_pass(self.network, self.y)
        check_finite_output(start.image)
        check_fit(self.operator, start.image, self.y)
        return start

    @property
    def _nothing_to_solve(self) -> bool:
        """Whether the network explains the measurement to within its noise and there is no other example.

        A denoiser's features hold the noise too, and the closed form would find it there.
        """
        return self.copy is None and math.isinf(self.damping)

    @torch.no_grad()
    def _suits_features(self, first: torch.Tensor) -> bool:
        """Tell whether the operator takes features, of which there are more than an image has channels."""
        try:
            self.term.linear(torch.cat([first, first], dim=1))
        except OperatorError as error:
            log.info("all layers move by steps: %s", error)
            return False
        return True

    @torch.no_grad()
    def _stride(self, first: torch.Tensor) -> float:
        """Return by how much to shorten the steps: there is to learn what the residual has beyond the noise.

        Behind a blur the residual tells nothing, what the network is shown being projected already.
        """
        if self.shown is not self.y:
            return 1.0
        # The coarser copy shows the network what noise looks like; without it, steps would go on to fit the noise.
        noise = self.sigma2 if self.copy is None else UNKNOWN_NOISE**2
        excess = mean_square(self.operator.A(first) - self.y, self.weights) - noise
        return min(1.0, math.sqrt(max(0.0, excess)) / _FULL_STEP)

    # -- the iteration ----------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Yield one step per iteration; return the result."""
        options = self.options
        parameters = self._parameters()
        anchor = [p.detach().clone() for p in parameters] if options.proximity else []
        moves = parameters and options.iterations and self.stride > 0
        optimizer = optimizer_for(options, parameters) if moves else None
        if optimizer is not None:
            check_memory(self._pass, self.shown)
        # Without gradient steps, a second look at a view would show the same again.
        iterations = min(options.iterations, len(self.views) - 1) if optimizer is None else options.iterations
        # The images must be those of the whole run, so all but the end stays as it is without a chosen iteration.
        end = iterations if options.iteration is None else min(options.iteration, iterations)
        outcome = Outcome(options, self._finished, lambda count: 1 / count if options.average else 1.0)
        watchers = [(part, part.watch()) for part in self.stop.parts() if options.iteration is None]
        history: list[Record] = []
        reason, limit = "", math.inf
        for index in range(end + 1):
            descends = optimizer is not None and index < iterations
            with torch.set_grad_enabled(descends):
                loss, data, image = self._objective(index, parameters, anchor)
            value = float(loss.detach())
            if index == 0:
                self._check_start(value, loss.requires_grad or not descends)
                limit = _ASTRAY * max(data, self.sigma2) if options.average else math.inf
            if not math.isfinite(value) or data > limit:
                self.made = None
                reason = f"the iteration diverged at step {index}; the image before it is returned"
                break
            estimate = outcome.take(image)
            scores = self._scores(estimate) | outcome.change
            outcome.judge(index, scores.get("held_out", math.inf if options.average else value))
            finish = partial(self._finished, estimate)
            step = Step(index, end + 1, value, scores, finish, self._seconds())
            history.append(Record.of(step))
            reply = yield step
            said = [(part, watch(step)) for part, watch in watchers]
            reason = reply or self._reason(index, said)
            if reason:
                break
            if optimizer is not None and descends and index < end:
                for group in optimizer.param_groups:
                    group["lr"] = self.stride * learning_rate(options, index)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        reason = reason or self._at_the_end(iterations if optimizer is not None else 0, end)
        image, seconds = outcome.image(), self._seconds()
        return Result(image, tuple(history), reason, seconds, {}, outcome.snapshots, network=self._tuned())

    def _tuned(self) -> TunedNetwork | None:
        """Return the network as the last iteration ran it; ``None`` where that diverged."""
        if self.made is None:
            return None
        change, view = self.made
        return TunedNetwork(
            self.network,
            self.last,
            change,
            view=view,
            given=self.given,
            seen=(self.y, self.shown),
            precision=self.options.precision,
        )

    def _at_the_end(self, gradient_steps: int, end: int) -> str:
        if self.options.iteration == end:
            return f"the image of iteration {end} was asked for"
        if gradient_steps:
            return f"all {gradient_steps} gradient steps are done"
        if self.stride == 0:
            return "the network explains the measurement to within its noise: no gradient steps were taken"
        return "no gradient steps were asked for" if self.last is None else "the last layer is solved"

    def _check_start(self, loss: float, differentiable: bool) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                "The very first step is not finite",
                found=f"a loss of {loss}",
                do="Check the intensity scaling, or raise ridge",
            )
        if not differentiable:
            raise ArchitectureError(
                "The loss does not depend on the chosen parameters",
                do="Check that network and operator are differentiable, or choose other parameters",
            )

    def _reason(self, index: int, said: list[tuple[StoppingRule, str | None]]) -> str:
        """Return why to stop; while the average still lacks views, only a budget can end the run."""
        whole_round = not self.options.average or index + 1 >= len(self.views)
        return next((text for part, text in said if text and (whole_round or isinstance(part, Budget))), "")

    def _parameters(self) -> list[nn.Parameter]:
        options = self.options
        if self.last is not None and options.parameters == "last":
            return []
        last = self.last
        if last is None and options.parameters == "last":
            last = self._first_pass().layer
        chosen = choose_parameters(self.network, options.parameters, rank=options.rank, rng=self.rng, last=last)
        if self.last is None:
            return chosen
        solved = {id(p) for p in self.last.parameters()}
        return [p for p in chosen if id(p) not in solved]

    def _objective(
        self, index: int, parameters: list[nn.Parameter], anchor: list[torch.Tensor]
    ) -> tuple[torch.Tensor, float, torch.Tensor]:
        """Return the loss, its data term, and the image, in its own orientation, of one iteration."""
        options = self.options
        view = self.views[index % len(self.views)]
        run = self._start_or_pass(view)
        copy = self._copy_pass(view)
        change = self._solve(run, copy, view) if self.last is not None else None
        self.made = change, view
        image = from_view(run.changed(change), view)
        loss = data = self.term(image)
        if copy is not None:
            small, target = copy
            loss = loss + self._pairs * (small.changed(change) - target).square().mean()
        if options.tv:
            loss = loss + options.tv * total_variation(image)
        if anchor:
            drift = [(p - a).square().sum() for p, a in zip(parameters, anchor, strict=True)]
            loss = loss + options.proximity * torch.stack(drift).sum()
        return loss, float(data.detach()), image.detach()

    def _start_or_pass(self, view: int) -> Pass:
        start, self.start = self.start, None
        if start is None or view != VIEWS[0] or torch.is_grad_enabled():
            return self._pass(to_view(self.shown, view))
        return start

    def _copy_pass(self, view: int) -> tuple[Pass, torch.Tensor] | None:
        if self.copy is None:
            return None
        small, target = self.copy
        return self._pass(to_view(small, view)), to_view(target, view)

    @torch.no_grad()
    def _solve(self, run: Pass, copy: tuple[Pass, torch.Tensor] | None, view: int) -> Change:
        """Solve the last layer for one view, from the measurement and from its coarser copy."""

        def apply(z: torch.Tensor) -> torch.Tensor:
            return to_view(self.term.linear(from_view(z, view)), view)

        weights = self.term.row_weights
        regression = Regression(run)
        regression.add(
            run,
            to_view(self.term.linear_target(), view),
            apply,
            weights=None if weights is None else to_view(weights, view),
        )
        if copy is not None:
            regression.add(*copy, lambda z: z, factor=self._pairs)
        return regression.solve(self._ridge)

    @property
    def _pairs(self) -> float:
        # The finer the image against the measurement, the less a copy coarser still has in common with it.
        return 1.6 / self.ratio**2 if self.options.pairs is None else self.options.pairs

    @property
    def _ridge(self) -> float:
        if self.options.ridge is not None:
            return self.options.ridge
        # The coarser copy shows the last layer what is no noise; without it, the ridge alone has to hold it back.
        noisy = 1.0 if self.copy is not None else max(1.0, self.sigma2 / UNKNOWN_NOISE**2)
        return 0.03 * self.ratio * noisy

    def _pass(self, y: torch.Tensor) -> Pass:
        with self.autocast:
            return run_network(self.network, getattr(self, "last", None), y)

    # -- what comes out ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _finished(self, image: torch.Tensor) -> torch.Tensor:
        if not self.options.project:
            return image
        ridge = ridge_for(
            image,
            self.y,
            self.operator,
            **self.known,
            sigma2=self.sigma2,
            before_fit=self.damping,
            rng=self.seed,
        )
        return project(image, self.y, self.operator, **self.known, ridge=ridge)

    @torch.no_grad()
    def _scores(self, image: torch.Tensor) -> dict[str, float]:
        prediction = call_operator(self.operator, image)
        scores = self.term.scores(prediction)
        if any("lr_lpips" in part.needs for part in self.stop.parts()):
            from napari_fidelity.metrics import lpips

            pairs = zip(torch.split(prediction, 1), torch.split(self.y, 1), strict=True)
            scores["lr_lpips"] = mean(lpips(to_channel_last(a), to_channel_last(b)) for a, b in pairs)
        return scores

    def _seconds(self) -> float:
        return time.perf_counter() - self.started
