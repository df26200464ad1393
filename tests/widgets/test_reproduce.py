"""Doing a result again: in the dock, on the command line, in Python."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_fidelity.core.errors import RecipeError
from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import TV
from napari_fidelity.methods import RED, FineTune, Project
from napari_fidelity.operators import Downsample, GaussianNoise
from napari_fidelity.pipeline import ModelReference, Recipe, run_recipe
from napari_fidelity.stopping import Budget
from napari_fidelity.widgets._layers import Source, add_result
from napari_fidelity.widgets._reproduce import ReproduceBar, in_words, recipe_of
from napari_fidelity.widgets._triton import keep_triton_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPES = {
    "default": Recipe(operator=Downsample(scale=2)),
    "projection": Recipe(operator=Downsample(scale=2), method=Project(), noise=GaussianNoise(sigma=0.02)),
    "reconstruction": Recipe(
        operator=Downsample(scale=2), method=RED(denoiser=TV(), iterations=3), noise=GaussianNoise(sigma=0.02)
    ),
    "few": Recipe(
        operator=Downsample(scale=2),
        method=FineTune(iterations=3, views=1, snapshots=4),
        stop=Budget(iterations=2),
        seed=7,
    ),
}


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer()


def result_layer(
    viewer: Any, recipe: Recipe, model_file: Path, data: Any, index: dict[str, int] | None = None
) -> Any:
    layer = viewer.add_image(data, name="my cells")
    source = Source.of(layer, index=index)
    reading = source.read()
    while True:
        try:
            next(reading)
        except StopIteration as end:
            image = end.value
            break
    if recipe.method.reads_measurement:
        recipe = recipe.replace(model=ModelReference(name=str(model_file)))
    keep_triton_out()  # the run is none of a dock's, which would see to it
    return add_result(viewer, source, drain(run_recipe(recipe, image, device="cpu")).image, name="result")


@pytest.mark.parametrize("name", RECIPES)
def test_every_form_makes_the_same_again(
    viewer: Any, scene: Any, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from napari_fidelity.cli import main
    from napari_fidelity.io import read_image, write_image

    layer = result_layer(viewer, RECIPES[name], model_file, scene(12, 14))
    monkeypatch.chdir(tmp_path)
    from napari_fidelity import Image

    write_image(Image(np.asarray(scene(12, 14)), "YX"), "measurement.tif")
    remark, command = in_words(layer, "command").split("\n", 1)
    assert remark == "# measurement.tif is the layer 'my cells', axes YX: save it first"
    assert "--snapshots" not in command
    words = shlex.split(command)
    assert words[0] == "napari-fidelity"
    assert main([*words[1:], "--device", "cpu"]) == 0
    np.testing.assert_array_equal(read_image("restored.tif").data, layer.data)

    (tmp_path / "restored.tif").unlink()
    exec(compile(in_words(layer, "script"), "script.py", "exec"), {})
    np.testing.assert_array_equal(read_image("restored.tif").data, layer.data)

    assert Recipe.from_text(in_words(layer, "recipe")) == recipe_of(layer)


def test_a_part_of_a_layer_is_named(viewer: Any, scene: Any, model_file: Path) -> None:
    layer = result_layer(viewer, RECIPES["projection"], model_file, scene(3, 12, 14), index={"Z": 1})
    assert "'my cells' at Z=1, axes ZYX: save it first" in in_words(layer, "command")


def test_the_bar_follows_the_selection(
    viewer: Any, scene: Any, model_file: Path, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = ReproduceBar(viewer)
    qtbot.addWidget(bar)
    assert not bar.load.isEnabled()
    layer = result_layer(viewer, RECIPES["projection"], model_file, scene(12, 14))
    viewer.layers.selection.active = viewer.layers["my cells"]
    bar.refresh()
    assert not bar.copy.isEnabled()
    viewer.layers.selection.active = layer
    bar.refresh()
    assert bar.copy.isEnabled()
    actions = {action.text(): action for action in bar.copy.menu().actions()}
    actions["Recipe"].trigger()
    assert json.loads(QApplication.clipboard().text())["method"]["kind"] == "project"
    target = tmp_path / "mine.toml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    actions["Save recipe to a file…"].trigger()
    assert Recipe.read(target) == recipe_of(layer)
    with qtbot.waitSignal(bar.load_requested) as blocker:
        bar.load.click()
    assert blocker.args[0] is layer


def test_what_is_no_result_says_so(viewer: Any, scene: Any) -> None:
    with pytest.raises(RecipeError, match="No layer is selected"):
        recipe_of(None)
    layer = viewer.add_image(scene(8, 8))
    with pytest.raises(RecipeError, match="not made by Fidelity"):
        recipe_of(layer)
    layer.metadata["napari-fidelity"] = {"recipe": {"method": {"kind": "magic"}}}
    with pytest.raises(RecipeError, match="cannot be used"):
        recipe_of(layer)
