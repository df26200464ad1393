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
    x = _interleave(x, taps)
    return _interleave(x.transpose(-1, -2), taps).transpose(-1, -2)


def _interleave(x: Tensor, taps: Tensor) -> Tensor:
    # Multiplications instead of a convolution: autocast would run that in bfloat16 and lose two digits.
    width = x.shape[-1]
    x = torch.cat([x[..., :1], x, x[..., -1:], x[..., -1:]], dim=-1)
    phases = x[..., :width, None] * taps[:, 0]  # (N, C, H, W, scale)
    for k in range(1, 4):
        phases = phases + x[..., k : k + width, None] * taps[:, k]
    return phases.flatten(-2)


@cache
def _tf1_taps(scale: int) -> list[list[float]]:
    """Weights of the samples -1, 0, 1, 2 around each of the ``scale`` positions between two samples."""
    phase = np.arange(scale)[:, None] / scale
    taps: list[list[float]] = cubic(phase - np.arange(-1, 3), a=-0.75).tolist()
    return taps
