"""What the Reconstruct dock finds out by itself and says of its own accord: whose noise, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.denoisers import TV
from napari_fidelity.methods import RED
from napari_fidelity.operators import GaussianNoise, Identity
from napari_fidelity.pipeline import Recipe
from napari_fidelity.widgets.reconstruct import ReconstructWidget

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 60_000


def said(dock: ReconstructWidget) -> str:
    return dock.bar.message.text().replace("\u200b", "")


def test_a_level_that_it_found_goes_with_its_layer(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer, flat = make_napari_viewer(), np.full((48, 48), 0.5, np.float32)
    for sigma in (0.02, 0.2):
        viewer.add_image(np.random.default_rng(0).normal(flat, sigma), name=str(sigma))
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock)
    for name in ("0.02", "0.2", "0.02"):
        dock.layer.value = viewer.layers[name]
        qtbot.waitUntil(lambda: dock.formation.noise() is not None, timeout=SECONDS)
        assert dock.formation.noise().sigma == pytest.approx(float(name), rel=0.2)
    viewer.layers.clear()
    assert dock.formation.noise() is None


def test_it_says_why_no_level_was_found(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    dark = np.clip(np.random.default_rng(0).normal(0, 2, (48, 48)), 0, 255).astype(np.uint8)
    viewer.add_image(dark, name="dark")
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock)
    note = dock.formation.noise_form.note
    qtbot.waitUntil(lambda: "type the noise level in" in note.text(), timeout=SECONDS)
    assert note.isVisibleTo(dock)
    assert note.text() in said(dock)
    dock.formation.noise_form.set_noise(GaussianNoise(sigma=2))
    assert not said(dock) and not note.text()


def test_nothing_is_said_of_layers_that_are_gone(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.random.default_rng(0).normal(0.5, 0.1, (16, 16)).astype(np.float32))
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock)
    dock.method.set_recipe(Recipe(method=RED(denoiser=TV(), iterations=2)))
    dock.formation.set_formation(Identity(), GaussianNoise(sigma=0.1))
    dock.bar.run_button.click()
    with qtbot.waitSignal(dock.run.finished, timeout=SECONDS):
        pass
    assert "of the noise's variance" in said(dock)
    viewer.layers.clear()
    assert not said(dock)
