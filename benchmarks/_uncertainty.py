"""What the uncertainty benchmark judges: results with their truth, implants, crops, and the maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from _common import Case, enhancenet
from skimage.io import imread

from napari_fidelity.core.blocks import to_channel_last
from napari_fidelity.core.step import drain
from napari_fidelity.io import load_model
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.operators import Downsample, GaussianNoise
from napari_fidelity.uncertainty.bootstrap import Bootstrap
from napari_fidelity.uncertainty.dropout import Dropout
from napari_fidelity.uncertainty.ensemble import Ensemble
from napari_fidelity.uncertainty.error_map import ErrorMap
from napari_fidelity.uncertainty.null_space import NullSpace

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fidelity.uncertainty.base import UncertaintyMap

PASSES = 50
QUICK = 16
SCALE = 4
SPOT_SIGMA = 2.0  # px: a full width of 4.7 px, about one pixel of the ×4 measurement
SPOT_HEIGHT, FAINT = 0.2, 0.02  # of the range from black to white
SPOT_APART = 18  # px between two places, so that each is judged alone
HIDDEN_SIGMA = 0.8  # px: of the spots whose null-space part is implanted

PHOTOS = {
    "baby": "set5", "bird": "set5", "butterfly": "set5", "head": "set5", "woman": "set5",
    "F16": "color9_part", "house": "color9_part", "peppers": "color9_part", "leaves": "ncsr_part",
}  # fmt: skip
FOLDS = (("baby", "F16", "butterfly", "woman", "house"), ("bird", "peppers", "head", "leaves"))
CROP, MOST_CROPS, CROP_NOISE, CROP_PASSES = 64, 16, 2 / 255, 25


@dataclass(frozen=True, eq=False)
class Judged:
    """A Set5 image restored ×4 by EnhanceNet: by the network alone, and fine-tuned.

    Attributes
    ----------
    own, image
        The network's own output and the fine-tuned result, ``(1, 3, H, W)``.
    network, tuned
        The network before and after.
    """

    case: Case
    network: torch.nn.Module
    tuned: torch.nn.Module
    own: torch.Tensor
    image: torch.Tensor

    @property
    def truth(self) -> torch.Tensor:
        return torch.from_numpy(np.moveaxis(self.case.truth, -1, 0)[None].astype(np.float32) / 255)


@cache
def judged(data: Path, name: str) -> Judged:
    case, network = Case.load(data, name, SCALE), enhancenet(data, SCALE)
    result = drain(FineTune().steps(case.y, case.operator, network))
    own = drain(Apply().steps(case.y, case.operator, network)).image
    return Judged(case, network, result.network, own, result.image)


def run(options: UncertaintyMap, one: Judged, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the images of a map."""
    return dict(drain(options.steps(one.case.y, one.case.operator, network)).maps)


@cache
def dropout(one: Judged) -> torch.Tensor:
    return run(Dropout(of=Apply(), passes=PASSES), one, one.tuned)["std"]


@cache
def views(one: Judged) -> torch.Tensor:
    return run(Ensemble(of=Apply(), of_what="views"), one, one.tuned)["std"]


def bootstrap(one: Judged, image: np.ndarray, samples: int = PASSES) -> torch.Tensor:
    """Return the map of the tuned network with projection; it is not tuned again for each sample."""
    return run(Bootstrap(of=Project(), samples=samples, image=image), one, one.tuned)["std"]


# A map by name, of a judged result and an image which may have been altered; dropout and views look at neither.
Maker = Callable[[Judged, np.ndarray], torch.Tensor]
MAPS: dict[str, Maker] = {
    "dropout": lambda one, image: dropout(one),
    "views": lambda one, image: views(one),
    "bootstrap": bootstrap,
    "null space": lambda one, image: run(NullSpace(image=image), one, one.network)["unseen"],
    "error map": lambda one, image: run(ErrorMap(image=image), one, one.network)["error"],
}
IMPLANT_MAPS = MAPS | {"bootstrap": partial(bootstrap, samples=QUICK)}


