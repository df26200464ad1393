"""Images that come with the plugin: each a measurement with its image formation model, and its ground truth.

``benchmarks/make_samples.py`` makes the files; ``docs/samples.md`` says what they are and what they show.
"""

from __future__ import annotations

import json
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    LayerData = tuple[NDArray[Any], dict[str, Any], str]

_FOLDER = files("napari_fidelity") / "bundled" / "samples"


def open_sample(key: str) -> list[LayerData]:
    """Return the layers of a sample: the hidden ground truth, and over it the measurement.

    The measurement has its pixel size as scale and its first pixel at 0; the ground truth is finer and begins half
    a measured pixel less half of its own before.

    Parameters
    ----------
    key
        Name of the sample in ``bundled/samples/samples.json``.

    Returns
    -------
    list of tuple
        Data, attributes and type of each layer, as napari takes them.
    """
    sample = json.loads((_FOLDER / "samples.json").read_text(encoding="utf-8"))[key]
    names = {
        "truth": f"{sample['title']} (ground truth)",
        "measurement": f"{sample['title']} ({sample['measured']})",
    }
    finer = {"truth": sample["scale"], "measurement": 1}
    partner = {"truth": "measurement", "measurement": "truth"}
    layers = []
    # napari selects the layer that comes last and shows it over the others.
    for role, name in names.items():
        data = _read(f"{key}-{role}.png")
        record = {"sample": key, "role": role, "of": names[partner[role]]}
        if role == "measurement":
            record["formation"] = sample["formation"]
        attributes = {
            "name": name,
            "visible": role == "measurement",
            **_place(sample, finer[role]),
            **_look(sample, data),
            "metadata": {
                **{word: sample[word] for word in ("about", "licence", "source", "seen_in_training")},
                "napari-fidelity": record,
            },
        }
        layers.append((data, attributes, "image"))
    return layers


def _read(name: str) -> NDArray[Any]:
    import imagecodecs

    image: NDArray[Any] = imagecodecs.png_decode((_FOLDER / name).read_bytes())
    return image


def _place(sample: dict[str, Any], finer: int) -> dict[str, Any]:
    size = sample["pixel_size"]
    return {
        "scale": (size / finer,) * 2,
        "translate": (size * (1 / finer - 1) / 2,) * 2,
        "units": (sample["unit"],) * 2,
        "axis_labels": ("y", "x"),
    }


def _look(sample: dict[str, Any], data: NDArray[Any]) -> dict[str, Any]:
    if data.ndim == 3:
        return {"rgb": True}
    return {"rgb": False, "colormap": "gray", "contrast_limits": sample["contrast_limits"]}


# The commands of the manifest, one for each sample.
portrait: Callable[[], list[LayerData]] = partial(open_sample, "portrait")
coffee: Callable[[], list[LayerData]] = partial(open_sample, "coffee")
saucer: Callable[[], list[LayerData]] = partial(open_sample, "saucer")
retina: Callable[[], list[LayerData]] = partial(open_sample, "retina")
cell: Callable[[], list[LayerData]] = partial(open_sample, "cell")
tissue: Callable[[], list[LayerData]] = partial(open_sample, "tissue")
galaxies: Callable[[], list[LayerData]] = partial(open_sample, "galaxies")
