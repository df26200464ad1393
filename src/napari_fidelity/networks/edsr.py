"""EDSR, the enhanced deep residual network for super-resolution.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPR Workshops
2017, arXiv:1707.02921. Scale surgery after Lucas et al. 2020.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import check_integer
from napari_fidelity.networks.blocks import ResidualBlock
from napari_fidelity.networks.upsamplers import SubPixelNetwork, sub_pixel_scale, sub_pixel_upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of photographs in [0, 1], as in the published EDSR."""


class EDSR(SubPixelNetwork):
    """EDSR: head, residual blocks with a long skip, sub-pixel upsampler, tail.

    Maps images (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W), nominally in [0, 1] and not clipped; any size
    from 1 × 1. The mean colour is subtracted in front; the bias of the tail adds it back, so that the network
    ends with a plain convolution.

    Parameters
    ----------
    n_channels
        Channels of the image, 1 or more.
    n_feats
        Features of every layer.
    n_blocks
        Residual blocks.
    scale
        1, 2, 3, 4 or 8.
    res_scale
        Factor of each block's update; 0.1 for the published network of 256 features.
    mean
        Mean colour to subtract, one number per channel: that of photographs for RGB, else 0.5.

    Raises
    ------
    ArchitectureError
        If a size is not positive, the scale is not supported, or `mean` does not have `n_channels` numbers.
    """

    architecture: ClassVar[str] = "EDSR"

    def __init__(
        self,
        n_channels: int = 3,
        n_feats: int = 64,
        n_blocks: int = 16,
        scale: int = 4,
        res_scale: float = 1.0,
        mean: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("EDSR", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("EDSR", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("EDSR", "n_blocks", n_blocks, 0, 512)
        self.scale = check_integer("EDSR", "scale", scale, 1, 8)
        self.res_scale, *_ = _checked_numbers("res_scale", (res_scale,), 1)
        default = RGB_MEAN if n_channels == 3 else (0.5,) * n_channels
        self.mean = _checked_numbers("mean", default if mean is None else mean, n_channels)
        self.head = nn.Conv2d(n_channels, n_feats, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(n_feats, res_scale) for _ in range(n_blocks)))
        self.body_end = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.upsampler = sub_pixel_upsampler("EDSR", n_feats, scale)
        self.tail = nn.Conv2d(n_feats, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale·H, scale·W), both in [0, 1].

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        features = self.head(x - x.new_tensor(self.mean)[:, None, None])
        features = features + self.body_end(self.blocks(features))
        output: Tensor = self.tail(self.upsampler(features))
        return output

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        names = ("n_channels", "n_feats", "n_blocks", "scale", "res_scale")
        return {**{name: getattr(self, name) for name in names}, "mean": list(self.mean)}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of an :class:`EDSR`."""
        return {"head.weight", "body_end.weight", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        `res_scale` and `mean` leave no trace in the weights; they take their default values.

        Raises
        ------
        ArchitectureError
            If the upsampler is none that :class:`EDSR` can have.
        """
        head = state_dict["head.weight"]
        if head.ndim != 4:
            raise ArchitectureError("The weight 'head.weight' is no convolution", found=f"{tuple(head.shape)}")
        blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
        scale = sub_pixel_scale("EDSR", state_dict, len(head))
        return {"n_channels": head.shape[1], "n_feats": head.shape[0], "n_blocks": len(blocks), "scale": scale}

    @torch.no_grad()
    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near linear interpolation: no time goes into learning identity.

        The first `n_channels` features carry the image from head to tail; all others start small and random, the
        sub-pixel layers without checkerboard (ICNR, Aitken 2017, arXiv:1707.02937).

        Raises
        ------
        ArchitectureError
            If there are fewer features than channels.
        """
        self._interpolate(self.head, (self.body_end,), generator)
        if self.tail.bias is not None:
            self.tail.bias.copy_(self.tail.bias.new_tensor(self.mean))
        return self


def _checked_numbers(name: str, values: object, count: int) -> tuple[float, ...]:
    try:
        checked = tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        checked = ()
    if len(checked) != count or not all(map(math.isfinite, checked)):
        raise ArchitectureError(f"EDSR: '{name}' must be {count} finite number(s)", found=repr(values))
    return checked
