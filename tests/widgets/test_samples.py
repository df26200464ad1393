from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from napari.layers import Layer
from npe2 import PluginManifest

import napari_fidelity
from napari_fidelity.io import list_models, load_model
from napari_fidelity.operators import parse_noise, parse_operator
from napari_fidelity.training.images import PHOTOS, PLAIN
from napari_fidelity.widgets import _samples
from napari_fidelity.widgets._samples import open_sample

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(napari_fidelity.__file__).parent
FOLDER = PACKAGE / "bundled" / "samples"
SAMPLES: dict[str, dict[str, Any]] = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
MANIFEST = PluginManifest.from_file(PACKAGE / "napari.yaml")
CONTRIBUTED = MANIFEST.contributions.sample_data or []

every = pytest.mark.parametrize("key", SAMPLES)


def layers(key: str) -> tuple[Layer, Layer]:
    truth, measurement = (Layer.create(*data) for data in open_sample(key))
    return truth, measurement


def test_the_manifest_contributes_every_sample() -> None:
    assert [sample.key for sample in CONTRIBUTED] == list(SAMPLES)
    commands = {command.id: command.python_name for command in MANIFEST.contributions.commands or ()}
    for sample in CONTRIBUTED:
        assert commands[sample.command] == f"napari_fidelity.widgets._samples:{sample.key}"
        assert getattr(_samples, sample.key)()[0][1]["metadata"]["napari-fidelity"]["sample"] == sample.key


def test_the_files_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1_000_000


@every
def test_menu_entries_say_what_training_has_seen(key: str) -> None:
    entry = next(sample.display_name for sample in CONTRIBUTED if sample.key == key)
    assert ("seen in training" in entry) == SAMPLES[key]["seen_in_training"]
    assert entry.startswith(f"{SAMPLES[key]['title']}: {SAMPLES[key]['measured']} (")


def test_unseen_images_are_unseen() -> None:
    # The held-out parts of two photographs, and one image that training never reads.
    unseen = {key for key, sample in SAMPLES.items() if not sample["seen_in_training"]}
    assert unseen == {"portrait", "coffee", "saucer", "retina"}
    assert "microaneurysms.png" not in {*PHOTOS, *PLAIN}


def test_the_held_out_parts_are_those_of_training() -> None:
    from napari_fidelity.training import validation_images

    held_out = [np.round(np.moveaxis(image, 0, -1) * 255).astype(np.uint8) for image in validation_images()]
    for key in ("portrait", "coffee"):
        truth = open_sample(key)[0][0]
        assert any(np.array_equal(truth, image) for image in held_out)
    saucer, coffee = (open_sample(key)[0][0] for key in ("saucer", "coffee"))
    assert np.array_equal(saucer, coffee[128:, :160])


@every
def test_layers_of_a_sample(key: str) -> None:
    truth, measurement = layers(key)
    assert measurement.visible
    assert not truth.visible
    records = [layer.metadata["napari-fidelity"] for layer in (truth, measurement)]
    assert [record["role"] for record in records] == ["truth", "measurement"]
    assert [record["of"] for record in records] == [measurement.name, truth.name]
    assert {record["sample"] for record in records} == {key}
    for layer in (truth, measurement):
        assert layer.metadata["licence"] in {"CC0", "Public domain", "No known copyright restrictions"}
        assert "scikit-image" in layer.metadata["source"]
        assert layer.data.dtype == (np.uint16 if key == "galaxies" else np.uint8)
        assert layer.units[0] == layer.units[1]
    assert "formation" not in records[0]  # the truth is no measurement


@every
def test_the_truth_lies_under_the_measurement(key: str) -> None:
    truth, measurement = layers(key)
    for layer, other in ((truth, measurement), (measurement, truth)):
        corners = np.array([[-0.5, -0.5], np.array(layer.data.shape[:2]) - 0.5])
        world = np.array([layer.data_to_world(corner) for corner in corners])
        theirs = np.array([other.world_to_data(corner) for corner in world])
        np.testing.assert_allclose(theirs, [[-0.5, -0.5], np.array(other.data.shape[:2]) - 0.5], atol=1e-9)


@every
def test_the_formation_model_gives_the_measurement(key: str) -> None:
    truth, measurement = layers(key)
    formation = measurement.metadata["napari-fidelity"]["formation"]
    operator = parse_operator(formation["operator"])
    assert operator.to_plain() == formation["operator"]
    predicted = operator.A(tensor(truth.data))
    y, top = tensor(measurement.data), np.iinfo(measurement.data.dtype).max
    if "noise" not in formation:
        assert float((y - predicted.clamp(0, top)).abs().max()) <= 0.5 + 1e-6  # rounded, nothing else
        return
    variance = parse_noise(formation["noise"]).variance(predicted) + 1 / 12  # and that of rounding
    reach = 4 * variance.sqrt()
    whole = (predicted > reach) & (predicted < top - reach)  # nothing cut off
    assert 0.95 < float(((y - predicted).square() / variance)[whole].mean()) < 1.05


@every
def test_the_model_fits(key: str) -> None:
    truth, measurement = layers(key)
    model = measurement.metadata["napari-fidelity"]["formation"]["model"]
    assert model in {info.id for info in list_models()}
    scale = load_model(model).scale
    assert tuple(scale * n for n in measurement.data.shape[:2]) == truth.data.shape[:2]


@every
def test_open_sample_in_a_viewer(
    key: str, make_napari_viewer: Callable[..., Any], npe2pm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    npe2pm.register(MANIFEST)
    viewer = make_napari_viewer()
    viewer.open_sample("napari-fidelity", key)
    truth, measurement = viewer.layers
    assert viewer.layers.selection.active is measurement
    assert viewer.layers[truth.metadata["napari-fidelity"]["of"]] is measurement
    assert measurement.rgb == (measurement.data.ndim == 3)


def test_units(make_napari_viewer: Callable[..., Any]) -> None:
    cell = layers("cell")[1]
    assert str(cell.units[0]) in {"micrometer", "µm"}
    assert cell.scale[0] == pytest.approx(0.214)
    assert layers("portrait")[1].scale[0] == 1


def tensor(image: np.ndarray) -> torch.Tensor:
    channels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(channels[None].astype(np.float64))
