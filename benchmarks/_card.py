"""The card that a bundled model comes with: what it is, what it was trained on, what it reaches."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from _video import video_table

from napari_fidelity.training.images import PHOTOS, PLAIN

if TYPE_CHECKING:
    from train_bundled import Recipe


def card(name: str, recipe: Recipe, n_parameters: int, seconds: float, numbers: dict[str, dict]) -> str:
    """Return the card of a bundled model, as Markdown."""
    held, t = numbers["validation_psnr"], recipe.train
    table = numbers.get("set5_psnr_y", {})
    rows = [f"| {image} | {row['bicubic']:.2f} | {row['network']:.2f} |" for image, row in table.items()]
    video = recipe.architecture == "VSR"
    windows = VIDEO.format(m=t.degrade.motion, share=100 * t.degrade.motion.still) if video else ""
    more = (
        VIDEO_NUMBERS + video_table(numbers["set5_psnr_y_of_clips"]) if "set5_psnr_y_of_clips" in numbers else ""
    )
    side = t.degrade.patch_size
    drawn = (
        f"windows of five frames of {side} × {side} enlarged" if video else f"patches of {side} × {side} measured"
    )
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
        rows="\n".join(rows or ["| not measured | | |"]) + more,
        drawn=drawn,
        task=recipe.task,
        simple="bicubic" if recipe.scale > 1 else "as measured",
        gray=windows
        or f"; {100 * t.degrade.gray:g} % of the patches gray, with the same noise in all channels"
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
    "VSR": "Lucas et al. 2019, doi:10.1109/TIP.2019.2895768",
}
SIZES = {
    "EDSR": "48 features and 8 residual blocks",
    "DRUNet": "32 to 192 features and 2 residual blocks a level",
    "VSR": "32 features, 15 residual blocks and windows of five frames",
}
BEGINNINGS = {
    "EDSR": "linear interpolation",
    "DRUNet": "random weights (seed 0)",
    "VSR": "bicubic interpolation",
}
ELSEWHERE = {
    "EDSR": "On anything else (blur, noise, another kernel) it is a starting point for data-consistency "
    "fine-tuning, not a result.",
    "DRUNet": "The network takes the noise level as a further input and estimates it where none is given. It is "
    "the prior of RED and DeepRED for any image formation model; by itself it removes noise, nothing else.",
    "VSR": "One set of weights serves all three scales, since the enlargement comes before the network. A frame "
    "is restored from itself and the two frames before and behind it, without motion compensation; of a still "
    "image the window holds replicas. On anything else (blur, noise, another kernel) it is a starting point for "
    "data-consistency fine-tuning, not a result.",
}

VIDEO = (
    ". A window of five frames is made of each by moving it at most {m.shift:g} pixels from frame to frame, at "
    "most {m.jitter:g} more at random, turning it by at most {m.turn:g}° and zooming it by at most {m.zoom:.0%}; "
    "{share:g} % of the windows are still"
)
VIDEO_NUMBERS = """

All three scales, mean over Set5 without a border of 16 pixels: every image restored from itself alone, as a
still image is, and as the middle frame of clips of it that move by at most so many pixels of the image from
frame to frame (seeds 0 to 4; the larger motion turns and zooms too, as in training).

"""

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

**Training.** {t.n_steps} steps of Adam from {begin}: batches of {t.degrade.batch_size} {drawn}
pixels, {t.loss} loss on RGB, learning rate
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
