"""Parts that several architectures are made of."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_fidelity.core.cubic import cubic


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


@torch.no_grad()
def start_quietly(network: nn.Module, generator: torch.Generator | None = None, *, factor: float = 0.1) -> None:
    """Initialise all convolutions for rectifiers (He 2015, arXiv:1502.01852), biases 0, and those that end a
    residual path smaller: the second ones of the blocks, and those named ``body_end`` and ``tail``.

    Parameters
    ----------
    network
        Changed in place.
    generator
        Source of randomness on the CPU; torch's own one if left out.
    factor
        Of the weights at the end of a path.
    """
    for conv in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    ends = [block.conv2 for block in network.modules() if isinstance(block, ResidualBlock)]
    ends += [getattr(network, name) for name in ("body_end", "tail") if hasattr(network, name)]
    for conv in ends:
        conv.weight.mul_(factor)


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
