"""Training pairs: random crops ``x`` of clean images and their measurements ``y = A x + noise``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from pydantic import Field

from napari_fidelity.core.errors import ShapeError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options
from napari_fidelity.training.clips import Motion

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fidelity.training.images import TrainingSet
    from napari_fidelity.training.synthetic import Image


Level = Annotated[float, Field(ge=0, le=1)]


class Forward(Protocol):
    """Anything with ``A(x)``: the package's operators, or a deepinv physics."""

    def A(self, x: Tensor, /) -> Tensor:
        """Map images (N, C, H, W) to measurements (N, C, h, w)."""
        ...


class Degrade(Options):
    """How training pairs are cut and augmented."""

    batch_size: int = Field(16, ge=1, le=4096, description="Pairs per step.")
    patch_size: int = Field(
        32,
        ge=4,
        le=1024,
        description="Side of a patch of the measurement.",
        json_schema_extra={"unit": "px"},
    )
    margin: int = Field(
        6,
        ge=0,
        le=256,
        description="Width cut away around a patch of the measurement, so that no border effect is learnt.",
        json_schema_extra={"unit": "px"},
    )
    noise: Level | tuple[Level, Level] = Field(
        0.0,
        description="Standard deviation of Gaussian noise, for intensities in [0, 1]; or the lowest and the "
        "highest one, between which every patch has its own.",
    )
    gray: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of patches that are gray: all channels alike, their noise too, as a colour network "
        "sees a gray measurement.",
    )
    flip: bool = Field(True, description="Flip and transpose images at random.")
    recolour: bool = Field(True, description="Permute colour channels and lower the contrast at random.")
    motion: Motion = Field(Motion(), description="How the frames of a clip differ, for video networks.")

    @property
    def levels(self) -> tuple[float, float]:
        """The lowest and the highest noise level."""
        return self.noise if isinstance(self.noise, tuple) else (self.noise, self.noise)

    def side(self, scale: int, frames: int = 1) -> int:
        """Return the side, in pixels, that clean images must have at least for a network of this scale."""
        side = (self.patch_size + 2 * self.margin) * scale
        return side if frames == 1 else side + 2 * self.motion.margin(side, frames)

    def batch(
        self, data: TrainingSet, operator: Forward, scale: int, rng: np.random.Generator, frames: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one batch of pairs.

        Images are augmented before ``A`` is applied: right for every operator, symmetric or not.

        Parameters
        ----------
        data
            Clean images, none smaller than :meth:`side`.
        operator
            The image formation model.
        scale
            Pixels of the image per pixel of the measurement, along each axis.
        rng
            Decides on images, places, augmentation, motion and noise.
        frames
            Frames of the window that a video network restores a frame from.

        Returns
        -------
        tuple of Tensor
            ``y`` (N, frames·C, p, p) and ``x`` (N, C, p·scale, p·scale), the middle frame, for ``p = patch_size``;
            float32, x in [0, 1]. And the standard deviation of the noise in ``y``, (N, 1, 1, 1).

        Raises
        ------
        ShapeError
            If the operator does not reduce an image by exactly `scale`.
        """
        p, m, side = self.patch_size, self.margin, self.side(scale)
        picks = rng.choice(len(data.images), self.batch_size, p=data.weights)
        x = torch.from_numpy(np.stack([self._crop(data.images[i], self.side(scale, frames), rng) for i in picks]))
        gray = torch.from_numpy(rng.random(len(x)) < self.gray) if self.gray else None
        x = x if gray is None else _made_gray(x, x.mean(1, keepdim=True), gray)
        x, moving = (x, x) if frames == 1 else self._moving(x, side, frames, rng)
        y = operator.A(moving)
        if y.shape[-2:] != (p + 2 * m, p + 2 * m):
            raise ShapeError(
                f"The operator does not reduce {side} × {side} pixels by exactly {scale}",
                found=f"{y.shape[-2]} × {y.shape[-1]}",
                do="Train with an operator of the network's scale that keeps the border",
            )
        y, sigma = self._noisy(y, None if gray is None else gray.repeat_interleave(frames), frames, rng)
        y = y.reshape(len(x), -1, *y.shape[2:])
        n, q = m * scale, p * scale
        return y[..., m : m + p, m : m + p], x[..., n : n + q, n : n + q], sigma

    def _moving(self, x: Tensor, side: int, frames: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the middle frames and all frames (N·frames, C, side, side) of clips of the images."""
        cut = (x.shape[-1] - side) // 2
        inner = slice(cut, cut + side)
        clips = self.motion.clips(x, frames, rng)[..., inner, inner]
        return clips[:, frames // 2], clips.flatten(0, 1)

    def _noisy(
        self, y: Tensor, gray: Tensor | None, frames: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return frames (N·frames, C, h, w) with noise, and its level in each clip, (N, 1, 1, 1)."""
        sigma = torch.zeros(len(y) // frames, 1, 1, 1)
        if not self.noise:
            return y, sigma
        sigma = torch.from_numpy(rng.uniform(*self.levels, tuple(sigma.shape)).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal(tuple(y.shape), np.float32))
        noise = noise if gray is None else _made_gray(noise, noise[:, :1], gray)
        return y + sigma.repeat_interleave(frames, 0) * noise, sigma

    def _crop(self, image: Image, side: int, rng: np.random.Generator) -> Image:
        i, j = (int(rng.integers(n - side + 1)) for n in image.shape[1:])
        crop = image[:, i : i + side, j : j + side]
        if self.flip:
            flips, transpose = rng.integers(2, size=2), rng.integers(2)
            crop = crop[:, :: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]
            crop = crop.transpose(0, 2, 1) if transpose else crop
        if self.recolour:
            crop = crop[rng.permutation(len(crop))] if rng.random() < 0.5 else crop
            if rng.random() < 0.5:
                # an affine map into [0, 1]: nothing is clipped
                gain = rng.uniform(0.5, 1.0)
                crop = gain * crop + rng.uniform(0, 1 - gain)
        return np.ascontiguousarray(crop, np.float32)


def _made_gray(values: Tensor, one: Tensor, which: Tensor) -> Tensor:
    """Return values whose chosen entries have one channel in the place of all."""
    return torch.where(which[:, None, None, None], one.expand_as(values), values)
