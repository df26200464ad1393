"""The way of a first-time user: a sample, the Correct dock, one click, two more to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 240_000


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], npe2pm_: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def npe2pm_(npe2pm: Any) -> Any:
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-fidelity"))
    return npe2pm


def test_sample_run_pick_compare(viewer: Any, qtbot: Any) -> None:
    viewer.open_sample("napari-fidelity", "saucer")
    truth, measured = viewer.layers
    _, dock = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
    # everything is chosen already
    assert dock.layer.value is measured
    assert dock.model.name == measured.metadata["napari-fidelity"]["formation"]["model"]
    dock.bar.run_button.click()
    assert dock.run is not None, dock.bar.message.text()
    with qtbot.waitSignal(dock.run.finished, timeout=SECONDS) as blocker:
        pass
    assert blocker.args[0].kind == "done", blocker.args[0].error
    output, corrected = viewer.layers[2:]
    for layer in (output, corrected):  # pixel on pixel with the truth
        assert layer.data.shape == truth.data.shape
        np.testing.assert_allclose(layer.data_to_world((3, 5)), truth.data_to_world((3, 5)), atol=1e-9)
    assert rms(corrected, truth) < rms(output, truth) < rms(measured, truth)
    assert dock.result.isVisibleTo(dock)
    dock.result.slider.setValue(0)
    dock.result.keep.click()
    assert len(viewer.layers) == 5

    dock.result.compare.click()
    compare = viewer.window.dock_widgets["Compare (napari-fidelity)"]
    assert compare.reference.value is truth
    assert compare.measurement.value is measured
    compare.bar.run_button.click()
    qtbot.waitUntil(lambda: not compare.bar.running, timeout=SECONDS)
    compare.table.buttons.copy()
    heading, *rows = QApplication.clipboard().text().splitlines()
    assert "psnr" in heading.lower()
    assert any(row.startswith(corrected.name) for row in rows)


def rms(layer: Any, truth: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(layer.data, float) - truth.data))))
