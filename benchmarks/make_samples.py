"""Make the plugin's samples again and measure them: ``python benchmarks/make_samples.py``.

Each sample is a part of an image inside the scikit-image wheel (the ground truth) and the measurement that an image
formation model makes of it. Both are written to ``src/napari_fidelity/bundled/samples`` with what is known of them
(``samples.json``); what the methods give on them goes to ``docs/samples.md``. A sample on which the default
fine-tuning does not beat bicubic interpolation has no place in a plugin: the command then ends with 1.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import skimage.data
import torch
from skimage.io import imread

from napari_fidelity.core.arrays import Image
from napari_fidelity.methods import Apply, FineTune, Method, Project
from napari_fidelity.metrics import psnr
from napari_fidelity.operators import GaussianNoise, Operator, PoissonGaussianNoise, parse_operator, resize
from napari_fidelity.pipeline import restore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators import Noise

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "napari_fidelity" / "bundled" / "samples"
PAGE = ROOT / "docs" / "samples.md"
BLURRED = "gaussian_blur:sigma=1.6 + downsample:scale=2"
NO_KNOWN = "No known copyright restrictions"
METHODS: dict[str, Method] = {"network": Apply(), "projection": Project(), "fine-tuning": FineTune()}


@dataclass(frozen=True)
class Camera:
    """A simulated camera: 16-bit, with photon noise and read noise.

    Attributes
    ----------
    gain
        Gray levels per photoelectron.
    offset
        Gray level without light.
    read_noise
        Standard deviation in gray levels.
    step
        Gray levels of the camera for one gray level of the 8-bit original.
    """

    gain: float = 2.0
    offset: int = 100
    read_noise: float = 4.0
    step: int = 32

    def expose(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return (self.offset + self.step * image.astype(np.uint16)).astype(np.uint16)


@dataclass(frozen=True)
class Sample:
    """What one sample is made of.

    Attributes
    ----------
    title, measured, about
        In words: what it shows, what was done to it (both in the names of the layers), and more exactly.
    file, rows, columns, channel
        The part of which image of scikit-image.
    operator, camera, sigma
        How the measurement is formed; `sigma` is the standard deviation of Gaussian noise in gray levels.
    pixel_size, unit
        Of the measurement.
    model, seen
        Fitting network, and whether the bundled networks were trained on the image.
    """

    title: str
    file: str
    rows: slice
    columns: slice
    licence: str
    source: str
    operator: str = BLURRED
    model: str = "edsr-s-x2"
    channel: int | None = None
    camera: Camera | None = None
    sigma: float = 0.0
    pixel_size: float = 1.0
    unit: str = "pixel"
    seen: bool = True
    measured: str = "blurred and ×2 smaller"
    about: str = ""

    @property
    def scale(self) -> int:
        return int(self.formation.grid(2).scale[0])

    @property
    def formation(self) -> Operator:
        return parse_operator(self.operator)

    @property
    def noise(self) -> Noise | None:
        if self.camera:
            return PoissonGaussianNoise(
                gain=self.camera.gain, offset=self.camera.offset, sigma=self.camera.read_noise
            )
        return GaussianNoise(sigma=self.sigma) if self.sigma else None

    @property
    def truth(self) -> NDArray[Any]:
        image = imread(Path(skimage.data.__file__).parent / self.file)[self.rows, self.columns]
        image = image if self.channel is None else image[..., self.channel]
        return self.camera.expose(image) if self.camera else image

    @property
    def span(self) -> tuple[int, int]:
        """Gray levels of black and white."""
        return (self.camera.offset, self.camera.offset + 255 * self.camera.step) if self.camera else (0, 255)


SAMPLES = {
    "portrait": Sample(
        "Portrait",
        "astronaut.png",
        slice(0, 256),
        slice(96, 352),
        "Public domain",
        "NASA: Eileen Collins; scikit-image, skimage.data.astronaut",
        seen=False,
        about="Blurred by a Gaussian of 1.6 pixels and downsampled by 2; the network was trained without blur.",
    ),
    "coffee": Sample(
        "Coffee cup",
        "coffee.png",
        slice(144, 400),
        slice(0, 256),
        "CC0",
        "Photograph: Rachel Michetti, Pikolo Espresso Bar; scikit-image, skimage.data.coffee",
        operator="downsample:scale=4",
        model="edsr-s-x4",
        seen=False,
        measured="×4 smaller",
        about="Downsampled by 4, just what the network was trained for: there is little to correct.",
    ),
    "saucer": Sample(
        "Saucer",
        "coffee.png",
        slice(272, 400),
        slice(0, 160),
        "CC0",
        "Photograph: Rachel Michetti, Pikolo Espresso Bar; scikit-image, skimage.data.coffee",
        operator="identity",
        sigma=15.0,
        model="edsr-s-x1",
        seen=False,
        measured="noisy",
        about="A part of the coffee cup with Gaussian noise of 15 gray levels, cut off at black and white.",
    ),
    "retina": Sample(
        "Retina with microaneurysms",
        "microaneurysms.png",
        slice(None),
        slice(None),
        "CC0",
        "High-Resolution Fundus image database, 07_dr, green channel: Andreas Maier; scikit-image, "
        "skimage.data.microaneurysms",
        seen=False,
        about="Blurred by a Gaussian of 1.6 pixels and downsampled by 2.",
    ),
    "cell": Sample(
        "Cell, phase image",
        "cell.png",
        slice(278, 470),
        slice(332, 524),
        "CC0",
        "Müller, Schürmann, Girardo, Cojoc and Guck 2018, doi:10.1364/OE.26.010729; scikit-image, skimage.data.cell",
        pixel_size=0.214,
        unit="µm",
        about="Quantitative phase image with 0.107 µm per pixel, blurred by a Gaussian of 1.6 pixels and downsampled "
        "by 2.",
    ),
    "tissue": Sample(
        "Tissue section",
        "ihc.png",
        slice(128, 384),
        slice(128, 384),
        NO_KNOWN,
        "Colonic glands, FHL2 by DAB with hematoxylin: Center for Microscopy And Molecular Imaging; scikit-image, "
        "skimage.data.immunohistochemistry",
        about="Blurred by a Gaussian of 1.6 pixels and downsampled by 2.",
    ),
    "galaxies": Sample(
        "Galaxies",
        "hubble_deep_field.jpg",
        slice(300, 556),
        slice(300, 556),
        "Public domain",
        "Hubble eXtreme Deep Field, green channel: NASA; scikit-image, skimage.data.hubble_deep_field",
        channel=1,
        camera=Camera(),
        pixel_size=6.5,
        unit="µm",
        measured="noisy camera, blurred and ×2 smaller",
        about="As a 16-bit camera would record it: blurred by a Gaussian of 1.6 pixels, downsampled by 2, at most 4080 "
        "photoelectrons per pixel, gain 2, offset 100, read noise 4 gray levels (2 electrons). The pixel size is "
        "that of the simulated sensor.",
    ),
}


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

*File ▸ Open Sample ▸ Fidelity* opens two layers: the measurement, and below it, hidden, the ground truth it was made
from, aligned with it to the pixel. The measurement's layer knows its image formation model, its noise and a fitting
network (`layer.metadata["napari-fidelity"]`); the Correct dock takes them over.

The measurements are computed, by the image formation model that is named: only so is there a ground truth. What is not
"seen in training" was never shown to the bundled networks while they were trained (portrait, coffee cup and saucer were their
validation images); the other samples were, at several sizes, and say so in their names: their numbers flatter the
networks. All images come from the scikit-image package. Those whose rights are not stated there, such as the moon,
were left out; a z-stack or a time series is not among them.

PSNR in dB over all channels against the ground truth: bicubic interpolation (of a noisy image, the image itself), the network's own output, its range-space
projection, and fine-tuning with its default settings (seed 0), as `python benchmarks/make_samples.py` measures it when
it makes the samples.

{table}

{items}
"""


if __name__ == "__main__":
    main()
