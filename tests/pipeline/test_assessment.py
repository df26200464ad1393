"""``assess``: from a restored image, and what it knows of itself, to a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import napari_fidelity as nf
from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.methods import RED, Apply, FineTune, Project
from napari_fidelity.operators import Downsample, Identity
from napari_fidelity.pipeline import Recipe, map_recipe
from napari_fidelity.pipeline.report import means
from napari_fidelity.uncertainty import MAPS, Bootstrap, Dropout, Ensemble, ErrorMap, NullSpace, Residual

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene

A = Downsample(scale=2)
BRIEF: list[Any] = [
    Bootstrap(samples=2),
    Dropout(passes=3, p=0.05),
    Ensemble(members=2),
    NullSpace(),
    Residual(),
    ErrorMap(),
]


@pytest.fixture
def measurement(scene: Scene) -> nf.Image:
    y = A.A(torch.from_numpy(scene(24, 28))[None, None])[0, 0].numpy()
    return nf.Image((y * 4000 + 100).astype(np.float32), "YX", {"Y": 0.5, "X": 0.5}, "µm")


@pytest.mark.parametrize("map", BRIEF, ids=[map.kind for map in BRIEF])
def test_every_map_of_a_result(map: Any, measurement: nf.Image, network: MakeNetwork) -> None:
    method = FineTune(iterations=1, views=1, precision="float32")
    result = nf.restore(measurement, operator=A, method=method, model=network(n_blocks=2), device="cpu", seed=5)
    shown = nf.assess(result, map, measurement=measurement, model=network(n_blocks=2), device="cpu")
    assert shown.image is next(iter(shown.maps.values()))
    assert set(shown.maps) <= set(map.outputs)
    grid = next(iter(map.outputs.values())).grid
    assert shown.image.shape == ((24, 28) if grid == "image" else (12, 14))
    assert np.isfinite(shown.image.data).all()
    assert 0 < np.abs(shown.image.data).max() < 4000
    recipe = Recipe.parse(shown.provenance["recipe"])
    assert (recipe.method.of, recipe.seed, recipe.operator) == (method, 5, A)
    assert recipe.method.image is None  # the recipe makes it
    # the result of that recipe is the one that was given, but for rounding in the measurement's units
    again = nf.assess(None, map, measurement=measurement, recipe=recipe, model=network(n_blocks=2), device="cpu")
    for name, one in shown.maps.items():
        np.testing.assert_allclose(again.maps[name].data, one.data, atol=2e-3 * np.abs(one.data).max())


def test_there_is_one_of_each() -> None:
    assert {type(map) for map in BRIEF} == set(MAPS)
    assert all(getattr(nf, cls.__name__) is cls for cls in MAPS)


def test_from_a_file(tmp_path: Path, measurement: nf.Image, model_file: Path) -> None:
    result = nf.restore(measurement, operator=A, method=Project(), model=model_file, device="cpu")
    nf.write_image(result.image, tmp_path / "x.tif", provenance=result.provenance)
    shown = nf.assess(nf.read_image(tmp_path / "x.tif"), NullSpace(), measurement=measurement, device="cpu")
    same = nf.assess(result, NullSpace(), measurement=measurement, device="cpu")
    assert np.array_equal(shown.image.data, same.image.data)
    recipe = Recipe.parse(shown.provenance["recipe"])
    assert (recipe.method.of, recipe.method.image) == (Project(), None)
    assert len(recipe.model.sha256) == 64
    # a map of a map judges the same method
    residual = nf.assess(None, Residual(), measurement=measurement, recipe=recipe, device="cpu")
    assert Recipe.parse(residual.provenance["recipe"]).method.of == Project()


def test_an_image_that_knows_nothing(measurement: nf.Image, scene: Scene, network: MakeNetwork) -> None:
    x = scene(24, 28) * 4000 + 100
    shown = nf.assess(x, ErrorMap(), measurement=measurement, operator=A, device="cpu")
    kept = Recipe.parse(shown.provenance["recipe"])
    np.testing.assert_allclose(kept.method.image, x, rtol=1e-6)
    # tells the truth from an image with something added that the data do not have
    spot = x.copy()
    spot[10:14, 10:14] += 2000
    found = nf.assess(spot, ErrorMap(), measurement=measurement, operator=A, device="cpu").image.data
    assert found[10:14, 10:14].mean() > 10 * np.median(found)
    with pytest.raises(OptionError, match="names no image formation model"):
        nf.assess(x, NullSpace(), measurement=measurement)
    with pytest.raises(OptionError, match="judged by its measurement"):
        nf.assess(x, NullSpace(), operator=A)
    broken = nf.Image(x, "YX", metadata={"napari-fidelity": {"recipe": {"method": 3}}})
    with pytest.raises(RecipeError, match="record of how this image was made"):
        nf.assess(broken, NullSpace(), measurement=measurement, operator=A)


def test_which_method_is_judged(measurement: nf.Image, network: MakeNetwork) -> None:
    made = Recipe(operator=Identity(), method=RED(iterations=3, snapshots=2), last_iterations=(2,), seed=4)
    assert map_recipe(NullSpace(), made).method.of == RED(iterations=3)
    assert map_recipe(NullSpace(), made).last_iterations is None
    assert map_recipe(NullSpace(), made, method=Apply()).method.of == Apply()
    assert map_recipe(NullSpace(of=Project()), made, method=Apply()).method.of == Project()
    assert map_recipe(Residual(), map_recipe(NullSpace(), made)).method.of == RED(iterations=3)
    assert map_recipe(NullSpace()).method.of == Apply()
    assert map_recipe(NullSpace(), made, seed=9, operator=A).operator == A
    shown = nf.assess(map=Residual(), measurement=measurement, operator=A, model=network(), device="cpu")
    assert Recipe.parse(shown.provenance["recipe"]).method.of == FineTune()


def test_stopping_keeps_the_map_so_far(measurement: nf.Image, network: MakeNetwork) -> None:
    taken: list[int] = []

    def look(step: Any) -> str | None:
        taken.append(step.index)
        return "enough" if step.index == 3 else None

    settings: Any = {"measurement": measurement, "operator": A, "model": network(n_blocks=2), "device": "cpu"}
    map = Dropout(of=Apply(), p=0.05, passes=50)
    shown = nf.assess(None, map, on_step=look, **settings)
    assert shown.stop_reason == "enough"
    assert max(taken) == 3
    recipe = Recipe.parse(shown.provenance["recipe"])
    assert recipe.last_iterations == (3,)
    four = nf.assess(None, map.replace(passes=4), **settings)
    assert np.array_equal(shown.image.data, four.image.data)


def test_p_values_of_slices_are_not_averaged() -> None:
    slices = [{"whiteness": 1.0, "whiteness_p": 0.9}, {"whiteness": 3.0, "whiteness_p": 1e-6}]
    assert means(slices) == {"whiteness": 2.0, "whiteness_p": 2e-6}
