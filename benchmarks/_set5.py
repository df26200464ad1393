"""The Set5 images and the measure that the cards of the bundled models report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.io import imread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def set5(folder: Path, scale: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and images (1, 3, H, W) in [0, 255], cut to multiples of a scale."""
    for file in sorted(folder.glob("*.png")):
        image = torch.from_numpy(imread(file)[..., :3].astype(np.float32)).permute(2, 0, 1)[None]
        yield file.stem, image[..., : image.shape[2] // scale * scale, : image.shape[3] // scale * scale]


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.5).floor().clamp(0, 255)


def psnr_y(output: torch.Tensor, target: torch.Tensor, crop: int) -> float:
    """Return the PSNR, in dB on Y (BT.601), of 8-bit images without a border."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64)[:, None, None] / 255
    error = ((output.double() - target.double()) * weights).sum(1)[..., crop:-crop, crop:-crop]
    return 10 * math.log10(255**2 / float(error.square().mean()))
