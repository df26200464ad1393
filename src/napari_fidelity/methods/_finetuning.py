"""The run behind :class:`napari_fidelity.methods.FineTune`."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.core.errors import DivergedError, OperatorError, ShapeError
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods._network import learning_rate, optimizer_for, private_copy
from napari_fidelity.methods._network_input import NetworkInput
from napari_fidelity.methods._objective import Objective
from napari_fidelity.methods._outcome import Outcome
from napari_fidelity.methods._plan import check, plan_finetuning
from napari_fidelity.methods._runner import Runner
from napari_fidelity.methods.calls import call_operator, generator
from napari_fidelity.methods.checks import check_finite_output, check_fit, check_measurement
from napari_fidelity.methods.data_term import image_mask, split
from napari_fidelity.methods.parameters import choose_parameters
from napari_fidelity.methods.projection import UNKNOWN_NOISE, assumed_variance, project, ridge_for
from napari_fidelity.methods.scores import mean_square
from napari_fidelity.methods.tuned import TunedNetwork
from napari_fidelity.methods.views import views_for
from napari_fidelity.networks.adapters import is_bound
from napari_fidelity.stopping.rules import Budget, Discrepancy

if TYPE_CHECKING:
    from torch import nn

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.methods.finetune import FineTune
    from napari_fidelity.methods.last_layer import Change, Pass
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
        self.plan = plan_finetuning(options, y.shape, self.network, y.device)
        self.runner = Runner(self.network, y, self.plan, margin=options.margin, precision=options.precision)
        self.fitting = self.runner.tiling.fitting
        start = self._first_pass()
        first = start.image
        if options.last_layer == "solve":
            self.runner.layer = start.layer
            if start.layer is None:
                log.info("no layer of %s can be solved in closed form; all move by steps", type(model).__name__)
        self.seed = self.rng.initial_seed()
        # From the network's own output: once it is fitted, the residual no longer shows its error.
        self.sigma2 = assumed_variance(y, operator, first.shape[2:], **self.known, rng=self.seed)
        self.damping = ridge_for(first, y, operator, **self.known, sigma2=self.sigma2, rng=self.seed)
        self.given = given = NetworkInput(
            operator,
            self.runner.output,
            {**self.known, "ridge": self.damping},
            self.sigma2,
            self.seed,
            options.reads == "as_trained" and not is_bound(self.network),  # it is told the blur, too
        )
        self.shown, first = self.fitting(partial(given.show, y, first))
        self.objective = self._objective(first, start, own_stop=stop is None)
        if self.last is not None and (self._nothing_to_solve or not self._suits_features(first)):
            self.runner.layer = None
        self.made: tuple[Change | None, int] | None = None  # the last iteration's last layer, and its view

    @property
    def last(self) -> nn.Conv2d | None:
        """The last layer, where it is solved."""
        return self.runner.layer

    # -- preparation ------------------------------------------------------------------------------------------

    def _first_pass(self) -> Pass:
        start = self.fitting(partial(self.runner.first_pass, self.y))
        check_finite_output(start.image)
        check_fit(self.operator, start.image, self.y)
        return start

    def _objective(self, first: torch.Tensor, start: Pass, *, own_stop: bool) -> Objective:
        """Return what is minimised, from the network's output on what it is shown, and its first run."""
        options = self.options
        mask = image_mask(options.mask, first)
        term = split(self.y, self.known["noise"], self.weights, self.stop, self.rng).term(self.operator, mask)
        copy = None
        if options.pairs != 0 and self.weights is None:
            copy = self.fitting(partial(self.given.coarser, self.shown, first.shape[2:]))
        self.has_copy = copy is not None
        if own_stop and copy is None and options.average:
            self.stop = self.stop | Discrepancy()  # nothing else keeps the steps from fitting the noise
        self.stride = self._stride(first) if options.adaptive else 1.0
        # The first iteration looks at the same; without gradients it need not run the network again.
        again = self.shown is self.y and self.last is not None and start.features is not None
        return Objective(
            options,
            self.runner,
            term,
            self.shown,
            copy,
            first,
            self.sigma2,
            self.seed,
            self.views,
            start if again else None,
        )

    @property
    def _nothing_to_solve(self) -> bool:
        """Whether the network explains the measurement to within its noise and there is no other example.

        A denoiser's features hold the noise too, and the closed form would find it there.
        """
        return not self.has_copy and math.isinf(self.damping)

    @torch.no_grad()
    def _suits_features(self, first: torch.Tensor) -> bool:
        """Tell whether the operator takes features, of which there are more than an image has channels."""
        try:
            self.objective.term.linear(torch.cat([first, first], dim=1))
        except OperatorError as error:
            log.info("all layers move by steps: %s", error)
            return False
        if self.objective.local is None:
            if self.runner.tiling.tiles is not None:
                log.info(
                    "all layers move by steps: a tile says too little of what this operator makes of the image"
                )
                return False
            self.runner.tiling.whole_alone = True
        return True

    @torch.no_grad()
    def _stride(self, first: torch.Tensor) -> float:
        """Return by how much to shorten the steps: there is to learn what the residual has beyond the noise.

        Behind a blur the residual tells nothing, what the network is shown being projected already.
        """
        if self.shown is not self.y:
            return 1.0
        # The coarser copy shows the network what noise looks like; without it, steps would go on to fit the noise.
        noise = UNKNOWN_NOISE**2 if self.has_copy else self.sigma2
        excess = mean_square(self.operator.A(first) - self.y, self.weights) - noise
        return min(1.0, math.sqrt(max(0.0, excess)) / _FULL_STEP)

    # -- the iteration ----------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Yield one step per iteration; return the result."""
        options = self.options
        parameters = self._parameters()
        self.objective.move(parameters)
        moves = parameters and options.iterations and self.stride > 0
        optimizer = optimizer_for(options, parameters) if moves else None
        if optimizer is not None:
            check(self.plan, self.y.shape, self.y.device)
        # Without gradient steps, a second look at a view would show the same again.
        iterations = min(options.iterations, len(self.views) - 1) if optimizer is None else options.iterations
        # The images must be those of the whole run, so all but the end stays as it is without a chosen iteration.
        end = iterations if options.iteration is None else min(options.iteration, iterations)
        outcome = Outcome(options, self._finished, lambda count: 1 / count if options.average else 1.0)
        watchers = [(part, part.watch()) for part in self.stop.parts() if options.iteration is None]
        history: list[Record] = []
        reason, limit, explained = "", math.inf, False
        for index in range(end + 1):
            descends = optimizer is not None and index < iterations and not explained
            found = self.objective.evaluate(index, descends=descends)
            self.made = found.change, found.view
            if index == 0:
                self._check_start(found.loss)
                limit = _ASTRAY * max(found.data, self.sigma2) if options.average else math.inf
            if not math.isfinite(found.loss) or found.data > limit:
                self.made = None
                reason = f"the iteration diverged at step {index}; the image before it is returned"
                break
            estimate = outcome.take(found.image)
            scores = self._scores(estimate) | outcome.change
            outcome.judge(index, scores.get("held_out", math.inf if options.average else found.loss))
            finish = partial(self._finished, estimate)
            step = Step(index, end + 1, found.loss, scores, finish, self._seconds())
            history.append(Record.of(step))
            reply = yield step
            said = [(part, watch(step)) for part, watch in watchers]
            reason = reply or self._reason(index, said)
            if reason:
                break
            # what is left of the residual is noise, which without the coarser copy nothing else keeps steps from
            explained = explained or (options.adaptive and not self.has_copy and found.data <= self.sigma2)
            if optimizer is not None and descends and not explained and index < end:
                for group in optimizer.param_groups:
                    group["lr"] = self.stride * learning_rate(options, index)
                self.objective.descend(index, found)
                optimizer.step()
        reason = reason or self._at_the_end(iterations if optimizer is not None else 0, end)
        image, seconds = outcome.image(), self._seconds()
        told = self.runner.record
        return Result(image, tuple(history), reason, seconds, told, outcome.snapshots, network=self._tuned())

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
            tiling=self.runner.tiling,
        )

    def _at_the_end(self, gradient_steps: int, end: int) -> str:
        if self.options.iteration == end:
            return f"the image of iteration {end} was asked for"
        if gradient_steps:
            return f"all {gradient_steps} gradient steps are done"
        if self.stride == 0:
            return "the network explains the measurement to within its noise: no gradient steps were taken"
        return "no gradient steps were asked for" if self.last is None else "the last layer is solved"

    @staticmethod
    def _check_start(loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                "The very first step is not finite",
                found=f"a loss of {loss}",
                do="Check the intensity scaling, or raise ridge",
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
        scores = self.objective.term.scores(prediction)
        if any("lr_lpips" in part.needs for part in self.stop.parts()):
            from napari_fidelity.metrics import lpips

            pairs = zip(torch.split(prediction, 1), torch.split(self.y, 1), strict=True)
            scores["lr_lpips"] = mean(lpips(to_channel_last(a), to_channel_last(b)) for a, b in pairs)
        return scores

    def _seconds(self) -> float:
        return time.perf_counter() - self.started
