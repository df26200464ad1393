"""What published networks want done to intensities before and after them, as differentiable steps.

Every step takes the tensor at hand and ``raw``, the image as it was before the first step, each ``(N, C, H, W)``.
Statistics are those of whole images, for each image of the batch on its own, and of each channel on its own or of
all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EPSILON = 1e-6


class ProcessingStep(nn.Module, ABC):
    """One step.

    Attributes
    ----------
    whole_image
        Whether it looks at all of the image, so that it does something else to parts of it.
    """

    whole_image: bool = False

    @abstractmethod
    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the processed tensor."""


class LinearStep(ProcessingStep):
    """A step ``x · gain + offset`` whose numbers may depend on the image, but not on the pixel."""

    whole_image = True

    @abstractmethod
    def numbers(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and offset, which broadcast to images of any size."""

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return ``x · gain + offset``."""
        gain, offset = self.numbers(x, raw)
        return x * gain + offset


class Scale(LinearStep):
    """Fixed numbers: ``scale_linear``, ``fixed_zero_mean_unit_variance``; one each, or one for each channel."""

    whole_image = False
    gain: Tensor
    offset: Tensor

    def __init__(self, gain: float | Sequence[float], offset: float | Sequence[float]) -> None:
        super().__init__()
        for name, value in (("gain", gain), ("offset", offset)):
            numbers = torch.tensor(value, dtype=torch.float64).reshape(-1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)

    def numbers(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102 - inherited
        return self.gain.to(x), self.offset.to(x)


class Standardise(LinearStep):
    """``(x − mean) / (std + eps)`` with those of the image: ``zero_mean_unit_variance``."""

    def __init__(self, *, joint: bool, eps: float = EPSILON) -> None:
        super().__init__()
        self.joint, self.eps = joint, eps

    def numbers(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102 - inherited
        mean, std = _moments(x, self.joint)
        gain = 1 / (std + self.eps)
        return gain, -mean * gain


class ScaleRange(LinearStep):
    """Two percentiles to 0 and 1, those of the image or of the raw one: ``scale_range``."""

    def __init__(
        self, low: float, high: float, *, joint: bool, of_raw: bool = False, eps: float = EPSILON
    ) -> None:
        super().__init__()
        self.low, self.high, self.joint, self.of_raw, self.eps = low, high, joint, of_raw, eps

    def numbers(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102 - inherited
        image = raw if self.of_raw else x
        low, high = (percentile(image, q, joint=self.joint) for q in (self.low, self.high))
        gain = 1 / (high - low + self.eps)
        return gain, -low * gain


class MatchMoments(LinearStep):
    """Mean and standard deviation made those of the raw image: ``scale_mean_variance``."""

    def __init__(self, *, joint: bool, eps: float = EPSILON) -> None:
        super().__init__()
        self.joint, self.eps = joint, eps

    def numbers(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102 - inherited
        (mean, std), (wanted_mean, wanted_std) = (_moments(image, self.joint) for image in (x, raw))
        gain = (wanted_std + self.eps) / (std + self.eps)
        return gain, wanted_mean - mean * gain


class Clip(ProcessingStep):
    """Ends beyond which values become the end: numbers, or percentiles of the image."""

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        low_percentile: float | None = None,
        high_percentile: float | None = None,
        joint: bool = True,
        between: bool = True,
    ) -> None:
        super().__init__()
        self.low, self.high, self.joint, self.between = low, high, joint, between
        self.low_percentile, self.high_percentile = low_percentile, high_percentile
        self.whole_image = low_percentile is not None or high_percentile is not None

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the clipped tensor."""
        low, high = self._end(x, self.low, self.low_percentile), self._end(x, self.high, self.high_percentile)
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)

    def _end(self, x: Tensor, value: float | None, q: float | None) -> Tensor | None:
        if q is not None:
            return percentile(x, q, joint=self.joint, between=self.between)
        return None if value is None else x.new_tensor(value)


class Sigmoid(ProcessingStep):
    """``1 / (1 + exp(−x))``."""

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the logistic function of the tensor."""
        return x.sigmoid()


class Binarize(ProcessingStep):
    """1 above a threshold, one for all or one for each channel, and 0 elsewhere; no gradient passes."""

    threshold: Tensor

    def __init__(self, threshold: float | Sequence[float]) -> None:
        super().__init__()
        numbers = torch.tensor(threshold, dtype=torch.float64).reshape(-1, 1, 1)
        self.register_buffer("threshold", numbers, persistent=False)

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return 1 or 0."""
        return (x > self.threshold.to(x)).to(x)


class ToInteger(ProcessingStep):
    """Numbers as a type of integers holds them, in floats: cut toward 0, and at the ends of the type.

    Gradients pass as if nothing were done. (A cast itself would wrap numbers around at the ends.)
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return whole numbers."""
        return x + (x.trunc().clamp(self.low, self.high) - x).detach()


class Processed(nn.Module):
    """A network with what is to be done before and after it, and its image in the intensity units of the input.

    Were the network to leave the image as it is, the steps before and after it together would map the input's
    intensities linearly. That map is undone at the end: where the steps bring the image back themselves, it is
    the identity, and where they do not, the image would have been left in the network's own units. Steps that are
    not linear (a sigmoid at the end) count as parts of the network in this.

    Parameters
    ----------
    network
        ``(N, C, H, W)`` to ``(N, C, h, w)``.
    before, after
        The steps.
    undo
        Whether to undo their map; not where the network itself brings the image back.
    """

    def __init__(
        self, network: nn.Module, before: Iterable[ProcessingStep], after: Iterable[ProcessingStep], *, undo: bool
    ) -> None:
        super().__init__()
        self.network, self.undo = network, undo
        self.before, self.after = nn.ModuleList(before), nn.ModuleList(after)

    def forward(self, y: Tensor) -> Tensor:
        """Return the restored image of ``y``."""
        x: Tensor = y
        for step in self.before:
            x = step(x, y)
        x = self.network(x).to(y.dtype)
        for step in self.after:
            x = step(x, y)
        if self.undo:
            gain, offset = self.map_of(y)
            x = (x - offset) / gain
        return x

    def map_of(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and offset of what the steps together make of an image."""
        gain, offset = y.new_ones(()), y.new_zeros(())
        x = y
        for step in (*self.before, *self.after):
            if isinstance(step, LinearStep):
                a, b = step.numbers(x, y)
                gain, offset, x = gain * a, offset * a + b, x * a + b
            elif isinstance(step, Clip):  # keeps the units, but later percentiles see it
                x = step(x, y)
        return gain, offset


def percentile(x: Tensor, q: float, *, joint: bool, between: bool = True) -> Tensor:
    """Return a percentile of each image, ``(N, 1, 1, 1)`` if ``joint``, else of each channel, ``(N, C, 1, 1)``.

    ``between`` interpolates between the two nearest values; otherwise it is the smallest value that is not
    exceeded by more than ``100 − q`` percent.
    """
    values = x.flatten(1)[:, None] if joint else x.flatten(2)
    count = values.shape[-1]
    place = q / 100 * (count - 1) if between else max(0, math.ceil(q / 100 * count) - 1)
    below = math.floor(place)
    found = values.kthvalue(below + 1, dim=-1).values
    if place > below:
        above = values.kthvalue(below + 2, dim=-1).values
        found = found + (above - found) * (place - below)
    return found[..., None, None]


def _moments(x: Tensor, joint: bool) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each image, or of each channel."""
    axes = (1, 2, 3) if joint else (2, 3)
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    return mean, variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()  # the root has no finite slope at 0
