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
MOTION = Motion(still=0)  # of the clips that are measured: as trained on, and all of them moving
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
    """Return an image restored from a clip of it: from the frames around it too, from itself alone, and enlarged.

    Parameters
    ----------
    network
        The network, at the scale to be measured.
    x
        Image (1, C, H, W) in [0, 1], of which moved copies are the other frames.
    seed
        Of the motion.
    """
    s, n = network.scale, network.frames
    clip = MOTION.clips(x, n, np.random.default_rng(seed))[0]
    y = Downsample(scale=s).A(clip)
    alone = y[n // 2 : n // 2 + 1]
    return {
        "bicubic": resize(alone, x.shape[2:]),
        "replicated": network(alone),
        "five frames": network.restore_middle(y.flatten(0, 1)[None]),
    }


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


def video_table(clips: dict[str, dict[str, float]], stills: dict[str, dict[str, float]]) -> str:
    """Return the part of the card about other scales and about moving frames.

    Parameters
    ----------
    clips
        What :func:`video_numbers` found.
    stills
        Mean PSNR on Set5 of bicubic enlargement and of the network, for each scale.
    """
    head = (
        "| | bicubic | still image | bicubic, of a clip | replicated | five frames |\n|---|---|---|---|---|---|\n"
    )
    rows = (
        [stills[scale][kind] for kind in ("bicubic", "network")]
        + [clip[kind] for kind in ("bicubic", "replicated", "five frames")]
        for scale, clip in clips.items()
    )
    lines = (" | ".join(f"{value:.2f}" for value in row) for row in rows)
    return head + "\n".join(f"| {scale} | {line} |" for scale, line in zip(clips, lines, strict=True))
