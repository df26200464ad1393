"""Bicubic downsampling: agreement with and speed against deepinv, bands against dense matrices, Set5.

    python benchmarks/resample.py [--data FOLDER] [--repeats 15]

FOLDER holds ``set5/*.png``; by default ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.io import imread

from napari_fidelity.operators import Downsample, _matrix
from napari_fidelity.operators._axes import Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DATA = Path(__file__).parents[2] / "shared" / "data"
EXPECTED = {2: 33.68, 3: 30.41, 4: 28.43}


def forward(operator: Any, x: torch.Tensor) -> Callable[[], object]:
    return lambda: operator.A(x)


def forward_backward(operator: Any, x: torch.Tensor) -> Callable[[], object]:
    leaf = x.clone().requires_grad_()

    def run() -> object:
        return torch.autograd.grad(operator.A(leaf).square().sum(), leaf)

    return run


def paired(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Return the median milliseconds of both and the median ratio second / first of neighbouring runs."""
    pairs = []
    for _ in range(repeats + 2):
        times = []
        for run in (first, second):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        pairs.append(times)
    pairs = pairs[2:]  # the first runs fill caches
    a, b = zip(*pairs, strict=True)
    return statistics.median(a), statistics.median(b), statistics.median(v / u for u, v in pairs)


def against_deepinv(repeats: int) -> bool:
    try:
        from deepinv.physics import DownsamplingMatlab
    except (ImportError, RuntimeError) as error:
        print(f"deepinv cannot be imported, comparison left out: {error}")
        return True
    generator = torch.Generator().manual_seed(0)
    print("Against deepinv's DownsamplingMatlab, ×4 of 512², float32; times in ms")
    print(f"{'channels':>8} {'pass':<18} {'own':>8} {'deepinv':>8} {'ratio':>7} {'largest difference':>19}")
    good = True
    for channels in (1, 3):
        x = torch.rand(1, channels, 512, 512, generator=generator)
        own, other = Downsample(scale=4), DownsamplingMatlab(factor=4)
        gap = float((own.A(x) - other.A(x)).abs().max())
        for name, make in (("forward", forward), ("forward + backward", forward_backward)):
            a, b, ratio = paired(make(own, x), make(other, x), repeats)
            print(f"{channels:>8} {name:<18} {a:>8.2f} {b:>8.2f} {ratio:>6.1f}× {gap:>19.1e}")
            good &= ratio >= 5 and gap <= 1e-6
    print(f"At least 5 times as fast, and within 1e-6: {'yes' if good else 'NO'}\n")
    return good


def bands_against_dense(repeats: int) -> None:
    x = torch.rand(1, 1, 2048, 2048, generator=torch.Generator().manual_seed(0))
    operator = Downsample(scale=4)
    chain = (Resample(4.0),)
    dense = torch.from_numpy(chain[0].matrix(2048).toarray()).to(x.dtype)
    blocks = len(_matrix.axis_matrix(chain, 2048, x.dtype, x.device).blocks)
    gap = float((operator.A(x) - dense @ x @ dense.T).abs().max())
    a, b, ratio = paired(lambda: operator.A(x), lambda: dense @ x @ dense.T, repeats)
    print(f"×4 of 2048², forward: {blocks} blocks per axis {a:.1f} ms, dense {b:.1f} ms, {ratio:.1f}×")
    print(f"Largest difference: {gap:.1e}\n")


def luminance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return Y of YCbCr (BT.601, 16 to 235) on the 0..255 scale."""
    rgb = image[..., :3].astype(np.float64) if image.ndim == 3 else np.stack([image] * 3, -1).astype(np.float64)
    return np.asarray(16 + rgb @ [65.481, 128.553, 24.966] / 255)


def imresize_uint8(image: NDArray[np.uint8], factors: tuple[Resample | Resize, ...]) -> NDArray[np.uint8]:
    """Resize as MATLAB does it on uint8 images: rounded after the first axis and after the second."""
    for axis, factor in enumerate(factors):
        matrix = factor.matrix(image.shape[axis])
        moved = np.moveaxis(image, axis, 0)
        product = matrix @ moved.reshape(moved.shape[0], -1).astype(np.float64)
        rounded = np.clip(np.floor(product + 0.5), 0, 255).astype(np.uint8)
        image = np.moveaxis(rounded.reshape(-1, *moved.shape[1:]), 0, axis)
    return image


def set5_bicubic(folder: Path, scale: int) -> float:
    """Return the mean PSNR (Y, border crop = scale) of bicubic down- and upsampling."""
    values = []
    for path in sorted(folder.glob("*.png")):
        image = imread(path)
        image = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
        small = imresize_uint8(image, (Resample(scale), Resample(scale)))
        large = imresize_uint8(small, (Resize(image.shape[0]), Resize(image.shape[1])))
        error = (luminance(image) - luminance(large))[scale:-scale, scale:-scale]
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    return float(np.mean(values))


def set5(folder: Path) -> bool:
    if not folder.is_dir():
        print(f"Set5 left out: there is no folder {folder}")
        return True
    good = True
    for scale, expected in EXPECTED.items():
        found = set5_bicubic(folder, scale)
        good &= abs(found - expected) <= 0.03
        print(f"Set5 bicubic ×{scale}, Y: {found:.3f} dB (published {expected})")
    print(f"Within 0.03 dB: {'yes' if good else 'NO'}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    good = against_deepinv(arguments.repeats)
    bands_against_dense(arguments.repeats)
    good &= set5(arguments.data / "set5")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
