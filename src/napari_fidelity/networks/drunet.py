"""DRUNet, the denoising residual U-net that is told the noise level.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte, "Plug-and-Play Image Restoration with Deep Denoiser Prior", IEEE TPAMI
2022, doi:10.1109/TPAMI.2021.3088914. Weights published with it load by their own names.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError, OptionError
from napari_fidelity.networks.base import RestorationNetwork, check_integer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_LEVELS = 4
_STEP = 2 ** (_LEVELS - 1)  # pixels of the image for one of the coarsest level


class DRUNet(RestorationNetwork):
    """DRUNet: four levels of residual blocks, no biases, the noise level as one more channel of the input.

    Maps noisy images (N, C, H, W) in [0, 1] to clean ones of the same size; any size from 1 × 1. Without biases
    the network is nearly homogeneous: a larger range of intensities with as much more noise gives the same image.

    Parameters
    ----------
    n_channels
        Channels of the image, 1 or more.
    n_feats
        Features of the four levels, from fine to coarse; (64, 128, 256, 512) in the paper.
    n_blocks
        Residual blocks of each level; 4 in the paper.

    Raises
    ------
    ArchitectureError
        If a size is impossible.
    """

    architecture: ClassVar[str] = "DRUNet"
    scale = 1
    takes_noise_level = True

    def __init__(
        self, n_channels: int = 3, n_feats: Sequence[int] = (64, 128, 256, 512), n_blocks: int = 4
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("DRUNet", "n_channels", n_channels, 1, 64)
        if not isinstance(n_feats, list | tuple) or len(n_feats) != _LEVELS:
            raise ArchitectureError("DRUNet: 'n_feats' holds one number for each of 4 levels", found=repr(n_feats))
        self.n_feats = tuple(check_integer("DRUNet", "n_feats", n, 1, 2048) for n in n_feats)
        self.n_blocks = check_integer("DRUNet", "n_blocks", n_blocks, 1, 64)
        f = self.n_feats
        self.m_head = nn.Conv2d(n_channels + 1, f[0], 3, padding=1, bias=False)
        self.m_down1, self.m_down2, self.m_down3 = (self._down(a, b) for a, b in pairwise(f))
        self.m_body = nn.Sequential(*self._blocks(f[-1]))
        self.m_up3, self.m_up2, self.m_up1 = (self._up(a, b) for a, b in pairwise(f[::-1]))
        self.m_tail = nn.Conv2d(f[0], n_channels, 3, padding=1, bias=False)

    def _blocks(self, width: int) -> list[nn.Module]:
        return [_Block(width) for _ in range(self.n_blocks)]

    def _down(self, width: int, coarser: int) -> nn.Sequential:
        return nn.Sequential(*self._blocks(width), nn.Conv2d(width, coarser, 2, stride=2, bias=False))

    def _up(self, coarser: int, width: int) -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(coarser, width, 2, stride=2, bias=False), *self._blocks(width))

    @property
    def last_layer(self) -> nn.Conv2d:
        """The final convolution; the output is linear in its weights."""
        return self.m_tail

    def forward(self, x: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        """Remove noise from (N, C, H, W), nominally in [0, 1]; the result is not clipped.

        Parameters
        ----------
        x
            Noisy image.
        sigma
            Standard deviation of its noise: one number, or a tensor (N, 1, 1, 1) or (N, 1, H, W). Left out, it is
            estimated from each image (:func:`noise_level`).

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        OptionError
            If the noise level is negative or not finite.
        """
        self.check_input(x)
        level = noise_level(x) if sigma is None else torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if not bool((level >= 0).all() & level.isfinite().all()):
            raise OptionError("The noise level must be zero or positive", found=str(sigma))
        height, width = x.shape[2:]
        z = torch.cat([x, level.expand(len(x), 1, height, width)], dim=1)
        z = F.pad(z, (0, -width % _STEP, 0, -height % _STEP), mode="replicate")
        x1 = self.m_head(z)
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        z = self.m_up3(self.m_body(x4) + x4)
        z = self.m_up2(z + x3)
        z = self.m_up1(z + x2)
        output: Tensor = self.m_tail(z + x1)[..., :height, :width]
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        return {"n_channels": self.n_channels, "n_feats": list(self.n_feats), "n_blocks": self.n_blocks}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of a :class:`DRUNet`."""
        return {"m_head.weight", "m_tail.weight", "m_body.0.res.0.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        Raises
        ------
        ArchitectureError
            If a level is missing.
        """
        names = ["m_head.weight"] + [f"m_up{i}.0.weight" for i in (1, 2, 3)]
        if any(name not in state_dict or state_dict[name].ndim != 4 for name in names):
            raise ArchitectureError("The weights look like DRUNet, but a level is missing")
        blocks = {match[1] for name in state_dict if (match := re.match(r"m_body\.(\d+)\.", name))}
        feats = [int(state_dict["m_head.weight"].shape[0])]
        feats += [int(state_dict[name].shape[0]) for name in names[1:]]
        channels = int(state_dict["m_tail.weight"].shape[0])
        if state_dict["m_head.weight"].shape[1] != channels + 1:
            raise ArchitectureError(
                "The weights look like DRUNet without a noise level",
                found=f"{state_dict['m_head.weight'].shape[1]} input channels for {channels} output channels",
                do="Use a model with a noise level map",
            )
        return {"n_channels": channels, "n_feats": feats, "n_blocks": len(blocks)}


class _Block(nn.Module):
    """``x + conv(relu(conv(x)))`` without biases, named as in the published weights."""

    is_residual_block = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = x + self.res(x)
        return refined


@torch.no_grad()
def noise_level(x: Tensor) -> Tensor:
    """Return the standard deviation of white noise in each image (N, C, H, W), as a tensor (N, 1, 1, 1).

    The median of the magnitudes of the finest diagonal Haar coefficients over 0.6745: robust against edges (Donoho
    and Johnstone 1994, doi:10.1093/biomet/81.3.425). 0 for images of less than 2 × 2 pixels.
    """
    height, width = (n - n % 2 for n in x.shape[2:])
    if not height or not width:
        return torch.zeros(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
    z = x[..., :height, :width].float()
    diagonal = (z[..., ::2, ::2] - z[..., 1::2, ::2] - z[..., ::2, 1::2] + z[..., 1::2, 1::2]) / 2
    median = diagonal.abs().flatten(1).median(dim=1).values
    return (median / 0.6745).to(x.dtype)[:, None, None, None]
