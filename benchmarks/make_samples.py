"""Make the plugin's samples again and measure them: ``python benchmarks/make_samples.py``.

Each sample is a part of an image inside the scikit-image wheel (the ground truth) and the measurement that an
image formation model makes of it. Both are written to ``src/napari_fidelity/bundled/samples`` with what is known
of them (``samples.json``); what the methods give on them goes to ``docs/samples.md``. A sample on which the
default fine-tuning does not beat bicubic interpolation has no place in a plugin: the command then ends with 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import torch
from _samples import SAMPLES, Sample

from napari_fidelity.core.arrays import Image
from napari_fidelity.methods import Apply, FineTune, Method, Project
from napari_fidelity.metrics import psnr
from napari_fidelity.operators import resize
from napari_fidelity.pipeline import restore

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "napari_fidelity" / "bundled" / "samples"
PAGE = ROOT / "docs" / "samples.md"
METHODS: dict[str, Method] = {"network": Apply(), "projection": Project(), "fine-tuning": FineTune()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the plugin's samples again and measure them.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="processor threads")
    torch.set_num_threads(parser.parse_args().threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    known, rows = {}, {}
    for key, sample in SAMPLES.items():
        measurement = measure(sample)
        known[key] = write(key, sample, measurement)
        rows[key] = scores(sample, measurement)
        print(key, {name: round(value, 2) for name, value in rows[key].items()}, flush=True)
    text = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
    (FOLDER / "samples.json").write_text(text, encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{size / 1000:.0f} kB in {FOLDER.name}")
    if worse := [key for key, row in rows.items() if row["fine-tuning"] <= row["bicubic"]]:
        raise SystemExit(f"No better than bicubic interpolation: {', '.join(worse)}")


def measure(sample: Sample) -> NDArray[Any]:
    """Return what the image formation model makes of the ground truth, in its dtype."""
    truth = sample.truth
    y = sample.formation.A(to_tensor(truth))
    if sample.noise:
        y = sample.noise.sample(y, torch.Generator().manual_seed(0))
    return to_array(y.round().clamp(0, np.iinfo(truth.dtype).max)).astype(truth.dtype)


def write(key: str, sample: Sample, measurement: NDArray[Any]) -> dict[str, Any]:
    """Write both images; return what the plugin has to know of them."""
    for role, image in (("measurement", measurement), ("truth", sample.truth)):
        encoded = imagecodecs.png_encode(np.ascontiguousarray(image), level=9)
        (FOLDER / f"{key}-{role}.png").write_bytes(encoded)
    formation: dict[str, Any] = {"operator": sample.formation.to_plain(), "model": sample.model}
    if sample.noise:
        formation["noise"] = sample.noise.to_plain()
    return {
        "title": sample.title,
        "measured": sample.measured,
        "about": sample.about,
        "formation": formation,
        "scale": sample.scale,
        "pixel_size": sample.pixel_size,
        "unit": sample.unit,
        "contrast_limits": [float(sample.truth.min()), float(sample.truth.max())],
        "seen_in_training": sample.seen,
        "licence": sample.licence,
        "source": sample.source,
    }


def scores(sample: Sample, measurement: NDArray[Any]) -> dict[str, float]:
    """Return the PSNR of every method, in dB over all channels; a peak is the way from black to white."""
    truth, (black, white) = sample.truth, sample.span
    image = Image(measurement, "YX" if measurement.ndim == 2 else "YXS")
    results = {"bicubic": to_array(resize(to_tensor(measurement), truth.shape[:2]))}
    for name, method in METHODS.items():
        run = restore(
            image,
            operator=sample.formation,
            method=method,
            model=sample.model,
            noise=sample.noise,
            seed=0,
            device="cpu",
        )
        results[name] = run.image.data
    return {name: psnr(result, truth, data_range=white - black) for name, result in results.items()}


def to_tensor(image: NDArray[Any]) -> torch.Tensor:
    channels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(channels[None].astype(np.float64))


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    array = np.moveaxis(tensor[0].numpy(), 0, -1)
    return array[..., 0] if array.shape[-1] == 1 else array


def page(rows: dict[str, dict[str, float]]) -> str:
    names = ("bicubic", *METHODS)
    lines = [
        f"| {SAMPLES[key].title} | {'yes' if SAMPLES[key].seen else 'no'} | "
        + " | ".join(f"{row[name]:.2f}" for name in names)
        + " |"
        for key, row in rows.items()
    ]
    table = "\n".join(
        ["| sample | seen in training | " + " | ".join(names) + " |", "|---|---|" + "---:|" * len(names), *lines]
    )
    items = [
        f"- **{sample.title}.** {sample.about} Ground truth: {sample.source}. {sample.licence}."
        for sample in SAMPLES.values()
    ]
    return TEXT.format(table=table, items="\n".join(items))


TEXT = """\
# Samples

*File ▸ Open Sample ▸ Fidelity* opens two layers: the measurement, and below it, hidden, the ground truth it was
made from, aligned with it to the pixel. The measurement's layer knows its image formation model, its noise and a
fitting network (`layer.metadata["napari-fidelity"]`); the Correct dock takes them over.

The measurements are computed, by the image formation model that is named: only so is there a ground truth. What is
not "seen in training" was never shown to the bundled networks while they were trained (portrait, coffee cup and
saucer were their validation images); the other samples were, at several sizes, and say so in their names: their
numbers flatter the networks. All images come from the scikit-image package. Those whose rights are not stated
there, such as the moon, were left out; a z-stack or a time series is not among them.

PSNR in dB over all channels against the ground truth: bicubic interpolation (of a noisy image: the image itself),
the network's own output, its range-space projection, and fine-tuning with its default settings (seed 0), as
`python benchmarks/make_samples.py` measures it when it makes the samples.

{table}

{items}
"""


if __name__ == "__main__":
    main()
