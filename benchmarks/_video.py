"""What training and measuring a bundled video network takes beside the rest: several scales, and moving frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_fidelity.operators.resample import Downsample, resize

SCALES = (4, 2, 3)


@dataclass(frozen=True)
class ReducedAndEnlarged:
    """Bicubic downsampling and bicubic enlargement to the size before, by one scale after the other.

    A network whose input is enlarged is trained at all scales at once with it, at scale 1: the first clip of a batch
    is reduced by the first of the scales, the second one by the second, and so on.
    """

    frames: int

    def A(self, x: torch.Tensor, /) -> torch.Tensor:
        """Map (N·frames, C, H, W) to the same shape; H and W are multiples of all scales."""
        y = torch.empty_like(x)
        clip = torch.arange(len(x)) // self.frames
        for i, scale in enumerate(SCALES):
            of_scale = clip % len(SCALES) == i
            if bool(of_scale.any()):
                y[of_scale] = resize(Downsample(scale=scale).A(x[of_scale]), x.shape[2:])
        return y
