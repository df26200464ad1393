"""A time series adapted to frame by frame, in windows and as a whole: seconds, PSNR, flicker, memory.

    python benchmarks/video.py [--out FOLDER] [--threads 1] [--model edsr-s-x2] [--frames 8]

The clip is synthetic: a photograph of scikit-image that stands still, 128 × 128 pixels, and a disc cut from
another one, which moves over it by 0.6 and 1.4 pixels a frame. Each frame is downsampled by 2 (MATLAB bicubic),
in one case after a blur that the network was not trained for, with Gaussian noise of its own, whose strength the
methods are told. The flicker is that of the
pixels in which the noise-free clip does not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _common import Rows, bundled, clock, markdown, mean, parse, publish, verdicts
from skimage import data

from napari_fidelity import Image, restore
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.metrics import flicker, psnr
from napari_fidelity.metrics.flicker import course, enlarged, static_region
from napari_fidelity.operators import Compose, Downsample, GaussianBlur, GaussianNoise, Operator
from napari_fidelity.operators.resample import resize
from napari_fidelity.pipeline import Recipe, memory_needed

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 128  # pixels of a true frame
SPEED = (0.6, 1.4)  # pixels of it by which the disc moves from frame to frame
RADIUS = 20
PLAIN = Downsample(scale=2)

CASES: dict[str, tuple[Operator, float]] = {
    "noise of 2 grey levels": (PLAIN, 2.0),
    "noise of 8 grey levels": (PLAIN, 8.0),
    "blur of 1.6 px, noise of 1 grey level": (Compose(operators=(GaussianBlur(sigma=1.6), PLAIN)), 1.0),
}
WAYS: dict[str, tuple[Any, Any]] = {
    "bicubic": (None, "auto"),
    "network": (Apply(), "auto"),
    "projection": (Project(), "auto"),
    "fine-tuning, frame": (FineTune(), "frame"),
    "fine-tuning, window": (FineTune(), "window"),
    "fine-tuning, whole": (FineTune(), "whole"),
}


def clip(frames: int) -> NDArray[np.float64]:
    """Return the true clip ``(T, H, W)``, grey levels 0 … 255."""
    still = data.coins()[40 : 40 + SIDE, 60 : 60 + SIDE].astype(np.float64)
    inside = data.camera()[40 : 40 + SIDE, 180 : 180 + SIDE].astype(np.float64)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    found = []
    for t in range(frames):
        middle = 50 + SPEED[0] * t, 40 + SPEED[1] * t
        distance = np.hypot(y - middle[0], x - middle[1])
        cover = np.clip(RADIUS - distance + 0.5, 0, 1)  # of each pixel by the disc
        found.append(still + cover * (moved(inside, SPEED[0] * t, SPEED[1] * t) - still))
    return np.stack(found)


def moved(image: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """Return an image moved by a fraction of a pixel, by its Fourier series."""
    rows, columns = (np.fft.fftfreq(n)[:, None] for n in image.shape)
    phase = np.exp(-2j * np.pi * (rows * down + columns.T * right))
    return np.real(np.fft.ifft2(np.fft.fft2(image) * phase))


def measured(true: NDArray[np.float64], case: str) -> Image:
    """Return the measurement of the clip."""
    operator, sigma = CASES[case]
    small = operator.A(torch.from_numpy(true)[:, None])[:, 0].numpy()
    return Image((small + np.random.default_rng(0).normal(0, sigma, small.shape)).astype(np.float32), "TYX")


def restored(way: str, y: Image, case: str, network: torch.nn.Module) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return the clip that a way gives, its seconds and the memory it was said to need."""
    method, series = WAYS[way]
    if method is None:
        return resize(torch.from_numpy(y.data.copy())[:, None], (SIDE, SIDE))[:, 0].numpy(), {}
    operator, sigma = CASES[case]
    settings = {"operator": operator, "noise": GaussianNoise(sigma=sigma), "method": method, "series": series}
    start = clock()
    result = restore(y, model=network, device="cpu", **settings)
    seconds = clock() - start
    memory = memory_needed(Recipe(**settings), y, "cpu", network=network).method
    return result.image.data, {
        "seconds": round(seconds, 1),
        "memory": round(memory / 1e6),
        "runs": result.provenance["blocks"],
        "iterations": round(mean(run["iterations"] for run in result.provenance["runs"]), 1),
    }


def row(way: str, case: str, true: NDArray[np.float64], network: torch.nn.Module) -> dict[str, Any]:
    y = measured(true, case)
    image, cost = restored(way, y, case, network)
    found = flicker(image, y.data, static_region(course(true)))
    pairs = zip(image, true, strict=True)
    return {
        "psnr": round(mean(psnr(a, b, data_range=255, crop=2) for a, b in pairs), 2),
        "flicker": round(found.value, 3),
        "ratio": round(found.relative, 3),
        **cost,
    }


def report(case: str, true: NDArray[np.float64], found: dict[str, dict[str, Any]]) -> str:
    """Return the table of one case."""
    y, still = measured(true, case).data, static_region(course(true))
    alone = flicker(np.stack([enlarged(frame, (SIDE, SIDE)) for frame in y]), static=still)
    head = ["", "PSNR", "flicker", "of the measurement's", "seconds", "runs", "iterations of each", "MB"]
    names = ("psnr", "flicker", "ratio", "seconds", "runs", "iterations", "memory")
    table = markdown(head, [[way, *(values.get(name, "–") for name in names)] for way, values in found.items()])
    return (
        f"## {case[0].upper()}{case[1:]}\n\n{table}\n\nMeasurement, enlarged by splines: flicker "
        f"{alone.value:.3f}; {100 * alone.static:.0f} % of the pixels are static."
    )


def main() -> None:
    args = parse(__doc__, model="edsr-s-x2", frames=8)
    network = bundled(args.model)
    if network is None:
        return
    true = clip(args.frames)
    rows = Rows(args.out / "video.jsonl", fresh=args.fresh)
    parts, checks = [], []
    for case in CASES:
        restored("network", measured(true, case), case, network)  # fills the caches
        found = {}
        for way in WAYS:
            key = {"way": way, "case": case, "frames": args.frames, "model": args.model}
            found[way] = rows.make(key, lambda way=way, case=case: row(way, case, true, network))
        parts.append(report(case, true, found))
        frame, whole = found["fine-tuning, frame"], found["fine-tuning, whole"]
        text = f"{case}: adapted to as a whole, the series flickers no more than frame by frame"
        checks.append((text, whole["flicker"] <= frame["flicker"]))
    title = f"Time series: {args.frames} frames of {SIDE // 2} × {SIDE // 2}, ×2, {args.model}"
    publish(args.out / "video.md", title, [*parts, verdicts(checks)])
    raise SystemExit(0 if all(good for _, good in checks) else 1)


if __name__ == "__main__":
    main()
