"""Fine-tuning of the last layer in closed form.

The composition of a linear operator with the network's last convolution is linear in that layer's weights, so
the data-consistency problem for this layer alone is a ridge regression: the residual ``y − A f(y)`` on the
layer's input features, shifted by each kernel tap and put through ``A``. One forward pass, one symmetric solve.
The measurement's own coarser copy adds equations of the same form, ``f(A y) ≈ y``, in which the high
frequencies are known (the internal examples of Shocher 2018, arXiv:1712.06087).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.methods.calls import call_network
from napari_fidelity.networks.adapters import innermost, is_bound
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.operators.local import beyond, cut, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_fidelity.operators.local import Box

    Apply = Callable[[torch.Tensor], torch.Tensor]

_CHUNK_BYTES = 128 * 2**20  # features put through the operator at a time
MAX_ROWS = 2**17  # pixels that enter the regression; far more than there are unknowns


@dataclass(frozen=True)
class Pass:
    """One run of the network.

    Attributes
    ----------
    image
        The network's output ``(N, C, H, W)``, float32.
    features
        What entered the last layer, ``(N, F, H, W)``, float32, with further rows below and columns on the right
        if the network pads its input there and cuts that off in the end; ``None`` if no layer was watched.
    layer
        The last layer.
    """

    image: torch.Tensor
    features: torch.Tensor | None = None
    layer: nn.Conv2d | None = None

    @property
    def is_covered(self) -> bool:
        """Whether there are features, for every sample of the image."""
        if self.features is None:
            return False
        sizes = zip(self.features.shape[2:], self.image.shape[2:], strict=True)
        return len(self.features) == len(self.image) and all(size >= least for size, least in sizes)

    def changed(self, change: Change | None) -> torch.Tensor:
        """Return the image as a changed last layer makes it, without running the network again."""
        if change is None or self.features is None or self.layer is None:
            return self.image
        padded = pad_like(self.layer, self.features)
        added = nn.functional.conv2d(padded, change.kernel, change.bias, dilation=self.layer.dilation)
        height, width = self.image.shape[2:]
        return self.image + added[..., :height, :width] + torch.einsum("oc,nchw->nohw", change.colour, self.image)

    def around(self, box: Box, reach: tuple[int, int]) -> tuple[Pass, Box]:
        """Return a part of the run with what the kernel reaches beyond, and where in it the part lies."""
        wide = beyond(box, reach, (self.image if self.features is None else self.features).shape[2:])
        features = None if self.features is None else cut(self.features, wide)
        return Pass(cut(self.image, wide), features, self.layer), relative(box, wide)


@dataclass(frozen=True)
class Change:
    """A change of the last layer.

    Attributes
    ----------
    kernel
        Added to the layer's kernel, ``(C, F, k, k)``.
    bias
        Added to its bias, ``(C,)``.
    colour
        How much of each channel of the image is added to each, ``(C, C)``: what undoes a wrong brightness or
        colour also of a network whose input reaches the output past its last layer.
    """

    kernel: torch.Tensor
    bias: torch.Tensor
    colour: torch.Tensor


def run_network(network: nn.Module, layer: nn.Conv2d | None, y: torch.Tensor) -> Pass:
    """Run the network once and keep what enters its last layer."""
    y = y.contiguous(memory_format=torch.channels_last)
    if layer is None:
        return Pass(call_network(network, y).float())
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        x = call_network(network, y)
    finally:
        hook.remove()
    return Pass(x.float(), kept[-1].float(), layer)


def first_pass(network: nn.Module, y: torch.Tensor) -> Pass:
    """Run the network once and find its last layer on the way.

    That is the 2-D convolution which a network names in its attribute ``last_layer``, or else the last one that
    runs; if it runs once, at the image's own resolution, padding that is cut off again allowed for. The pass has
    no layer if there is none such, as in networks that end in a pixel shuffle: a change of that layer is no sum of
    shifted features in the image.
    """
    watched = _watched(network)
    ran: list[nn.Module] = []
    latest: list[torch.Tensor] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ran.append(layer)
        latest[:] = inputs[:1]

    hooks = [layer.register_forward_pre_hook(note) for layer in watched]
    try:
        x = call_network(network, y.contiguous(memory_format=torch.channels_last)).float()
    finally:
        for hook in hooks:
            hook.remove()
    layer = ran[-1] if ran and ran.count(ran[-1]) == 1 else None
    if not isinstance(layer, nn.Conv2d) or layer.stride != (1, 1):
        return Pass(x)
    features = latest[0].float()
    found = Pass(x, features, layer)
    return found if found.is_covered else Pass(x)


def _watched(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions among which the last layer is looked for."""
    named = getattr(network, "last_layer", None)
    if isinstance(named, nn.Conv2d):
        return [named]
    if isinstance(innermost(network), ForeignNetwork):
        return []  # it was looked for when the network was loaded, and there is none
    if is_bound(network):
        return []  # what follows its last convolution may depend on the data
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


