"""Where clean images come from: the scikit-image package, procedures, or the user's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.blocks import planes
from napari_fidelity.core.cubic import cubic
from napari_fidelity.core.errors import ImageError, NonFiniteError
from napari_fidelity.io.images import read_image
from napari_fidelity.training.synthetic import KINDS, Image

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "ihc.png",
)
"""Colour photographs inside the scikit-image wheel, readable without a download.

Only images whose docstring in ``skimage.data`` says public domain, CC0 or no known copyright restrictions.
"""
PLAIN = (
    "retina.jpg",
    "hubble_deep_field.jpg",
    "camera.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "coins.png",
    "cell.png",
    "clock_motion.png",
    "text.png",
)
"""Gray or mostly smooth images inside the scikit-image wheel, with the same rights; drawn less often."""

# What only validation sees, and what training keeps: 8 pixels lie between.
_HELD_OUT = {
    "astronaut.png": ((slice(0, 256), slice(96, 352)), (slice(264, None), slice(None))),
    "coffee.png": ((slice(144, 400), slice(0, 256)), (slice(None), slice(264, None))),
}
_MIX = ("dead_leaves", "dead_leaves", "dead_leaves", "dead_leaves", "gratings", "filaments", "cells")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SMALLEST, _LARGEST = 160, 1_000_000  # side and area, in pixels, of the reduced copies that are worth having


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Clean images (C, H, W), float32 in [0, 1], and how often each is drawn (the weights sum to 1)."""

    images: tuple[Image, ...]
    weights: NDArray[np.float64]

    def at_least(self, side: int) -> TrainingSet:
        """Keep the images whose height and width are `side` pixels or more.

        Raises
        ------
        ImageError
            If there is none.
        """
        keep = [i for i, image in enumerate(self.images) if min(image.shape[1:]) >= side]
        if not keep:
            raise ImageError(
                f"No training image has {side} pixels or more on each side",
                do="Add larger images, or reduce patch_size or margin",
            )
        weights = self.weights[keep]
        return TrainingSet(tuple(self.images[i] for i in keep), weights / weights.sum())


def training_set(
    seed: int = 0,
    *,
    n_channels: int = 3,
    n_synthetic: int = 240,
    synthetic_size: int = 320,
    synthetic_share: float = 0.5,
    folder: str | os.PathLike[str] | None = None,
) -> TrainingSet:
    """Collect photographs, at several sizes, and procedural images.

    Parameters
    ----------
    seed
        Seed of the procedural images; the same seed makes the same set.
    n_channels
        1 (gray) or 3 (RGB).
    n_synthetic, synthetic_size
        Number of the procedural images and their side in pixels; four in seven are dead leaves.
    synthetic_share
        How often a procedural image is drawn, 0 to 1.
    folder
        Take the images of this folder (PNG, JPEG, TIFF, stacks slice by slice) instead of scikit-image's.

    Raises
    ------
    ImageError
        If the folder holds no image, or one that cannot be read.
    """
    photos, often = _wheel_photos(n_channels) if folder is None else _folder_photos(Path(folder), n_channels)
    rng = np.random.default_rng([seed, 1])
    size = (synthetic_size, synthetic_size)
    drawn = [KINDS[_MIX[i % len(_MIX)]](rng, size, n_channels) for i in range(n_synthetic)]
    share = synthetic_share if drawn else 0.0
    weights = np.concatenate([(1 - share) * often / often.sum(), np.full(len(drawn), share / max(len(drawn), 1))])
    return TrainingSet((*photos, *drawn), weights / weights.sum())


def validation_images(n_channels: int = 3) -> tuple[Image, ...]:
    """Return the two crops (C, 256, 256) in [0, 1] of photographs that :func:`training_set` never shows."""
    return tuple(
        np.ascontiguousarray(_with_channels(_read_wheel(name), n_channels)[:, *held])
        for name, (held, _) in _HELD_OUT.items()
    )


def shrink(image: Image, factor: float) -> Image:
    """Reduce an image (C, H, W) by a factor ≥ 1 with an antialiased cubic: more detail per pixel."""
    for axis in (1, 2):
        n = image.shape[axis]
        centre = (np.arange(int(n / factor)) + 0.5) * factor - 0.5
        matrix = cubic((np.arange(n)[None] - centre[:, None]) / factor)
        matrix = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    return np.clip(image, 0, 1).astype(np.float32)


def _wheel_photos(n_channels: int) -> tuple[list[Image], NDArray[np.float64]]:
    photos: list[Image] = []
    often: list[float] = []
    for name in (*PHOTOS, *PLAIN):
        image = _with_channels(_read_wheel(name), n_channels)
        if name in _HELD_OUT:
            image = image[:, *_HELD_OUT[name][1]]
        copies = _pyramid(image)
        photos += copies
        often += [(3.0 if name in PHOTOS else 1.0) * np.sqrt(photo[0].size) for photo in copies]
    return photos, np.array(often)


def _folder_photos(folder: Path, n_channels: int) -> tuple[list[Image], NDArray[np.float64]]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ImageError(f"There is no image in the folder '{folder}'", do="Put PNG, JPEG or TIFF files there")
    photos: list[Image] = []
    for file in files:
        image = read_image(file, alpha="drop")
        for block in planes(image, channels="joint" if "S" in image.axes else "each"):
            photos += _pyramid(_with_channels(_unit_range(block.data), n_channels))
    return photos, np.array([np.sqrt(photo[0].size) for photo in photos])


def _pyramid(image: Image) -> list[Image]:
    """Return the image and its reduced copies; a photograph is sharper when reduced."""
    copies = [image if factor == 1 else shrink(image, factor) for factor in (1.0, 1.4, 2.0, 3.0)]
    useful = [copy for copy in copies if min(copy.shape[1:]) >= _SMALLEST and copy[0].size <= _LARGEST]
    return useful or copies[:1]


def _read_wheel(name: str) -> Image:
    """Return an image (1 or 3, H, W) in [0, 1] that lies inside the scikit-image package."""
    import skimage.data
    from skimage.io import imread

    # by path: skimage.data's own functions may want to download
    array = np.asarray(imread(Path(skimage.data.__file__).parent / name))
    return _unit_range(array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0))


def _unit_range(array: NDArray[Any]) -> Image:
    """Bring 8-bit intensities to [0, 1] by their dtype, all others by their own minimum and maximum."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(high - low):
        raise NonFiniteError("A training image holds values that are not numbers", do="Leave it out")
    return ((array.astype(np.float64) - low) / (high - low or 1.0)).astype(np.float32)


def _with_channels(image: Image, n_channels: int) -> Image:
    """Average colours to one channel, or repeat one channel."""
    if n_channels == 1:
        image = image.mean(0, dtype=np.float32, keepdims=True)
    elif len(image) != n_channels:
        image = np.repeat(image[:1], n_channels, 0)
    return np.ascontiguousarray(image, np.float32)
