"""Short clips out of still images, for networks that restore a frame from its neighbours too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Motion(Options):
    """How the frames of a clip differ: each is the same image moved, turned and zoomed about the middle frame.

    Every clip has its own velocity, turn and zoom, uniform up to the largest, and every frame a displacement of
    its own, as of a camera held by hand. There is no noise here and nothing is hidden or uncovered.
    """

    shift: float = Field(
        3.0,
        ge=0,
        le=64,
        description="Largest displacement from one frame to the next, along each axis, in pixels of the image.",
        json_schema_extra={"unit": "px"},
    )
    jitter: float = Field(
        0.5,
        ge=0,
        le=16,
        description="Largest displacement of a single frame from its smooth path, along each axis.",
        json_schema_extra={"unit": "px"},
    )
    turn: float = Field(
        1.0, ge=0, le=45, description="Largest turn from one frame to the next.", json_schema_extra={"unit": "°"}
    )
    zoom: float = Field(0.01, ge=0, le=0.5, description="Largest relative zoom from one frame to the next.")
    still: float = Field(0.25, ge=0, le=1, description="Share of clips whose frames are all alike.")

    def margin(self, side: int, frames: int) -> int:
        """Return the pixels around a square of `side` pixels that its moved frames may show."""
        far = frames // 2
        angle, grown = min(far * math.radians(self.turn), math.pi / 4), (1 + self.zoom) ** far
        corner = side / 2 * (grown * (math.cos(angle) + math.sin(angle)) - 1)
        return math.ceil(corner + far * self.shift + self.jitter) + 2  # the reach of the interpolation

    def clips(self, x: Tensor, frames: int, rng: np.random.Generator) -> Tensor:
        """Make one clip of each image.

        Parameters
        ----------
        x
            Images (N, C, H, W); :meth:`margin` pixels at their border belong to no frame.
        frames
            Frames of a clip, odd.
        rng
            Decides on the motions.

        Returns
        -------
        torch.Tensor
            (N, frames, C, H, W), of which the middle frame is `x` itself; elsewhere resampled by a cubic and
            repeated beyond the border.
        """
        n, far = len(x), frames // 2
        moves = torch.from_numpy(self._moves(n, frames, x.shape[2:], rng)).to(x)
        moving = x.repeat_interleave(frames, 0)
        grid = torch.nn.functional.affine_grid(moves, list(moving.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(
            moving, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        clips: Tensor = moved.clamp(0, 1).view(n, frames, *x.shape[1:])
        clips[:, far] = x
        return clips

    def _moves(self, n: int, frames: int, shape: torch.Size, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the maps from each frame to the image, (n·frames, 2, 3), in units of half the image."""
        t = np.arange(frames) - frames // 2
        moving = rng.random((n, 1)) >= self.still
        angle = np.radians(self.turn) * moving * rng.uniform(-1, 1, (n, 1)) * t
        grown = (1 + self.zoom * moving * rng.uniform(-1, 1, (n, 1))) ** t
        path = self.shift * rng.uniform(-1, 1, (n, 1, 2)) * t[:, None]
        path = moving[..., None] * (path + self.jitter * rng.uniform(-1, 1, (n, frames, 2)))
        height, width = shape
        moves = np.empty((n, frames, 2, 3))
        moves[..., 0, 0] = moves[..., 1, 1] = grown * np.cos(angle)
        moves[..., 0, 1] = -grown * np.sin(angle) * height / width
        moves[..., 1, 0] = grown * np.sin(angle) * width / height
        moves[..., 2] = 2 * path / np.array([width, height])
        return moves.reshape(-1, 2, 3)
