"""The problems of the reconstruction benchmark: images, measurements and how results are scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.filters import threshold_local
from skimage.io import imread
from skimage.transform import resize as resize_array

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.metrics import psnr
from napari_fidelity.operators import (
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    Noise,
    Operator,
    Radon,
    UniformBlur,
    random_mask,
    sampling_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGMA = 25 / 255  # of the denoising experiment
WEAK = 2**0.5 / 255  # of the deblurring experiment
CROP = slice(128, 384)  # of the 512 × 512 images of the denoising experiment, for processors
SET5 = ("butterfly", "head", "bird", "woman", "baby")


@dataclass(frozen=True)
class Problem:
    """One measurement to reconstruct an image from."""

    task: str
    name: str
    truth: torch.Tensor
    y: torch.Tensor
    operator: Operator
    noise: Noise | None
    score: Callable[[torch.Tensor], float]


def denoising(data: Path) -> Iterator[Problem]:
    """Gaussian noise of 25, clipped to [0, 1], seed 0; PSNR over RGB."""
    for name in ("house", "F16", "peppers"):
        image = imread(data / "color9_part" / f"{name}.png")[..., :3].astype(np.float32) / 255
        image = image if name == "house" else image[CROP, CROP]
        noise = np.random.default_rng(0).standard_normal(image.shape)
        y = tensor(np.clip(image + SIGMA * noise, 0, 1))
        yield Problem("denoise", name, tensor(image), y, Identity(), GaussianNoise(sigma=SIGMA), scored(image))


def deblurring(data: Path) -> Iterator[Problem]:
    """Uniform 9 × 9 and Gaussian blur of 1.6 px, noise of √2; PSNR on Y."""
    for name in ("butterfly", "leaves"):
        image = imread(data / "ncsr_part" / f"{name}.png")[..., :3].astype(np.float32) / 255
        for operator in (UniformBlur(size=9), GaussianBlur(sigma=1.6)):
            y = operator.A(tensor(image))
            y = y + WEAK * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
            task = f"deblur_{operator.kind.removesuffix('_blur')}"
            noise = GaussianNoise(sigma=WEAK)
            yield Problem(task, name, tensor(image), y, operator, noise, scored(image, channels="y"))


def super_resolution(data: Path) -> Iterator[Problem]:
    """Bicubic ×4 and ×8 on Set5, rounded as MATLAB does; PSNR on Y, border crop = scale."""
    for scale in (4, 8):
        for name in SET5:
            image = imread(data / "set5" / f"{name}.png")[..., :3]
            image = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
            y = tensor(image).double()
            for axis_scale in ((scale, 1), (1, scale)):  # MATLAB rounds between rows and columns
                y = (Downsample(scale=axis_scale).A(y) + 0.5).floor().clamp(0, 255)
            score = scored(image / np.float32(255), channels="y", crop=scale)
            operator = Downsample(scale=scale)
            yield Problem(
                f"super_resolution_x{scale}", name, tensor(image / 255), (y / 255).float(), operator, None, score
            )


def microscopy(data: Path) -> Iterator[Problem]:
    """Real noise, against an average of many frames, after fitting gain and offset."""
    for name, noisy, clean in (
        ("bacteria", "bacteria_noisy_u16.png", "bacteria_clean_u16.png"),
        ("fmd_bpae", "fmd_bpae_noisy_u8.png", "fmd_bpae_avg50_u8.png"),
        ("w2s_020_1", "w2s_020_1_noisy_u8.tif", "w2s_020_1_avg400_u8.tif"),
        ("w2s_044_0", "w2s_044_0_noisy_u8.tif", "w2s_044_0_avg400_u8.tif"),
    ):
        measured, truth = (imread(data / "microscopy" / file).astype(np.float32) for file in (noisy, clean))
        measured, truth = (crop(array, 256) for array in (measured, truth))
        low, high = float(measured.min()), float(measured.max())
        y = tensor((measured - low) / (high - low))
        yield Problem("microscopy", name, tensor(truth), y, Identity(), None, fitted(truth))


def medical(data: Path) -> Iterator[Problem]:
    """60 angles of parallel beam and a quarter of the Fourier samples, of a phantom and of a real slice."""
    phantom = resize_array(shepp_logan_phantom(), (192, 192), anti_aliasing=True).astype(np.float32)
    images = {"phantom": phantom, "slice": real_slice(data)}
    for name, image in images.items():
        x = tensor(image)
        radon = Radon(angles=60)
        y = radon.A(x)
        sigma = 0.01 * float(y.max())
        y = y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        yield Problem("tomography", name, x, y, radon, GaussianNoise(sigma=sigma), scored(image))
        mask = sampling_mask(image.shape, acceleration=4, rng=0)
        fourier = Fourier(mask=mask, image="real")
        y = fourier.A(x)
        sampled = torch.from_numpy(np.broadcast_to(mask, image.shape).copy()).float()
        y = y + 0.01 * sampled * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        yield Problem("fourier", name, x, y, fourier, GaussianNoise(sigma=0.01), scored(image))


def real_slice(data: Path) -> np.ndarray:
    """Return a confocal slice of cells, the average of 50 frames, 192 × 192 pixels."""
    image = imread(data / "microscopy" / "fmd_bpae_avg50_u8.png").astype(np.float32)
    image = resize_array(crop(image, 384), (192, 192), anti_aliasing=True)
    return ((image - image.min()) / (image.max() - image.min())).astype(np.float32)


def inpainting(data: Path) -> Iterator[Problem]:
    """Half of the pixels missing, and text written over the image; PSNR over RGB."""
    import skimage.data

    image = imread(data / "ncsr_part" / "butterfly.png")[..., :3].astype(np.float32) / 255
    text = imread(Path(skimage.data.__file__).parent / "text.png")[:128, :256]
    written = np.ones(image.shape[:2], np.float32)
    written[:128] = written[128:] = (text > threshold_local(text, 51, offset=12)).astype(np.float32)
    for name, mask in (("half", random_mask(image.shape[:2], 0.5, 0)), ("text", written)):
        operator = Mask(mask=mask)
        yield Problem("inpainting", name, tensor(image), operator.A(tensor(image)), operator, None, scored(image))


def jpeg(data: Path) -> Iterator[Problem]:
    """JPEG of quality 10, whose artefacts are taken for noise of 25; PSNR over RGB."""
    for name in ("butterfly", "leaves"):
        image = imread(data / "ncsr_part" / f"{name}.png")[..., :3]
        stored = iio.imread(iio.imwrite("<bytes>", image, extension=".jpg", quality=10), extension=".jpg")
        truth = image.astype(np.float32) / 255
        yield Problem(
            "jpeg",
            name,
            tensor(truth),
            tensor(stored / np.float32(255)),
            Identity(),
            GaussianNoise(sigma=SIGMA),
            scored(truth),
        )


TASKS: dict[str, Callable[[Path], Iterator[Problem]]] = {
    "denoising": denoising,
    "deblurring": deblurring,
    "super_resolution": super_resolution,
    "microscopy": microscopy,
    "medical": medical,
    "inpainting": inpainting,
    "jpeg": jpeg,
}


def tensor(image: np.ndarray) -> torch.Tensor:
    """Return an image (H, W) or (H, W, C) as a tensor (1, C, H, W)."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(planes)[None]).float()


def scored(truth: np.ndarray, **how: object) -> Callable[[torch.Tensor], float]:
    """Return the PSNR against a truth in [0, 1], of the clipped image; not rounded."""

    def score(x: torch.Tensor) -> float:
        return psnr(to_channel_last(x.detach().clamp(0, 1)), truth, data_range=1, **how)

    return score


def fitted(truth: np.ndarray) -> Callable[[torch.Tensor], float]:
    """Return the PSNR after fitting gain and offset, over the range of the truth."""

    def score(x: torch.Tensor) -> float:
        image = to_channel_last(x.detach()).astype(np.float64)
        design = np.stack([image.ravel(), np.ones(image.size)], axis=1)
        gain, offset = np.linalg.lstsq(design, truth.ravel().astype(np.float64), rcond=None)[0]
        return psnr(gain * image + offset, truth, data_range=float(np.ptp(truth)))

    return score


def crop(array: np.ndarray, size: int) -> np.ndarray:
    """Return the middle of a gray image."""
    start = [max(0, (n - size) // 2) for n in array.shape]
    return array[start[0] : start[0] + size, start[1] : start[1] + size]
