"""Large images: memory and seconds per megapixel of fine-tuning in tiles, difference from untiled, and crops.

The measurement is MATLAB's ``imresize`` of photographs of scikit-image, mirrored and put side by side, rounded to
8 bit; the model is edsr-s-x2. It explains them so well that the default takes no gradient steps: `adaptive` is
off. Each row of sizes is a process of its own, whose largest resident memory is that of the row.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Rows, clock, markdown, parse, publish, verdicts
from skimage import data

from napari_fidelity.core.device import limit_memory
from napari_fidelity.core.step import drain
from napari_fidelity.io import load_model
from napari_fidelity.methods import FineTune
from napari_fidelity.metrics import psnr
from napari_fidelity.operators import Downsample, GaussianBlur
from napari_fidelity.stopping import Budget

SCALE = 2
LIMIT = 6.0  # GB that a run may take
SEAM = 1e-3  # of the range
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "immunohistochemistry")


def photograph(side: int) -> np.ndarray:
    """Return photographs side by side, each mirrored to fill its cell, as one of that side, 8-bit."""
    cell = 512
    rows = []
    for i in range(-(-side // cell)):
        row = []
        for j in range(-(-side // cell)):
            image = getattr(data, PHOTOGRAPHS[(i * 5 + j) % len(PHOTOGRAPHS)])()[..., :3]
            more = [(0, max(0, cell - n)) for n in image.shape[:2]]
            row.append(np.pad(image, (*more, (0, 0)), mode="symmetric")[:cell, :cell])
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)[:side, :side]


def measurement(side: int) -> torch.Tensor:
    x = torch.from_numpy(np.moveaxis(photograph(SCALE * side), -1, 0)[None].astype(np.float32))
    return Downsample(scale=SCALE).A(x).round().clamp(0, 255) / 255


def one_run(side: int, tile: int, precision: str, iterations: int, gigabytes: float, image: Path | None) -> None:
    """Fine-tune and print what it took, as JSON; ``tile`` 0 is the automatic one."""
    limit_memory(int(gigabytes * 1e9))
    y, network = measurement(side), load_model("edsr-s-x2")
    method = FineTune(iterations=iterations, precision=precision, tile=tile or None, adaptive=False)
    stop = Budget(iterations=iterations + 1)
    start = clock()
    result = drain(method.steps(y, Downsample(scale=SCALE), network, stop=stop))
    seconds = clock() - start
    if image is not None:
        np.save(image, result.image.numpy())
    row = {
        "tile": result.provenance.get("tile"),
        "margin": result.provenance.get("margin"),
        "iterations": len(result.history),
        "seconds": round(seconds, 1),
        "per_megapixel": round(seconds / (side**2 / 1e6) / len(result.history), 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "lr_psnr": [round(record.scores["lr_psnr"], 2) for record in result.history],
    }
    print(json.dumps(row))


def measured(
    args: Any,
    side: int,
    tile: int = 0,
    precision: str = "auto",
    limit: float = LIMIT,
    image: Path | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Return the row of a process of its own; ``steps`` in place of all gradient steps."""
    words = [sys.executable, __file__, "--side", str(side), "--tile", str(tile), "--precision", precision]
    words += ["--iterations", str(steps or args.iterations), "--limit", str(limit), "--threads", str(args.threads)]
    words += ["--image", str(image)] if image is not None else []
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def differences(rows: Rows, args: Any) -> list[dict[str, Any]]:
    """Measure tiled against untiled on 512², in both arithmetics."""
    found = []
    for precision in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{name}.npy" for name in ("untiled", "tiled")]

            def measure(precision: str = precision, files: list[Path] = files) -> dict[str, Any]:
                whole = measured(args, 512, 0, precision, 1e3, files[0])
                tiled = measured(args, 512, args.tiled, precision, 1e3, files[1])
                gap = np.abs(np.load(files[0]) - np.load(files[1]))
                return {
                    "tile": tiled["tile"],
                    "margin": tiled["margin"],
                    "seconds_whole": whole["seconds"],
                    "seconds_tiled": tiled["seconds"],
                    "ratio": round(tiled["seconds"] / whole["seconds"], 3),
                    "largest": float(gap.max()),
                    "mean": float(gap.mean()),
                    "peak_whole_gb": whole["peak_gb"],
                    "peak_tiled_gb": tiled["peak_gb"],
                }

            found.append(rows.make({"what": "against untiled", "precision": precision}, measure))
    return found


