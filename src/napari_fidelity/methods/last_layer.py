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

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Apply = Callable[[torch.Tensor], torch.Tensor]

_CHUNK_BYTES = 128 * 2**20  # features put through the operator at a time
_MAX_ROWS = 2**17  # pixels that enter the regression; far more than there are unknowns


@dataclass(frozen=True)
class Pass:
    """One run of the network.

    Attributes
    ----------
    image
        The network's output ``(N, C, H, W)``, float32.
    features
        What entered the last layer, ``(N, F, H, W)``, float32.
    """

    image: torch.Tensor
    features: torch.Tensor


@dataclass(frozen=True)
class Change:
    """A change of the last layer: kernel ``(C or 1, F, k, k)`` and bias ``(C or 1,)`` or ``None``."""

    kernel: torch.Tensor
    bias: torch.Tensor | None

    def applied(self, layer: nn.Conv2d, run: Pass) -> torch.Tensor:
        """Return the image of ``run`` as the changed layer makes it, without running the network again."""
        padded = pad_like(layer, run.features)
        return run.image + nn.functional.conv2d(padded, self.kernel, self.bias, dilation=layer.dilation)

    @torch.no_grad()
    def apply_to(self, layer: nn.Conv2d) -> None:
        """Change the layer itself; for a gray image through an RGB network every channel gets the change."""
        layer.weight += self.kernel
        if layer.bias is not None and self.bias is not None:
            layer.bias += self.bias


def run_network(network: nn.Module, layer: nn.Conv2d, y: torch.Tensor) -> Pass:
    """Run the network once and keep what enters its last layer."""
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].detach()))
    try:
        x = network(y)
    finally:
        hook.remove()
    return Pass(x.float(), kept[-1].float())


def find_last_layer(network: nn.Module, y: torch.Tensor) -> nn.Conv2d:
    """Return the convolution that the network's output is affine in.

    A network may name it in its attribute ``last_layer``; otherwise it is the last 2-D convolution that runs.
    Either way a doubling of its weights must show in the output as it should.

    Raises
    ------
    ArchitectureError
        If there is no such layer.
    """
    layer = getattr(network, "last_layer", None)
    if not isinstance(layer, nn.Conv2d):
        layer = _last_convolution(network, y)
    if layer is None or not _is_affine_in(network, layer, y):
        raise ArchitectureError(
            f"{type(network).__name__} does not end in a convolution, so its last layer has no closed form",
            do="Fine-tune it iteratively (last_layer: none)",
        )
    return layer


def _last_convolution(network: nn.Module, y: torch.Tensor) -> nn.Conv2d | None:
    ran: list[nn.Conv2d] = []

    def note(layer: nn.Module, *_: object) -> None:
        if isinstance(layer, nn.Conv2d):
            ran.append(layer)

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            network(y)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran and ran.count(ran[-1]) == 1 else None


@torch.no_grad()
def _is_affine_in(network: nn.Module, layer: nn.Conv2d, y: torch.Tensor) -> bool:
    """Check that a change of the layer's weights appears in the image as it is (or averaged to gray)."""
    if layer.groups != 1 or layer.stride != (1, 1):
        return False
    run = run_network(network, layer, y)
    original = layer.weight.detach().clone()
    layer.weight.mul_(2)
    doubled = network(y).float()
    layer.weight.copy_(original)
    if run.features.shape[2:] != run.image.shape[2:]:
        return False
    kernel = original.mean(dim=0, keepdim=True) if run.image.shape[1] == 1 else original
    if kernel.shape[0] != run.image.shape[1]:
        return False
    expected = Change(kernel, None).applied(layer, run) - run.image
    tolerance = 2e-2 * float(expected.abs().max())  # room for bfloat16
    return bool(((doubled - run.image - expected).abs() <= tolerance + 1e-6).all())


