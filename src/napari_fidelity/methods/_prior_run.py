"""The run behind :class:`napari_fidelity.methods.DIP` and :class:`napari_fidelity.methods.DeepRED`."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from napari_fidelity.core.step import Step
from napari_fidelity.methods._follow import follow
from napari_fidelity.methods._iteration import Iterate, iterate
from napari_fidelity.methods._network import autocast
from napari_fidelity.methods._start import (
    image_shape,
    image_sigma,
    is_picture,
    noise_variance,
    squared_gain,
    starting_image,
)
from napari_fidelity.methods.calls import call_operator, generator
from napari_fidelity.methods.checks import check_fit, check_measurement
from napari_fidelity.methods.data_term import split
from napari_fidelity.methods.deep_prior import INPUTS
from napari_fidelity.methods.scores import lr_psnr
from napari_fidelity.networks._untrained_module import channels_last
from napari_fidelity.stopping.rules import WindowedVariance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fidelity.methods._follow import Inner
    from napari_fidelity.methods._splitting import Splitting
    from napari_fidelity.methods.base import LinearOperator, Method, Network, Steps
    from napari_fidelity.methods.deep_prior import DeepPrior
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule

_AMPLITUDE = 0.1  # of its uniform noise
_APART = 1_000_003  # between the seeds of networks that run together; slices of a stack lie 1 apart
_SAMPLED = 2**16  # pixels from which the variance of successive outputs is taken, at most


class Run:
    """One reconstruction of one measurement."""

    def __init__(
        self,
        options: DeepPrior,
        y: torch.Tensor,
        operator: LinearOperator,
        *,
        noise: Noise | None,
        stop: StoppingRule | None,
        weights: torch.Tensor | None,
        rng: int | torch.Generator,
    ) -> None:
        self.started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        self.options, self.operator = options, operator
        self.stop, rng = stop or options.default_stop(), generator(rng)
        self.seed = rng.initial_seed()
        self.shape = image_shape(y, operator)
        self.plain = weights is None and is_picture(operator, y, self.shape)
        sigma2 = noise_variance(y, operator, self.shape[2:], noise, weights, self.seed, picture=self.plain)
        self.noise_db = -10 * math.log10(sigma2)
        self.term = split(y, noise, weights, self.stop, rng).term(operator)
        known = partial(starting_image, y=self.term.y, operator=operator, weights=self.term.weights)
        start: Any = options.start
        named = start if isinstance(start, str) else ""
        # what is shown to the network comes later where another method makes it
        self.image = known("measurement" if named in ("noise", "red") else start, noise=self.term.noise)
        self.shown = None if named == "noise" else self.image
        check_fit(operator, self.image, y)
        self.sigma = image_sigma(math.sqrt(sigma2), operator, self.image)
        self.gain = squared_gain(operator, self.image)
        self.limits = self._limits(known)
        self.members: list[Member] = []
        self.splittings: list[Splitting] = []
        self.prediction: torch.Tensor | None = None
        self.window = Window(next((p.window for p in self.stop.parts() if isinstance(p, WindowedVariance)), 0))

    def _limits(self, start: Callable[..., torch.Tensor]) -> tuple[float, float]:
        """Return the range of a network's image that a sigmoid keeps it in."""
        if not self.options.sigmoid or getattr(self.options, "clip", False):
            return 0.0, 1.0
        image = start("classical", noise=self.term.noise)
        return min(0.0, float(image.min())), max(1.0, float(image.max()))

    def begin_with(self, method: Method, model: Network | None) -> Inner:
        """Run another method on what is not held out; its image is what the networks are shown."""
        y, weights = self.term.y, self.term.weights
        if self.plain and weights is not None:
            y, weights = self.image, None  # a plain image again, its missing pixels being filled in
        steps = method.steps(y, self.operator, model, noise=self.term.noise, weights=weights, rng=self.seed)
        done = yield from follow(steps, lambda step: replace(step, index=-1, total=self.options.iterations))
        self.image = self.shown = done[0].image
        return done

    def begun(self) -> Step[torch.Tensor]:
        """Return the step before the first iteration, with the image that the networks are shown."""
        image = self.image
        return Step(-1, self.options.iterations, math.nan, {}, lambda: image, time.perf_counter() - self.started)

    def split(self, make: Callable[[torch.Tensor], Splitting]) -> None:
        """Give each network an image of its own to agree with (DeepRED)."""
        self.splittings = [make(self.image) for _ in range(self.options.runs)]

    def steps(self) -> Steps:
        """Yield one step per iteration; return the result."""
        options = self.options
        seeds = [(self.seed + number * _APART) % 2**63 for number in range(options.runs)]
        self.members = [
            Member(options, self.shape, self.shown, seed, self.image.device, self.limits) for seed in seeds
        ]
        last = options.iterations - 1 if options.iteration is None else options.iteration
        return iterate(
            options,
            self.stop,
            self._advance,
            started=self.started,
            last=last,
            weight=lambda count: 1 - options.average,
        )

    def _advance(self, index: int) -> Iterate:
        loss, image, prediction = self._iterate(index)
        # A is linear: the average of the predictions is that of the averaged image.
        average = prediction if self.prediction is None else prediction.lerp(self.prediction, self.options.average)
        self.prediction = average
        variance = self.window.take(image)
        return Iterate(loss, image, lambda estimate: self.term.scores(average) | variance)

    def _iterate(self, index: int) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Take one step in every network; return loss, image and ``A`` of it, averaged over the networks."""
        losses, images, predictions = [], [], []
        for number, member in enumerate(self.members):
            output = member.output()
            prediction = call_operator(self.operator, output)
            data = loss = self.term.misfit(prediction)
            splitting = self.splittings[number] if self.splittings else None
            if splitting is not None:
                loss = data + splitting.penalty(output)
            member.descend(loss, index)
            output, prediction = output.detach(), prediction.detach()
            losses.append(float(loss.detach()))
            predictions.append(prediction)
            if splitting is not None:
                splitting.update(index, output, self._fit(prediction))
                if splitting.options.output == "image":
                    output = splitting.x - splitting.u
            images.append(output)
        image = _mean(images)
        made = bool(self.splittings) and self.splittings[0].options.output == "image"
        prediction = call_operator(self.operator, image) if made else _mean(predictions)
        return math.fsum(losses) / len(losses), image, prediction

    def _fit(self, prediction: torch.Tensor) -> float:
        """Return by how many dB the residual is smaller than the noise."""
        return lr_psnr(prediction - self.term.y, self.term.weights) - self.noise_db


class Member:
    """One untrained network with its input and its optimiser."""

    def __init__(
        self,
        options: DeepPrior,
        shape: Sequence[int],
        shown: torch.Tensor | None,
        seed: int,
        device: torch.device,
        limits: tuple[float, float],
    ) -> None:
        rng = torch.Generator().manual_seed(seed)
        channels, spatial = shape[1], tuple(shape[2:])
        network = options.network.build(INPUTS, channels, spatial, rng)
        network.sigmoid = options.sigmoid
        self.network = network.to(device)
        z = _AMPLITUDE * torch.rand((shape[0], *network.input_shape), generator=rng)
        if shown is not None and network.input_shape[1:] == spatial:
            z[:, :channels] = shown[:, :INPUTS].cpu()
        self.z = z.to(device).contiguous(memory_format=channels_last(len(spatial)))
        self.rng = torch.Generator(device).manual_seed(seed)
        self.input_noise = options.input_noise
        self.low, self.extent = limits[0], limits[1] - limits[0]
        self.autocast = autocast(options.precision, device)
        self.rate, self.decay = options.learning_rate, options.decay
        self.optimizer = torch.optim.Adam(network.parameters(), lr=self.rate, fused=True)

    def output(self) -> torch.Tensor:
        """Return the network's image in float32, differentiable."""
        z = self.z
        if self.input_noise:
            # drawn in the order of the channels-last memory: torch is slow in any other
            noise = torch.empty((len(z), *z.shape[2:], z.shape[1]), device=z.device)
            z = noise.normal_(0, self.input_noise, generator=self.rng).movedim(-1, 1).add_(z)
        with torch.enable_grad(), self.autocast:
            image: torch.Tensor = self.network(z)
        return self.low + self.extent * image.float()

    def descend(self, loss: torch.Tensor, index: int) -> None:
        """Take one step of Adam."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self.decay ** (index / 1000)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()


class Window:
    """The variance of the last outputs, on so many pixels that memory stays small whatever the image."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._kept: deque[torch.Tensor] = deque()
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def take(self, image: torch.Tensor) -> dict[str, float]:
        """Take an output; return the score once the window is full."""
        if not self.length:
            return {}
        pixels = image.flatten()
        newest = pixels[:: -(-len(pixels) // _SAMPLED)].cpu()
        self._add(newest, +1)
        self._kept.append(newest)
        if len(self._kept) > self.length:
            self._add(self._kept.popleft(), -1)
        if len(self._kept) < self.length:
            return {}
        mean = self._sum / self.length
        return {"variance": max(0.0, float((self._squares / self.length - mean.square()).mean()))}

    def _add(self, pixels: torch.Tensor, sign: int) -> None:
        values = pixels.double()
        self._sum = self._sum + sign * values
        self._squares = self._squares + sign * values.square()


def _mean(images: list[torch.Tensor]) -> torch.Tensor:
    return images[0] if len(images) == 1 else torch.stack(images).mean(dim=0)
