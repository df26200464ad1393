"""Parts that several architectures are made of."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_fidelity.core.cubic import cubic
from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResidualBlock(nn.Module):
    """``x + res_scale * conv(relu(conv(x)))`` on features, without normalisation (Lim 2017, fig. 2c)."""

    is_residual_block = True

    def __init__(self, n_feats: int, res_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.conv2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, F, H, W) to features of the same shape."""
        update: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + update if self.res_scale == 1.0 else x + self.res_scale * update


class DenseBlock(nn.Module):
    """``x + factor * fuse(dense layers)``: each layer sees the input and what all layers before it made.

    Parameters
    ----------
    n_feats
        Features of input and output.
    growth
        Features that each layer adds.
    n_layers
        3 × 3 convolutions, each followed by a rectifier of this `slope` for negative values.
    kernel
        Size of the convolution that brings all together.
    factor
        Of the update.
    """

    def __init__(
        self, n_feats: int, growth: int, n_layers: int, *, kernel: int = 1, slope: float = 0.0, factor: float = 1.0
    ) -> None:
        super().__init__()
        widths = [n_feats + i * growth for i in range(n_layers + 1)]
        self.layers = nn.ModuleList(nn.Conv2d(width, growth, 3, padding=1) for width in widths[:-1])
        self.fuse = nn.Conv2d(widths[-1], n_feats, kernel, padding=kernel // 2)
        self.slope, self.factor = slope, factor

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, F, H, W) to features of the same shape."""
        known = x
        for layer in self.layers:
            known = torch.cat([known, F.leaky_relu(layer(known), self.slope)], dim=1)
        update: Tensor = self.fuse(known)
        return x + update if self.factor == 1.0 else x + self.factor * update


@torch.no_grad()
def random_start(
    network: nn.Module, generator: torch.Generator | None = None, quiet: Sequence[nn.Module] = ()
) -> None:
    """Initialise convolutions for rectifiers (He 2015, arXiv:1502.01852), with what updates others kept small.

    Parameters
    ----------
    network
        Changed in place; biases become 0, and the weights of what ends a residual block a tenth.
    generator
        Source of randomness on the CPU; torch's own one if left out.
    quiet
        Further layers whose weights become a tenth.
    """
    for conv in [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    blocks = [module for module in network.modules() if getattr(module, "is_residual_block", False)]
    for layer in (*(_last_with_weights(block) for block in blocks), *quiet):
        if isinstance(layer.weight, Tensor):
            layer.weight.mul_(0.1)


def _last_with_weights(block: nn.Module) -> nn.Module:
    return [module for module in block.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)][-1]


@torch.no_grad()
def pass_through(conv: nn.Conv2d, n: int) -> None:
    """Let the first `n` outputs of a convolution be copies of its first `n` inputs.

    Raises
    ------
    ArchitectureError
        If it has fewer of either.
    """
    weight = conv.weight
    if min(weight.shape[:2]) < n:
        raise ArchitectureError(
            "The interpolating start needs at least as many features as channels",
            found=f"{min(weight.shape[:2])} < {n}",
        )
    if weight.shape[0] > n:
        weight[:n] = 0
    weight[:n, :n] = 0
    for i in range(n):
        weight[i, i, weight.shape[2] // 2, weight.shape[3] // 2] = 1


def bicubic(x: Tensor, scale: int) -> Tensor:
    """Enlarge as MATLAB's ``imresize`` does: pixel centres agree, Keys' kernel with a = -0.5, borders mirrored.

    Parameters
    ----------
    x
        Image (N, C, H, W), any float dtype.
    scale
        Integer factor.

    Returns
    -------
    torch.Tensor
        Image (N, C, scale·H, scale·W) of the same dtype, whether or not autocast is on.
    """
    if scale == 1:
        return x
    taps = torch.tensor(_centred_taps(scale), dtype=x.dtype, device=x.device)
    for _ in range(2):
        n = x.shape[-1]
        folded = torch.arange(-2, n + 2, device=x.device) % (2 * n)
        x = _interleave(x[..., torch.minimum(folded, 2 * n - 1 - folded)], taps).transpose(-1, -2)
    return x


def tf1_bicubic(x: Tensor, scale: int) -> Tensor:
    """Enlarge as TensorFlow 1's ``resize_bicubic`` does without ``align_corners``.

    Output pixel ``i`` is sampled at ``i / scale``, not at pixel centres, so that against other libraries the
    image is shifted by ``(scale - 1) / 2`` output pixels. The kernel is Keys' with a = -0.75; borders repeat.

    Parameters
    ----------
    x
        Image (N, C, H, W), any float dtype.
    scale
        Integer factor.

    Returns
    -------
    torch.Tensor
        Image (N, C, scale·H, scale·W) of the same dtype, whether or not autocast is on.
    """
    taps = torch.tensor(_tf1_taps(scale), dtype=x.dtype, device=x.device)
    for _ in range(2):
        x = torch.cat([x[..., :1], x, x[..., -1:], x[..., -1:]], dim=-1)
        x = _interleave(x, taps).transpose(-1, -2)
    return x


def _interleave(x: Tensor, taps: Tensor) -> Tensor:
    """Return the positions between the samples, of which (scale, n) taps tell the weights, of a padded image."""
    # Multiplications instead of a convolution: autocast would run that in bfloat16 and lose two digits.
    width = x.shape[-1] - taps.shape[1] + 1
    phases = x[..., :width, None] * taps[:, 0]  # (N, C, H, W, scale)
    for k in range(1, taps.shape[1]):
        phases = phases + x[..., k : k + width, None] * taps[:, k]
    return phases.flatten(-2)


@cache
def _centred_taps(scale: int) -> list[list[float]]:
    """Weights of the samples -2 to 2 around each of the ``scale`` pixels that a sample becomes."""
    phase = (np.arange(scale)[:, None] + 0.5) / scale - 0.5
    taps: list[list[float]] = cubic(phase - np.arange(-2, 3)).tolist()
    return taps


@cache
def _tf1_taps(scale: int) -> list[list[float]]:
    """Weights of the samples -1, 0, 1, 2 around each of the ``scale`` positions between two samples."""
    phase = np.arange(scale)[:, None] / scale
    taps: list[list[float]] = cubic(phase - np.arange(-1, 3), a=-0.75).tolist()
    return taps