def plain(x: torch.Tensor) -> np.ndarray:
    """Return an image ``(1, C, H, W)`` as ``(H, W, C)`` in float64."""
    return np.asarray(to_channel_last(x.detach().cpu()), np.float64)


def inner(image: np.ndarray) -> np.ndarray:
    """Return an image without a border of ``SCALE`` pixels, as the protocol has it."""
    return image[SCALE:-SCALE, SCALE:-SCALE]


def per_pixel(image: np.ndarray) -> np.ndarray:
    """Return the root mean square over the channels, as the dock shows maps; without the border."""
    return np.sqrt((inner(image) ** 2).mean(axis=-1))


# -- implants ---------------------------------------------------------------------------------------------------


def places(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random pixels, no two of them closer than ``SPOT_APART``, away from the borders."""
    found: list[np.ndarray] = []
    for _ in range(100_000):
        one = np.array([rng.integers(SPOT_APART // 2, n - SPOT_APART // 2) for n in shape])
        if all(np.abs(one - other).max() >= SPOT_APART for other in found):
            found.append(one)
        if len(found) == count:
            return np.array(found)
    raise ValueError(f"there is no room for {count} places in {shape}")


def spots(shape: tuple[int, ...], centres: np.ndarray, sigma: float, height: float) -> torch.Tensor:
    """Return Gaussian spots, ``(1, 1, H, W)``."""
    grid = np.indices(shape)
    total = np.zeros(shape)
    for centre in centres:
        distance = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
        total += height * np.exp(-distance / (2 * sigma**2))
    return torch.from_numpy(total[None, None]).float()


def unseen_spots(shape: tuple[int, ...], centres: np.ndarray, case: Case) -> torch.Tensor:
    """Return the part of narrow spots that the measurement does not depend on, scaled to the same height."""
    fine = spots(shape, centres, HIDDEN_SIGMA, 1.0).double()
    hidden = fine - case.operator.A_dagger(case.operator.A(fine), shape)
    return (hidden * (SPOT_HEIGHT / hidden.max())).float()


def at(values: np.ndarray, centres: np.ndarray, radius: int = 3) -> np.ndarray:
    """Return the mean of a map ``(H, W, C)`` around each place."""
    grid = np.indices(values.shape[:2])
    means = values.mean(axis=-1)
    discs = ((np.abs(grid - c[:, None, None]) ** 2).sum(axis=0) <= radius**2 for c in centres)
    return np.array([means[disc].mean() for disc in discs])


# -- crops with their truth -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crop:
    """A small image and its noisy measurement, ×2 smaller."""

    photo: str
    truth: np.ndarray
    y: torch.Tensor
    operator: Downsample
    noise: GaussianNoise


def crops(data: Path, photo: str) -> Iterator[Crop]:
    """Yield crops of a photograph that do not overlap, spread over it evenly, at most ``MOST_CROPS``."""
    image = imread(data / PHOTOS[photo] / f"{photo}.png")[..., :3].astype(np.float32) / 255
    corners = [
        (i, j)
        for i in range(0, image.shape[0] - CROP + 1, CROP)
        for j in range(0, image.shape[1] - CROP + 1, CROP)
    ]
    chosen = np.unique(np.linspace(0, len(corners) - 1, min(MOST_CROPS, len(corners))).round().astype(int))
    operator, rng = Downsample(scale=2), torch.Generator().manual_seed(0)
    for index in chosen:
        i, j = corners[index]
        truth = image[i : i + CROP, j : j + CROP]
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(truth, -1, 0))[None])
        clean = operator.A(x)
        y = clean + CROP_NOISE * torch.randn(clean.shape, generator=rng)
        yield Crop(photo, truth, y, operator, GaussianNoise(sigma=CROP_NOISE))


INTERVAL_MAPS: dict[str, UncertaintyMap] = {
    "bootstrap": Bootstrap(of=Project(), samples=CROP_PASSES),
    "dropout": Dropout(of=Project(), passes=CROP_PASSES, project=True),
}


@cache
def crop_network() -> torch.nn.Module:
    return load_model("edsr-s-x2")
