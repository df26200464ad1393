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
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import torch
from _video import ReducedAndEnlarged
from skimage.io import imread

from napari_fidelity.io.models import load_model, save_model
from napari_fidelity.networks.adapters import call_at_level
from napari_fidelity.networks.drunet import DRUNet
from napari_fidelity.networks.edsr import EDSR
from napari_fidelity.networks.vsr import VSR
from napari_fidelity.operators.resample import Downsample, resize
from napari_fidelity.training import Degrade, Train, TrainResult, training_set, validation_images
from napari_fidelity.training.images import PHOTOS, PLAIN

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
        psnr = step.scores["val_psnr"]
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


def write(name: str, network: RestorationNetwork, result: TrainResult, out: Path, set5: Path | None) -> None:
    """Write the model with its header and its card."""
    recipe = RECIPES[name]
    table = evaluate(network, recipe, set5) if set5 else {}
    numbers = {
        "validation_psnr": {"network": validation(network, recipe), "bicubic": validation(None, recipe)},
        **({"set5_psnr_y": table} if table else {}),
    }
    settings = recipe.train.to_plain()
    # half precision keeps eleven bits of each weight, which changes no number of the card, and halves the file
    info = save_model(
        network.half() if recipe.architecture == "DRUNet" else network,
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
    (out / f"{name}.md").write_text(card(name, info.n_parameters, result.seconds, numbers), encoding="utf-8")
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
    for file in sorted(folder.glob("*.png")):
        image = torch.from_numpy(imread(file)[..., :3].astype(np.float32)).permute(2, 0, 1)[None]
        x = image[..., : image.shape[2] // s * s, : image.shape[3] // s * s]
        # MATLAB rounds 8-bit images between rows and columns
        y = to_uint8(Downsample(scale=(1, s)).A(to_uint8(Downsample(scale=(s, 1)).A(x)))) / 255
        y = noisy(y, recipe.tested)
        networks = {"bicubic": None, "network": network}
        outputs = {kind: restore(each, y, x.shape[2:], recipe.tested) for kind, each in networks.items()}
        table[file.stem] = {kind: round(psnr_y(to_uint8(o * 255), x, s), 2) for kind, o in outputs.items()}
    mean = {
        kind: round(float(np.mean([row[kind] for row in table.values()])), 2) for kind in ("bicubic", "network")
    }
    return {**table, "mean": mean}


def noisy(y: torch.Tensor, sigma: float) -> torch.Tensor:
    return y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))


def restore(network: RestorationNetwork | None, y: torch.Tensor, shape: torch.Size, sigma: float) -> torch.Tensor:
    with torch.no_grad():
        return (call_at_level(network, y, sigma) if network else resize(y, shape)).clamp(0, 1)


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.5).floor().clamp(0, 255)


def psnr_y(output: torch.Tensor, target: torch.Tensor, crop: int) -> float:
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64)[:, None, None] / 255
    error = ((output.double() - target.double()) * weights).sum(1)[..., crop:-crop, crop:-crop]
    return 10 * math.log10(255**2 / float(error.square().mean()))


def card(name: str, n_parameters: int, seconds: float, numbers: dict[str, dict]) -> str:
    recipe = RECIPES[name]
    held, t = numbers["validation_psnr"], recipe.train
    table = numbers.get("set5_psnr_y", {})
    rows = [f"| {image} | {row['bicubic']:.2f} | {row['network']:.2f} |" for image, row in table.items()]
    text = CARD.format(
        name=name,
        scale=recipe.scale,
        count=f"{n_parameters:,}",
        n_photos=len(PHOTOS) + len(PLAIN),
        photos=", ".join(Path(file).stem for file in (*PHOTOS, *PLAIN)),
        begin=f"the trained layers of `{recipe.start}`" if recipe.start else BEGINNINGS[recipe.architecture],
        network_text=f"{recipe.architecture} ({PAPERS[recipe.architecture]}) with {SIZES[recipe.architecture]}",
        elsewhere=ELSEWHERE[recipe.architecture],
        first=f"{recipe.start} " if recipe.start else "",
        minutes=f"{seconds / 60:.0f}",
        network=f"{held['network']:.2f}",
        bicubic=f"{held['bicubic']:.2f}",
        rows="\n".join(rows or ["| not measured | | |"]),
        task=recipe.task,
        simple="bicubic" if recipe.scale > 1 else "as measured",
        gray=f"; {100 * t.degrade.gray:g} % of the patches gray, with the same noise in all channels"
        * bool(t.degrade.gray),
        under=f" with noise of standard deviation {255 * recipe.tested:g} of 255, seed 0" if recipe.tested else "",
        t=t,
    )
    return (
        "\n\n".join(part if part.startswith(AS_IT_IS) else fill(part, 110) for part in text.split("\n\n")) + "\n"
    )


AS_IT_IS = ("#", "|", "    ")

PAPERS = {
    "EDSR": "Lim et al. 2017, arXiv:1707.02921",
    "DRUNet": "Zhang et al. 2022, doi:10.1109/TPAMI.2021.3088914",
}
SIZES = {"EDSR": "48 features and 8 residual blocks", "DRUNet": "32 to 192 features and 2 residual blocks a level"}
BEGINNINGS = {"EDSR": "linear interpolation", "DRUNet": "random weights (seed 0)"}
ELSEWHERE = {
    "EDSR": "On anything else (blur, noise, another kernel) it is a starting point for data-consistency "
    "fine-tuning, not a result.",
    "DRUNet": "The network takes the noise level as a further input and estimates it where none is given. It is "
    "the prior of RED and DeepRED for any image formation model; by itself it removes noise, nothing else.",
}

CARD = """\
# {name}

{network_text}: {count} parameters, scale
×{scale}, RGB in [0, 1]. Licence of the weights: BSD-3-Clause.

**Trained for** {task}. {elsewhere}

**Data.** {n_photos} images inside the scikit-image package, each stated there to be in the public domain, CC0 or
without known copyright restrictions, at several sizes:
{photos}.
And 240 procedural images of 320 × 320 pixels (dead leaves, gratings, filaments, cells; seed 0), drawn as often.
Augmented by flips, transposition, permuted channels and lowered contrast{gray}. No benchmark image was trained on;
Set5 was looked at on the way. A crop of `astronaut` and one of `coffee`, which training never shows, are the
validation.

**Training.** {t.n_steps} steps of Adam from {begin}: batches of {t.degrade.batch_size} patches of
{t.degrade.patch_size} × {t.degrade.patch_size} measured pixels, {t.loss} loss on RGB, learning rate
{t.learning_rate:g} after {t.warmup} steps of warm-up, with cosine decay to 0, gradient norm at most
{t.clip:g}, weights averaged ({t.average:g}), bfloat16 convolutions, seed {t.seed}. {minutes} minutes on one
core of a server CPU.

**Numbers**{under}. Held-out crops, PSNR over RGB: {network} dB ({simple} {bicubic} dB). Set5, PSNR in dB on Y
(BT.601) of the rounded 8-bit output, border crop {scale}:

| image | {simple} | {name} |
|---|---|---|
{rows}

**Do it again** with the recipe in `benchmarks/train_bundled.py`:

    OMP_NUM_THREADS=1 python benchmarks/train_bundled.py {first}{name} --set5 PATH/TO/set5

Another processor or another version of torch rounds otherwise: expect the same numbers within a few
hundredths of a dB, not the same bits.
"""


if __name__ == "__main__":
    main()
