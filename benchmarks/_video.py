"""What training and measuring a bundled video network takes beside the rest: several scales, and moving frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from _set5 import psnr_y, set5, to_uint8

from napari_fidelity.operators.resample import Downsample, resize
from napari_fidelity.training import Motion

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fidelity.networks.vsr import VSR

SCALES = (4, 2, 3)
MOTIONS = {
    "five frames, ≤ 1 px": Motion(shift=1, turn=0.3, zoom=0, still=0),
    "five frames, ≤ 3 px": Motion(still=0),
}
"""What moves how far from frame to frame in the clips that are measured; the second as in training."""
_BORDER = 16  # pixels, beyond which a moved frame shows nothing made up


@dataclass(frozen=True)
class ReducedAndEnlarged:
    """Bicubic downsampling and bicubic enlargement to the size before, by one scale after the other.

    A network whose input is enlarged is trained at all scales at once with it, at scale 1: the first clip of a
    batch is reduced by the first of the scales, the second one by the second, and so on.
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


@torch.no_grad()
def middle_frames(network: VSR, x: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Return an image enlarged, restored from itself alone, and restored as the middle frame of clips of it.

    Parameters
    ----------
    network
        The network, at the scale to be measured.
    x
        Image (1, C, H, W) in [0, 1], of which moved copies are the other frames.
    seed
        Of the motion.
    """
    operator = Downsample(scale=network.scale)
    y = operator.A(x)
    restored = {"bicubic": resize(y, x.shape[2:]), "alone": network(y)}
    for kind, motion in MOTIONS.items():
        clip = motion.clips(x, network.frames, np.random.default_rng(seed))[0]
        restored[kind] = network.restore_middle(operator.A(clip).flatten(0, 1)[None])
    return restored


def video_numbers(network: VSR, folder: Path) -> dict[str, dict[str, float]]:
    """Return what :func:`middle_frames` reaches on Set5 at every scale: mean PSNR, in dB on Y, of 8-bit images."""
    numbers: dict[str, dict[str, float]] = {}
    for scale in sorted(SCALES):
        adapted = network.to_scale(scale)
        scores: dict[str, list[float]] = {}
        for seed, (_, x) in enumerate(set5(folder, scale)):
            for kind, output in middle_frames(adapted, x / 255, seed).items():
                scores.setdefault(kind, []).append(psnr_y(to_uint8(255 * output), x, _BORDER))
        numbers[f"×{scale}"] = {kind: round(float(np.mean(values)), 2) for kind, values in scores.items()}
    return numbers


def video_table(numbers: dict[str, dict[str, float]]) -> str:
    """Return a table of what :func:`video_numbers` found."""
    kinds = ["bicubic", "alone", *MOTIONS]
    lines = [f"| | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    lines += [
        f"| {scale} | " + " | ".join(f"{row[kind]:.2f}" for kind in kinds) + " |" for scale, row in numbers.items()
    ]
    return "\n".join(lines)