def from_crops(rows: Rows) -> list[dict[str, Any]]:
    """Measure what steps from some of 16 tiles cost and gain, where there is a blur beside the downsampling."""
    truth = photograph(512 * SCALE)
    x = torch.from_numpy(np.moveaxis(truth, -1, 0)[None].astype(np.float32))
    operator = Downsample(scale=SCALE) @ GaussianBlur(sigma=1.0)
    y = operator.A(x).round().clamp(0, 255) / 255
    found = []
    for crops in ("no steps", "all", "4", "1"):

        def measure(crops: str = crops) -> dict[str, Any]:
            method = FineTune(tile=128, crops=int(crops) if crops.isdigit() else None)
            method = method.replace(parameters="last") if crops == "no steps" else method
            start = clock()
            result = drain(method.steps(y, operator, load_model("edsr-s-x2"), stop=Budget(iterations=8)))
            seconds = clock() - start
            image = np.moveaxis(result.image[0].numpy(), 0, -1).clip(0, 1) * 255
            return {"seconds": round(seconds, 1), "psnr": round(psnr(image.round(), truth, data_range=255), 3)}

        found.append(rows.make({"what": "crops", "crops": crops}, measure))
    return found


def main() -> int:
    args = parse(__doc__, side=0, tile=0, precision="auto", iterations=11, limit=LIMIT, image="", tiled=256)
    if args.side:
        image = Path(args.image) if args.image else None
        one_run(args.side, args.tile, args.precision, args.iterations, args.limit, image)
        return 0
    rows = Rows(args.out / "large.jsonl", fresh=args.fresh)
    against = differences(rows, args)
    sides = (512, 1024, 2048)
    costs = [
        rows.make(
            {"what": "cost", "side": side}, lambda side=side: measured(args, side, limit=args.limit, steps=2)
        )
        for side in sides
    ]
    sizes = [
        rows.make({"what": "size", "side": side}, lambda side=side: measured(args, side, limit=args.limit))
        for side in sides
    ]
    table = [
        [f"{r['side']}²", r["tile"] or "none", r["iterations"], r["peak_gb"], r["seconds"], c["per_megapixel"]]
        for r, c in zip(sizes, costs, strict=True)
    ]
    cropped = [[r["crops"], r["seconds"], r["psnr"]] for r in from_crops(rows)]
    names = ("precision", "tile", "margin", "largest", "mean", "ratio", "peak_whole_gb", "peak_tiled_gb")
    beside = [[f"{r[n]:.1e}" if n in ("largest", "mean") else r[n] for n in names] for r in against]
    head = ["arithmetic", "tile", "margin", "largest difference", "mean", "seconds tiled / untiled"]
    head += ["peak GB untiled", "peak GB tiled"]
    large = sizes[-1]
    checks = [
        (f"2048² → 4096² within {args.limit:g} GB", large["peak_gb"] <= args.limit),
        (
            "seconds per megapixel at 2048² no more than a tenth above those at 1024²",
            costs[2]["per_megapixel"] <= 1.1 * costs[1]["per_megapixel"],
        ),
        ("difference from untiled below 1e-3 (float32)", against[0]["largest"] < SEAM),
        ("tiled costs at most 1.6 times untiled, 512²", all(r["ratio"] <= 1.6 for r in against)),
    ]
    publish(
        args.out / "large.md",
        "Large images",
        [
            f"Fine-tuning with edsr-s-x2, ×{SCALE}, the tile chosen for {args.limit:g} GB; peak resident memory "
            "of the process, seconds of the run; seconds per megapixel of the measurement and iteration are "
            "those of three iterations, one size after the other.",
            markdown(["measurement", "tile", "iterations", "peak GB", "seconds", "s/MP/iteration"], table),
            f"512² in tiles of {args.tiled} against untiled:",
            markdown(head, beside),
            "512² behind a blur (σ = 1 px), in 16 tiles, 8 iterations; gradient steps from so many tiles:",
            markdown(["tiles in a step", "seconds", "PSNR, dB"], cropped),
            verdicts(checks),
        ],
    )
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