class Regression:
    """Ridge regression for the change of the last layer, gathered from one or more sets of equations.

    The unknowns of each output channel are the layer's kernel, its bias, and one weight for each channel of the
    image.
    """

    def __init__(self, run: Pass) -> None:
        assert run.layer is not None
        self.layer, self.n_channels = run.layer, run.image.shape[1]
        self.gram = self.moment = torch.zeros((), dtype=torch.float64, device=run.image.device)

    def add(
        self,
        run: Pass,
        target: torch.Tensor,
        apply: Apply,
        *,
        weights: torch.Tensor | None = None,
        factor: float = 1.0,
        part: Box | None = None,
    ) -> None:
        """Ask that ``apply`` of the changed image be ``target``.

        Parameters
        ----------
        run
            The network's output and features.
        target
            What ``apply(image)`` should be, ``(N, C, *m)``.
        apply
            A linear map that treats channels alike: an operator's ``A``, or the identity.
        weights
            1 where the target was observed, 0 elsewhere.
        factor
            Weight of these equations.
        part
            The part of the run's image that ``apply`` takes; all of it if left out.

        Notes
        -----
        Memory is bounded: features pass through ``apply`` in chunks, and of more than 131072 pixels an even
        subset enters, weighted so that the sum keeps its size.
        """
        image, padded = run.image.detach(), pad_like(self.layer, self._features(run))
        height, width = image.shape[2:]
        (top, bottom), (left, right) = part or ((0, height), (0, width))
        down, across = self.reach
        image = cut(image, ((top, bottom), (left, right)))
        padded = cut(padded, ((top, bottom + down), (left, right + across)))
        seen = apply(image)
        residual = target - seen
        rows, share = _chosen_rows(residual, weights)
        columns = [column[rows] for column in self._columns(padded, apply)]
        design = torch.cat([*columns, _as_rows(seen)[rows]], dim=1)
        wanted = _as_rows(residual)[rows]
        scale = factor / share
        self.gram = self.gram + scale * (design.T @ design).double()
        self.moment = self.moment + scale * (design.T @ wanted).double()

    @property
    def reach(self) -> tuple[int, int]:
        """By how many rows and columns the layer's kernel is larger than a pixel."""
        rows, columns = (d * (k - 1) for d, k in zip(self.layer.dilation, self.layer.kernel_size, strict=True))
        return rows, columns

    def _features(self, run: Pass) -> torch.Tensor:
        assert run.features is not None
        return run.features.detach()

    def solve(self, ridge: float) -> Change:
        """Return the change that minimises the squared errors plus ``ridge`` times its own square."""
        solution = torch.cholesky_solve(self.moment, self._factor(ridge)).float()
        size = (*self.layer.kernel_size, self.layer.in_channels)
        taps = size[0] * size[1] * size[2]
        kernel = solution[:taps].T.reshape(self.n_channels, *size).movedim(-1, 1).contiguous()
        return Change(kernel, solution[taps].contiguous(), solution[taps + 1 :].T.contiguous())

    def _factor(self, ridge: float) -> torch.Tensor:
        """Return the Cholesky factor, with more ridge where rounding asks for it; NaN if nothing is finite."""
        least = 1e-12 * float(self.gram.diagonal().mean())
        while math.isfinite(least):
            gram = self.gram.clone()
            gram.diagonal().add_(ridge)
            factor: torch.Tensor
            factor, failed = torch.linalg.cholesky_ex(gram)
            if not bool(failed):
                return factor
            ridge = max(10 * ridge, least)
        return torch.full_like(self.gram, math.nan)

    def _columns(self, padded: torch.Tensor, apply: Apply) -> Iterator[torch.Tensor]:
        """Yield ``apply`` of every shifted feature, a chunk of columns at a time, tap by tap; last the bias."""
        layer, (down, across) = self.layer, self.reach
        height, width = padded.shape[2] - down, padded.shape[3] - across
        chunk = max(1, _CHUNK_BYTES // max(1, len(padded) * height * width * 4))
        for i in range(layer.kernel_size[0]):
            for j in range(layer.kernel_size[1]):
                di, dj = i * layer.dilation[0], j * layer.dilation[1]
                shifted = padded[:, :, di : di + height, dj : dj + width]
                for part in torch.split(shifted, chunk, dim=1):
                    yield _as_rows(apply(part.contiguous()))
        yield _as_rows(apply(padded.new_ones(len(padded), 1, height, width)))


def pad_like(layer: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
    """Pad features as the layer would, so that a convolution without padding follows."""
    if layer.padding == "valid":
        return features
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        before = [t // 2 for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
    else:
        before = after = [int(p) for p in layer.padding]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return nn.functional.pad(features, (before[1], after[1], before[0], after[0]), mode=mode)


def _as_rows(z: torch.Tensor) -> torch.Tensor:
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def _chosen_rows(residual: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, float]:
    """Return which pixels (channels taken together) enter, and their share of the observed ones."""
    if weights is None:
        rows = torch.arange(residual[:, 0].numel(), device=residual.device)
    else:
        seen = (weights > 0).expand_as(residual).all(dim=1).reshape(-1)
        rows = seen.nonzero().squeeze(1)
    count = rows.numel()
    if count <= MAX_ROWS:
        return rows, 1.0
    picked = torch.linspace(0, count - 1, MAX_ROWS, device=rows.device, dtype=torch.float64).long()
    return rows[picked], MAX_ROWS / count