@dataclass(frozen=True)
class Equations:
    """Normal equations of noisy data, with the energy of the residual and of the noise in it."""

    gram: torch.Tensor
    moment: torch.Tensor
    energy: float
    noise: float

    def residual(self, solution: torch.Tensor) -> float:
        """Return the squared residual that a change of the layer leaves."""
        fitted = (solution * (self.gram @ solution)).sum() - 2 * (solution * self.moment).sum()
        return self.energy + float(fitted)


class Regression:
    """Ridge regression for the change of the last layer, gathered from one or more sets of equations."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        self.gram = self.moment = torch.zeros(())
        self._data: Equations | None = None

    def add(
        self,
        run: Pass,
        target: torch.Tensor,
        apply: Apply,
        *,
        weights: torch.Tensor | None = None,
        variance: torch.Tensor | None = None,
        factor: float = 1.0,
    ) -> None:
        """Ask that ``apply`` of the corrected image be ``target``.

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
        variance
            Variance of the target's noise, where it is known: :meth:`solve` will not fit below it.
        factor
            Weight of these equations.

        Notes
        -----
        Memory is bounded: features pass through ``apply`` in chunks, and of more than 131072 pixels an even
        subset enters, weighted so that the sum keeps its size.
        """
        residual = target - apply(run.image)
        rows, share = _chosen_rows(residual, weights)
        design = torch.cat([column[rows] for column in self._columns(run.features, apply)], dim=1)
        wanted = _as_rows(residual)[rows].double()
        scale = factor / share
        gram = scale * (design.T @ design).double()
        moment = scale * (design.T.double() @ wanted)
        self.gram, self.moment = self.gram.to(gram) + gram, self.moment.to(moment) + moment
        if variance is not None:
            noise = float(_as_rows(variance.expand_as(residual))[rows].double().sum())
            self._data = Equations(gram, moment, scale * float(wanted.square().sum()), scale * noise)

    def solve(self, ridge: float) -> Change:
        """Return the change that minimises the squared errors plus ``ridge`` times its own square.

        Where the noise is known, ``ridge`` is raised until the residual is no smaller than the noise
        (Morozov's discrepancy principle); a residual that is smaller already is left alone.
        """
        values, vectors = torch.linalg.eigh(self.gram)
        moment = vectors.T @ self.moment

        def change(ridge: float) -> torch.Tensor:
            return torch.mm(vectors, moment / (values.clamp_min(0) + ridge)[:, None])

        solution = change(ridge)
        if self._data is not None and self._data.residual(solution) < self._data.noise:
            low, high = math.log10(ridge), 12.0
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (
                    (middle, high) if self._data.residual(change(10**middle)) < self._data.noise else (low, middle)
                )
            solution = change(10**high)
        return self._as_change(solution.float())

    def _as_change(self, solution: torch.Tensor) -> Change:
        size = (*self.layer.kernel_size, self.layer.in_channels)
        taps = size[0] * size[1] * size[2]
        kernel = solution[:taps].T.reshape(-1, *size).movedim(-1, 1).contiguous()
        return Change(kernel, solution[-1] if self.layer.bias is not None else None)

    def _columns(self, features: torch.Tensor, apply: Apply) -> Iterator[torch.Tensor]:
        """Yield ``apply`` of every shifted feature, a chunk of columns at a time, tap by tap; last the bias."""
        layer = self.layer
        padded = pad_like(layer, features)
        height, width = features.shape[2:]
        chunk = max(1, _CHUNK_BYTES // max(1, features[:, :1].numel() * 4))
        for i in range(layer.kernel_size[0]):
            for j in range(layer.kernel_size[1]):
                di, dj = i * layer.dilation[0], j * layer.dilation[1]
                shifted = padded[:, :, di : di + height, dj : dj + width]
                for part in torch.split(shifted, chunk, dim=1):
                    yield _as_rows(apply(part.contiguous()))
        if layer.bias is not None:
            yield _as_rows(apply(torch.ones_like(features[:, :1])))


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
    if count <= _MAX_ROWS:
        return rows, 1.0
    picked = torch.linspace(0, count - 1, _MAX_ROWS, device=rows.device, dtype=torch.float64).long()
    return rows[picked], _MAX_ROWS / count
