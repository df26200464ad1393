"""How a layer is reconstructed, as the dock shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.core.errors import MissingDependencyError
from napari_fidelity.denoisers import BM3D, NLM, TV
from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED
from napari_fidelity.networks.untrained import DeepDecoder
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping import Budget, WindowedVariance
from napari_fidelity.widgets import _denoiser
from napari_fidelity.widgets._prior_panel import PriorPanel
from napari_fidelity.widgets._recipe_panel import SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def panel(make_napari_viewer: Callable[..., Any], qtbot: Any) -> PriorPanel:
    panel = PriorPanel(make_napari_viewer())
    qtbot.addWidget(panel)
    return panel


def unfold(panel: PriorPanel) -> None:
    for fold in (panel.options, panel.stopping, panel.intensities):
        fold.expand(animate=False)


def recipe_of(panel: PriorPanel) -> Recipe:
    stop = panel.stop()
    rule = {} if stop is None else {"stop": stop}
    return Recipe(method=panel.method(), spatial=panel.spatial.currentData(), **rule, **panel.recipe_fields())


def choose(panel: PriorPanel, key: str) -> None:
    panel.combo.setCurrentIndex(panel.combo.findData(key))


METHODS = {
    "red": RED(),
    "dip": DIP(),
    "deepred": DeepRED(),
    "romano2017": RED.romano2017(),
    "denoise": DeepRED.mataev2019("denoise"),
    "super_resolution": DeepRED.mataev2019("super_resolution"),
    "deblur": DeepRED.mataev2019("deblur"),
    "zssr": ZSSR(),
    "shocher2018": ZSSR.shocher2018(),
}


@pytest.mark.parametrize("key", METHODS)
@pytest.mark.parametrize("opened", [False, True])
def test_the_combo_box_chooses_the_method(panel: PriorPanel, key: str, opened: bool) -> None:
    if key == "super_resolution":
        pytest.importorskip("bm3d", reason="its licence keeps it out of what is installed along")
    if opened:
        unfold(panel)
    for chosen in ("dip", key):
        choose(panel, chosen)
    assert panel.method() == METHODS[key].replace(snapshots=SNAPSHOTS)
    assert panel.method(3).snapshots == 3
    assert panel.denoiser.isVisibleTo(panel) == hasattr(METHODS[key], "denoiser")
    assert panel.start.isVisibleTo(panel) == hasattr(METHODS[key], "start")
    assert panel.key_of(panel.method()) == key


KEPT = {"snapshots": SNAPSHOTS}
RECIPES = {
    "red": Recipe(method=RED(denoiser=TV(), strength=0.5, start="measurement", **KEPT), seed=3, spatial="ZYX"),
    "dip": Recipe(method=DIP(network=DeepDecoder(width=8), runs=3, **KEPT), stop=Budget(iterations=9)),
    "deepred": Recipe(method=DeepRED(denoiser=NLM(h=0.8), iteration=4, **KEPT), stop=WindowedVariance(window=9)),
    "published": Recipe(method=DeepRED.mataev2019("deblur", iterations=50, **KEPT), channels="each"),
    "zssr": Recipe(method=ZSSR(width=32, views=1, iteration=3, **KEPT), seed=3),
    "zssr, published": Recipe(method=ZSSR.shocher2018(updates=10, **KEPT)),
    "zssr, kernel": Recipe(method=ZSSR.shocher2018("kernel", **KEPT)),
    "image": Recipe(method=RED(start=np.eye(4), denoiser=NLM(), **KEPT)),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("opened", ["before", "after", "never"])
def test_a_recipe_comes_back_as_it_was(panel: PriorPanel, name: str, opened: str) -> None:
    if opened == "before":
        unfold(panel)
    panel.set_recipe(RECIPES["image"])
    panel.set_recipe(RECIPES[name])
    if opened == "after":
        unfold(panel)
    assert recipe_of(panel) == RECIPES[name]


def test_a_missing_package_and_its_licence_are_named(panel: PriorPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    combo = panel.denoiser.options.combo
    combo.setCurrentIndex(combo.findData("bm3d"))
    assert "non-commercial" in combo.currentText()
    assert "non-commercial" in panel.denoiser.note.text()
    monkeypatch.setattr(_denoiser, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install bm3d"):
        panel.method()
    panel.set_recipe(Recipe(method=RED(denoiser=NLM())))
    assert not panel.denoiser.note.text()
    panel.set_recipe(Recipe(method=RED(denoiser=BM3D())))
    assert "pip install bm3d" in panel.denoiser.note.text()


def test_what_a_method_cannot_begin_with_is_not_offered(panel: PriorPanel) -> None:
    def starts() -> list[str]:
        return [panel.start.combo.itemData(i) for i in range(panel.start.combo.count())]

    assert "noise" not in starts()
    choose(panel, "dip")
    assert "noise" in starts()
    panel.start.combo.setCurrentIndex(panel.start.combo.findData("noise"))
    choose(panel, "red")
    assert "noise" not in starts()
    assert panel.method().start == RED().start


def test_what_works_slice_by_slice_is_offered_no_volumes(panel: PriorPanel) -> None:
    panel.spatial.setCurrentIndex(panel.spatial.findData("ZYX"))
    choose(panel, "zssr")
    assert panel.spatial.currentData() == "YX"
    assert not panel.spatial.isEnabled()
    choose(panel, "red")
    assert panel.spatial.isEnabled()
