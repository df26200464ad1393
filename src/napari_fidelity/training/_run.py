"""The state of one training and what a step does to it."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import DivergedError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.step import Step
from napari_fidelity.training.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from napari_fidelity.training.degrade import Forward
    from napari_fidelity.training.images import TrainingSet
    from napari_fidelity.training.loop import Train
    from napari_fidelity.training.synthetic import Image


class Run:
    """One training: network, averaged network, optimiser, and how far it got.

    Attributes
    ----------
    index
        Steps done.
    seconds
        Time spent in them, all resumed parts together.
    """

    def __init__(
        self,
        options: Train,
        network: nn.Module,
        data: TrainingSet,
        operator: Forward,
        validation: Sequence[Image],
    ) -> None:
        self.options, self.operator, self.validation = options, operator, validation
        self.scale = int(getattr(network, "scale", 1))
        self.frames = int(getattr(network, "frames", 1))
        self.data = data.at_least(options.degrade.side(self.scale, self.frames))
        self.device = next(network.parameters()).device
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=options.weight_decay
        )
        self.index, self.seconds = 0, 0.0
        self.loss_sum, self.loss_count = 0.0, 0

    def step(self) -> None:
        """Do one optimiser step."""
        start, o = time.perf_counter(), self.options
        rng = np.random.default_rng([o.seed, self.index])
        pairs = o.degrade.batch(self.data, self.operator, self.scale, rng, self.frames)
        y, x, sigma = (t.to(self.device, memory_format=torch.channels_last) for t in pairs)
        for group in self.optimizer.param_groups:
            group["lr"] = o.rate(self.index)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.precision == "bfloat16"):
            output = self._of_pairs(y, sigma)
        loss = LOSSES[o.loss](output.float(), x)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(
                f"The training diverged at step {self.index}",
                found=f"a loss of {value}",
                do="Lower learning_rate and train again from the start",
            )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), o.clip)
        self.optimizer.step()
        self._update_average()
        self.index += 1
        self.loss_sum, self.loss_count = self.loss_sum + value, self.loss_count + 1
        self.seconds += time.perf_counter() - start

    def _of_pairs(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network makes of a batch: of images, or of the middle frames of clips."""
        if self.frames == 1:
            return self._apply(self.network, y, sigma)
        of_windows: Callable[[Tensor], Tensor] | None = getattr(self.network, "restore_middle", None)
        if of_windows is not None:  # it makes the middle frames alone, of all clips at once
            return of_windows(y)
        # one clip at a time: the batch axis is time
        clips = zip(
            y.reshape(len(y), self.frames, -1, *y.shape[2:]), sigma.expand(-1, self.frames, 1, 1), strict=True
        )
        made = (self._apply(self.network, clip, level[:, None]) for clip, level in clips)
        return torch.stack([frames[self.frames // 2] for frames in made])

    def _apply(self, network: nn.Module, y: Tensor, sigma: Tensor) -> Tensor:
        from napari_fidelity.networks.adapters import call_at_level  # loads torch

        return call_at_level(network, y, sigma)

    def _restored(self, x: Tensor) -> Tensor:
        """Return what the averaged network makes of a measurement of ``x``, at the middle of the noise levels."""
        y: Tensor = self.operator.A(x)
        sigma = torch.full((1, 1, 1, 1), sum(self.options.degrade.levels) / 2, device=y.device)
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.device)
        return self._apply(self.average, y + sigma * noise, sigma)

    def _update_average(self) -> None:
        # short at first, so that the average forgets the start
        decay = min(self.options.average, (1 + self.index) / (10 + self.index))
        with torch.no_grad():
            values = self.network.state_dict()
            for name, mean in self.average.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(values[name], 1 - decay)
                else:
                    mean.copy_(values[name])

    def told(self, *, reports: bool) -> Step[Tensor]:
        """Describe the steps since the last report; in a report with the validation's score."""
        loss = self.loss_sum / max(1, self.loss_count)
        scores = {"learning_rate": self.options.rate(self.index - 1)}
        if reports:
            self.loss_sum, self.loss_count = 0.0, 0
        if reports and self.validation:
            scores["val_psnr"] = float(np.mean([self._psnr(self._clean(image)) for image in self.validation]))
        return Step(self.index - 1, self.options.n_steps, loss, scores, self._estimate, self.seconds)

    def _clean(self, image: Image) -> Tensor:
        h, w = (n - n % self.scale for n in image.shape[1:])
        return torch.from_numpy(image[None, :, :h, :w]).to(self.device)

    def _psnr(self, x: Tensor) -> float:
        with torch.no_grad():
            error = self._restored(x).clamp(0, 1) - x
        border = min(self.scale, (min(x.shape[2:]) - 1) // 2)
        inner = error[..., border : x.shape[2] - border, border : x.shape[3] - border]
        return -10 * math.log10(max(float(inner.square().mean()), 1e-12))

    def _estimate(self) -> Tensor:
        if not self.validation:
            return torch.empty(0)
        with torch.no_grad():
            return self._restored(self._clean(self.validation[0]))

    def finish(self) -> dict[str, Tensor]:
        """Give the network the averaged weights and return them."""
        self.network.load_state_dict(self.average.state_dict())
        self.network.eval()
        return {name: value.detach().cpu().contiguous() for name, value in self.average.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Return everything a resumed training needs."""
        return {
            "index": self.index,
            "seconds": self.seconds,
            "loss": [self.loss_sum, self.loss_count],
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.index, self.seconds = state["index"], state["seconds"]
        self.loss_sum, self.loss_count = state["loss"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
