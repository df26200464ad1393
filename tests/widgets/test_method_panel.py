"""What a recipe holds beside model and image formation, as the dock shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.core.errors import ImageError
from napari_fidelity.methods import FineTune, Project
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping import Budget, HeldOut, Settled
from napari_fidelity.widgets._method_panel import MethodPanel
from napari_fidelity.widgets._recipe_panel import SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ((8, 12), (4, 6))  # of the restored image and of the measurement


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer()


@pytest.fixture
def panel(viewer: Any, qtbot: Any) -> MethodPanel:
    panel = MethodPanel(viewer)
    qtbot.addWidget(panel)
    return panel


def unfold(panel: MethodPanel) -> None:
    for fold in (panel.options, panel.stopping, panel.masking, panel.intensities):
        fold.expand(animate=False)


def recipe_of(panel: MethodPanel) -> Recipe:
    return Recipe(method=panel.method(*SHAPES), stop=panel.stop(), **panel.recipe_fields())


def test_untouched_it_is_the_default(panel: MethodPanel) -> None:
    assert panel.method(*SHAPES) == FineTune(snapshots=SNAPSHOTS)
    assert panel.stop() is None
    unfold(panel)
    assert panel.method(*SHAPES) == FineTune(snapshots=SNAPSHOTS)
    assert panel.stop() is None
    assert panel.recipe_fields() == {
        name: getattr(Recipe(), name) for name in ("scaling", "scope", "channels", "seed", "series")
    }


@pytest.mark.parametrize("kind", ["finetune", "lucas2020", "project"])
@pytest.mark.parametrize("opened", [False, True])
def test_the_combo_box_chooses_the_method(panel: MethodPanel, kind: str, opened: bool) -> None:
    if opened:
        unfold(panel)
    panel.combo.setCurrentIndex(panel.combo.findData(kind))
    expected = {
        "finetune": FineTune(snapshots=SNAPSHOTS),
        "lucas2020": FineTune.lucas2020(snapshots=SNAPSHOTS),
        "project": Project(),
    }[kind]
    assert panel.method(*SHAPES) == expected


RECIPES = [
    Recipe(method=FineTune(iterations=40, optimizer="sgd", tv=0.01, mask="edges", snapshots=SNAPSHOTS), seed=3),
    Recipe(
        method=FineTune.lucas2020(iterations=20, snapshots=SNAPSHOTS), stop=HeldOut(patience=3), scaling="minmax"
    ),
    Recipe(method=Project(), scope="slice", channels="each"),
    Recipe(method=FineTune(snapshots=SNAPSHOTS), stop=Budget(iterations=5) | Settled(change=0.01)),
    Recipe(method=FineTune(snapshots=SNAPSHOTS, iteration=4)),
    Recipe(method=FineTune(snapshots=SNAPSHOTS, mask=np.full(SHAPES[0], 0.5, np.float32))),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("opened", ["before", "after", "never"])
def test_a_recipe_comes_back_as_it_was(panel: MethodPanel, recipe: Recipe, opened: str) -> None:
    if opened == "before":
        unfold(panel)
    panel.set_recipe(recipe)
    if opened == "after":
        unfold(panel)
    assert recipe_of(panel) == recipe


def test_weights_from_a_layer(panel: MethodPanel, viewer: Any) -> None:
    on_image = np.linspace(0, 2, 96, dtype=np.float32).reshape(SHAPES[0])
    on_measurement = np.zeros(SHAPES[1], np.uint8)
    on_measurement[1, 2] = 200
    viewer.add_image(on_image, name="fine")
    viewer.add_labels(on_measurement, name="coarse")
    viewer.add_image(np.ones((5, 5)), name="other")
    viewer.add_image(np.zeros(SHAPES[0]), name="nothing")
    panel.reset_choices()
    weights = panel.weights
    weights.combo.setCurrentIndex(weights.combo.findData("layer"))
    weights.layer.value = viewer.layers["fine"]
    np.testing.assert_allclose(panel.method(*SHAPES).mask, on_image / 2)
    weights.layer.value = viewer.layers["coarse"]
    found = panel.method(*SHAPES).mask
    assert found.shape == SHAPES[0]
    assert found.sum() == pytest.approx(4)  # one pixel of the measurement is two by two of the image
    assert found[2:4, 4:6].min() == 1
    for name, words in (("other", "does not fit"), ("nothing", "not all zero")):
        weights.layer.value = viewer.layers[name]
        with pytest.raises(ImageError, match=words):
            panel.method(*SHAPES)


def test_the_layers_own_type_is_a_choice(panel: MethodPanel) -> None:
    assert panel.dtype == "float32"
    panel.integers.setChecked(True)
    assert panel.dtype == "input"
