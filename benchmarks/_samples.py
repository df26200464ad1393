"""What the plugin's samples are made of; ``make_samples.py`` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import skimage.data
from skimage.io import imread

from napari_fidelity.operators import GaussianNoise, Operator, PoissonGaussianNoise, parse_operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators import Noise

BLURRED = "gaussian_blur:sigma=1.6 + downsample:scale=2"
NO_KNOWN = "No known copyright restrictions"


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
        """Return the image in the camera's gray levels."""
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
    measured: str = "blurred, ×2 smaller"
    about: str = ""

    @property
    def scale(self) -> int:
        """How much finer the ground truth is."""
        return int(self.formation.grid(2).scale[0])

    @property
    def formation(self) -> Operator:
        """The image formation model."""
        return parse_operator(self.operator)

    @property
    def noise(self) -> Noise | None:
        """The noise model, in gray levels of the measurement."""
        if self.camera:
            return PoissonGaussianNoise(
                gain=self.camera.gain, offset=self.camera.offset, sigma=self.camera.read_noise
            )
        return GaussianNoise(sigma=self.sigma) if self.sigma else None

    @property
    def truth(self) -> NDArray[Any]:
        """The ground truth, in the measurement's gray levels."""
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
        "Retina",
        "microaneurysms.png",
        slice(None),
        slice(None),
        "CC0",
        "High-Resolution Fundus image database, 07_dr, green channel: Andreas Maier; scikit-image, "
        "skimage.data.microaneurysms",
        seen=False,
        about="Microaneurysms and vessels, blurred by a Gaussian of 1.6 pixels and downsampled by 2.",
    ),
    "cell": Sample(
        "Cell",
        "cell.png",
        slice(278, 470),
        slice(332, 524),
        "CC0",
        "Müller, Schürmann, Girardo, Cojoc and Guck 2018, doi:10.1364/OE.26.010729; scikit-image, "
        "skimage.data.cell",
        pixel_size=0.214,
        unit="µm",
        about="Quantitative phase image with 0.107 µm per pixel, blurred by a Gaussian of 1.6 pixels and "
        "downsampled by 2.",
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
        measured="noisy, blurred, ×2 smaller",
        about="As a 16-bit camera would record it: blurred by a Gaussian of 1.6 pixels, downsampled by 2, at most "
        "4080 photoelectrons per pixel, gain 2, offset 100, read noise 4 gray levels (2 electrons). The pixel "
        "size is that of the simulated sensor.",
    ),
}
