"""Tiles of large images in recipes, in estimates of memory, and in maps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import napari_fidelity as nf
from napari_fidelity.core.device import limit_memory
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply, FineTune, Project, _plan
from napari_fidelity.operators import Downsample
from napari_fidelity.pipeline import Recipe, memory_needed, run_recipe
from napari_fidelity.pipeline.reproduce import command_line
from napari_fidelity.uncertainty import Dropout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)
QUICK = FineTune(iterations=2, precision="float32")


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_plan, "SMALL", 0)
    limit_memory(60_000_000)
    yield
    limit_memory(None)


def again(result: Any, image: Any, model: Any) -> tuple[Recipe, Any]:
    recipe = Recipe.from_text(json.dumps(result.provenance))
    return recipe, drain(run_recipe(recipe, image, model, device="cpu"))


@pytest.mark.parametrize(
    ("method", "limit"),
    [(QUICK, 60_000_000), (Project(), 12_000_000), (Apply(), 12_000_000)],
    ids=["finetune", "project", "apply"],
)
def test_a_replay_takes_the_same_tiles(
    method: Any, limit: int, scene: Scene, network: MakeNetwork, little_memory: None
) -> None:
    limit_memory(limit)
    image, model = scene(90, 120), network(n_feats=32, n_blocks=2)
    first = nf.restore(image, operator=A, method=method, model=model, device="cpu")
    tile = first.provenance["recipe"]["method"]["tile"]
    assert 64 <= tile < 120
    assert first.provenance["runs"][0]["tile"] == tile
    limit_memory(None)  # where there is enough
    recipe, second = again(first, image, model)
    assert recipe.method.tile == tile
    np.testing.assert_array_equal(first.image.data, second.image.data)


def test_where_it_fits_nothing_is_said(scene: Scene, network: MakeNetwork) -> None:
    result = nf.restore(scene(30, 30), operator=A, method=QUICK, model=network(), device="cpu")
    assert "tile" not in result.provenance["recipe"]["method"]
    assert "tile" not in result.provenance["runs"][0]


def test_the_tile_is_known_before(scene: Scene, network: MakeNetwork, little_memory: None) -> None:
    image, model = nf.Image(scene(90, 120), "YX"), network(n_feats=32, n_blocks=2)
    recipe = Recipe(operator=A, method=QUICK)
    need = memory_needed(recipe, image, "cpu", network=model)
    assert need.tile is not None
    assert need.free is not None
    assert need.method <= need.free
    judged = memory_needed(recipe.replace(method=Dropout(of=QUICK, passes=2)), image, "cpu", network=model)
    assert judged.tile == need.tile
    limit_memory(None)
    assert memory_needed(recipe, image, "cpu", network=model).tile is None


def test_a_command_names_the_tile() -> None:
    recipe = Recipe(operator=A, method=QUICK.replace(tile=64), model={"name": "edsr-s-x2"})
    assert "--tile 64" in command_line(recipe)


def test_memory_that_ran_out_is_told_by_the_recipe(scene: Scene, network: MakeNetwork) -> None:
    class Hungry(torch.nn.Module):
        scale, n_channels = 2, 1

        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if max(y.shape[2:]) > 66:
                raise torch.OutOfMemoryError("CUDA out of memory")
            output: torch.Tensor = self.inner(y)
            return output

    model = Hungry().eval()
    result = nf.restore(scene(75, 61), operator=A, method=QUICK, model=model, device="cpu")
    assert result.provenance["recipe"]["method"]["tile"] == result.provenance["runs"][0]["tile"] <= 32


@pytest.mark.parametrize("of", [Apply(tile=24), QUICK.replace(tile=24)], ids=lambda method: method.kind)
def test_maps_run_in_tiles(of: Any, scene: Scene, network: MakeNetwork) -> None:
    found = []
    for method in (of, of.replace(tile=None)):
        options = Dropout(of=method, passes=3, p=0.01, before=of.kind == "finetune")
        found.append(nf.restore(scene(60, 50), operator=A, method=options, model=network(), device="cpu"))
    tiled, whole = (result.image.data for result in found)
    assert tiled.shape == whole.shape
    assert 0.3 < tiled.mean() / whole.mean() < 3
