"""Train the bundled models again and write them with their cards: ``python benchmarks/train_bundled.py --help``.

Interrupt it at any time; the same command continues from the last checkpoint. On few cores one thread is fastest
for networks this small: ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from _card import BEGINNINGS, PAPERS, card
from _set5 import psnr_y, set5, to_uint8
from _video import ReducedAndEnlarged, video_numbers

from napari_fidelity.io.models import load_model, save_model
from napari_fidelity.networks.adapters import call_at_level
from napari_fidelity.networks.drunet import DRUNet
from napari_fidelity.networks.edsr import EDSR
from napari_fidelity.networks.vsr import VSR
from napari_fidelity.operators.resample import Downsample, resize
from napari_fidelity.training import Degrade, Train, TrainResult, training_set, validation_images

if TYPE_CHECKING:
    from napari_fidelity.networks.base import RestorationNetwork


@dataclass(frozen=True)
class Recipe:
    """What one bundled model is made of; `start` names the model whose trained layers it begins with."""

    scale: int
    train: Train
    start: str | None = None
    tested: float = 0.0  # standard deviation of the noise that the numbers are for
    architecture: str = "EDSR"

    @property
    def task(self) -> str:
        """What the model is for, in words."""
        if self.train.degrade.noise:
            low, high = self.train.degrade.noise
            level = f"standard deviation {255 * low:g} to {255 * high:g} of 255"
            known = "known" if self.architecture == "DRUNet" else "unknown"
            return f"Gaussian noise of {known} level ({level}), in colour and in gray images"
        if self.architecture == "VSR":
            return "bicubic downsampling ×2, ×3 and ×4 (MATLAB imresize), no noise; still images and five frames"
        return f"bicubic downsampling ×{self.scale} (MATLAB imresize), no noise"


COMMON = Train(
    precision="bfloat16", report_every=25, checkpoint_every=100, degrade=Degrade(batch_size=16, patch_size=32)
)
RECIPES = {
    "edsr-s-x4": Recipe(4, COMMON.replace(n_steps=2800, learning_rate=1e-3)),
    "edsr-s-x2": Recipe(2, COMMON.replace(n_steps=2000, learning_rate=7e-4), start="edsr-s-x4"),
    "edsr-s-x1": Recipe(
        1,
        COMMON.replace(
            n_steps=2400,
            learning_rate=7e-4,
            degrade=Degrade(batch_size=16, patch_size=32, noise=(0, 25 / 255), gray=0.4),
        ),
        start="edsr-s-x2",
        tested=15 / 255,
    ),
    "drunet-s": Recipe(
        1,
        COMMON.replace(
            n_steps=8000,
            learning_rate=8e-4,
            warmup=200,
            degrade=Degrade(batch_size=12, patch_size=64, noise=(0, 50 / 255), gray=0.3),
        ),
        tested=25 / 255,
        architecture="DRUNet",
    ),
    "vsr-s": Recipe(
        4,
        COMMON.replace(
            n_steps=2700,
            learning_rate=1e-3,
            degrade=Degrade(batch_size=9, patch_size=60),  # with the margin a multiple of all scales
        ),
        architecture="VSR",
    ),
}


HALVED = ("DRUNet", "VSR")  # saved in half precision


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled models again.")
    parser.add_argument("models", nargs="*", default=list(RECIPES), help=f"which of {', '.join(RECIPES)}")
    parser.add_argument("--out", type=Path, default=Path("bundled"), help="folder for models and cards")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder to resume from")
    parser.add_argument("--set5", type=Path, help="folder of the Set5 images, for the numbers in the cards")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for folder in (args.out, args.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        network, result = train(name, args.out, args.checkpoints / f"{name}.pt", args.device)
        write(name, network.cpu(), result, args.out, args.set5)


def train(name: str, out: Path, checkpoint: Path, device: str) -> tuple[RestorationNetwork, TrainResult]:
    """Train one model, or go on with it."""
    recipe = RECIPES[name]
    network = start(recipe, out).to(device)
    count = sum(p.numel() for p in network.parameters())
    print(f"{name}: {count} parameters, {recipe.train.n_steps} steps; checkpoint {checkpoint}", flush=True)
    steps = recipe.train.steps(
        network,
        training_set(0),
        ReducedAndEnlarged(network.frames) if recipe.architecture == "VSR" else Downsample(scale=recipe.scale),
        checkpoint=checkpoint,
        validation=validation_images(),
    )
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return network, end.value
        psnr = step.scores.get("val_psnr")
        if psnr is None:  # no report
            continue
        print(
            f"{step.index + 1:6d}  loss {step.loss:.5f}  validation {psnr:.3f} dB  {step.seconds:.0f} s",
            flush=True,
        )


def start(recipe: Recipe, out: Path) -> RestorationNetwork:
    if recipe.architecture == "DRUNet":
        torch.manual_seed(0)
        return DRUNet(n_channels=3, n_feats=(32, 64, 128, 192), n_blocks=2)
    if recipe.architecture == "VSR":  # of scale 1: what it is trained on is enlarged already
        return VSR(n_channels=3, n_feats=32, scale=1).start_as_interpolation(torch.Generator().manual_seed(0))
    if recipe.start is None:
        network = EDSR(n_channels=3, n_feats=48, n_blocks=8, scale=recipe.scale)
        return network.start_as_interpolation(torch.Generator().manual_seed(0))
    file = out / f"{recipe.start}.safetensors"
    network = load_model(file if file.exists() else recipe.start).to_scale(recipe.scale)
    return network.requires_grad_(True)


def write(
    name: str, network: RestorationNetwork, result: TrainResult, out: Path, set5_folder: Path | None
) -> None:
    """Write the model with its header and its card."""
    recipe = RECIPES[name]
    network = network.to_scale(recipe.scale)
    table = evaluate(network, recipe, set5_folder) if set5_folder else {}
    numbers = {
        "validation_psnr": {"network": validation(network, recipe), "bicubic": validation(None, recipe)},
        **({"set5_psnr_y": table} if table else {}),
    }
    if table and isinstance(network, VSR):
        numbers["set5_psnr_y_of_clips"] = video_numbers(network, set5_folder)
    settings = recipe.train.to_plain()
    # half precision keeps eleven bits of each weight, which changes no number of the card, and halves the file
    info = save_model(
        network.half() if recipe.architecture in HALVED else network,
        out / f"{name}.safetensors",
        overwrite=True,
        id=name,
        licence="BSD-3-Clause",
        source=f"{PAPERS[recipe.architecture]}, trained by benchmarks/train_bundled.py",
        trained_for=recipe.task,
        operator=Downsample(scale=recipe.scale).to_plain(),
        data=["scikit-image package", "procedural"],
        start=recipe.start or BEGINNINGS[recipe.architecture],
        train=settings,
        seconds=round(result.seconds),
        numbers=numbers,
    )
    (out / f"{name}.md").write_text(
        card(name, recipe, info.n_parameters, result.seconds, numbers), encoding="utf-8"
    )
    print(json.dumps({"id": name, "sha256": info.sha256, "seconds": round(result.seconds), **numbers}), flush=True)


def validation(network: RestorationNetwork | None, recipe: Recipe) -> float:
    """Return the mean PSNR, in dB over RGB, on the held-out crops; of bicubic enlargement without a network."""
    scores = []
    s = recipe.scale
    for image in validation_images():
        x = torch.from_numpy(image)[None]
        restored = restore(network, noisy(Downsample(scale=s).A(x), recipe.tested), x.shape[2:], recipe.tested)
        error = (restored - x)[..., s:-s, s:-s]
        scores.append(-10 * math.log10(float(error.square().mean())))
    return round(float(np.mean(scores)), 2)


def evaluate(network: RestorationNetwork, recipe: Recipe, folder: Path) -> dict[str, dict[str, float]]:
    """PSNR on Y, border crop = scale, of rounded 8-bit images, as the papers report it."""
    s, table = recipe.scale, {}
    for stem, x in set5(folder, s):
        # MATLAB rounds 8-bit images between rows and columns
        y = to_uint8(Downsample(scale=(1, s)).A(to_uint8(Downsample(scale=(s, 1)).A(x)))) / 255
        y = noisy(y, recipe.tested)
        networks = {"bicubic": None, "network": network}
        outputs = {kind: restore(each, y, x.shape[2:], recipe.tested) for kind, each in networks.items()}
        table[stem] = {kind: round(psnr_y(to_uint8(o * 255), x, s), 2) for kind, o in outputs.items()}
    mean = {
        kind: round(float(np.mean([row[kind] for row in table.values()])), 2) for kind in ("bicubic", "network")
    }
    return {**table, "mean": mean}


def noisy(y: torch.Tensor, sigma: float) -> torch.Tensor:
    return y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))


def restore(network: RestorationNetwork | None, y: torch.Tensor, shape: torch.Size, sigma: float) -> torch.Tensor:
    with torch.no_grad():
        return (call_at_level(network, y, sigma) if network else resize(y, shape)).clamp(0, 1)


if __name__ == "__main__":
    main()
