"""What a network makes of a layer that is not quite what it was trained for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.widgets._layers import Source
from napari_fidelity.widgets._model_fit import remarks
from napari_fidelity.widgets.correct import CorrectWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPES = {"YX": (8, 9), "YXS": (8, 9, 3), "CYX": (4, 8, 9), "TYX": (6, 8, 9), "TCYX": (6, 2, 8, 9)}


def said(axes: str, n_channels: int, frames: int = 1, channels: Any = "joint", **index: int) -> str:
    layer = ImageLayer(np.zeros(SHAPES[axes], np.float32), rgb=axes.endswith("S"))
    info = ModelInfo("a", "EDSR", 1, n_channels, 1, frames=frames)
    return remarks(info, Source.of(layer, axes, index), channels)


@pytest.mark.parametrize(
    ("axes", "n_channels", "words"),
    [
        ("YX", 1, ""),
        ("YXS", 3, ""),
        ("CYX", 4, ""),
        ("YX", 3, "enters as three equal channels, the mean of its output counts."),
        ("YXS", 1, "each of the 3 channels goes through it on its own."),
        ("CYX", 3, "each of the 4 channels goes through it on its own, as three equal ones."),
        ("YXS", 4, "takes images of 4 channels, this one has 3: choose another network."),
        ("YX", 4, "takes images of 4 channels, this one has 1: choose another network."),
    ],
)
def test_channels(axes: str, n_channels: int, words: str) -> None:
    assert said(axes, n_channels).endswith(words)
    assert bool(said(axes, n_channels)) == bool(words)


def test_channels_that_are_restored_one_by_one() -> None:
    assert said("CYX", 1, channels="each") == ""
    assert "choose another" in said("CYX", 4, channels="each")
    assert said("CYX", 1, C=2) == ""  # only the current one


def test_what_is_said_is_what_is_done(scene: Any) -> None:
    """The pipeline runs what is promised, and refuses what is not."""
    import torch

    from napari_fidelity.core.errors import ArchitectureError
    from napari_fidelity.methods import Apply
    from napari_fidelity.pipeline._blocks import adapted

    class Network(torch.nn.Module):
        def __init__(self, n_channels: int) -> None:
            super().__init__()
            self.n_channels = n_channels

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            assert y.shape[1] == self.n_channels
            return y

    for axes, given in (("YX", 1), ("YXS", 3), ("CYX", 4)):
        for wanted in (1, 3, 4):
            if "choose another" in said(axes, wanted):
                with pytest.raises(ArchitectureError):
                    adapted(Network(wanted), given, Apply())
            else:
                network, fold = adapted(Network(wanted), given, Apply())
                network(torch.rand(given, 1, 8, 9) if fold else torch.rand(1, given, 8, 9))
                assert fold == bool(said(axes, wanted))


def test_a_video_network_on_a_still_image() -> None:
    assert "a still image, which is shown to it 5 times" in said("YX", 1, frames=5)
    assert said("TYX", 1, frames=5) == ""
    assert "still image" in said("TYX", 1, frames=5, T=3)  # only the current frame
    assert said("YX", 1, frames=1) == ""


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], model_file: Path, scene: Any, qtbot: Any) -> CorrectWidget:
    viewer = make_napari_viewer()
    viewer.add_image(scene(24, 20), name="cells")
    widget = CorrectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Correct")
    widget.model.choose(str(model_file))
    qtbot.waitUntil(lambda: widget.model.info is not None, timeout=60_000)
    return widget


def know(dock: CorrectWidget, **told: Any) -> None:
    assert dock.model.info is not None
    dock.model.info = replace(dock.model.info, **told)
    dock.model.changed.emit()


def test_the_dock_says_it_before_a_run(dock: CorrectWidget, scene: Any) -> None:
    advice = dock.maker.advice
    assert not advice.isVisibleTo(dock)
    know(dock, n_channels=3)
    assert "three equal channels" in advice.text()
    assert advice.isVisibleTo(dock)
    dock.viewer.add_image(scene(24, 20, 3), name="colours", rgb=True)
    dock.layer.value = dock.viewer.layers["colours"]
    assert not advice.isVisibleTo(dock)
    know(dock, n_channels=3, frames=5)
    assert "shown to it 5 times" in advice.text()
    dock.viewer.layers.clear()  # and nothing is left to say
    assert not advice.isVisibleTo(dock)


def test_a_network_that_cannot_be_fine_tuned_offers_a_projection(dock: CorrectWidget, qtbot: Any) -> None:
    unsuited = dock.method.unsuited
    assert not unsuited.isVisibleTo(dock)
    know(dock, untrainable="its weights are frozen.")
    assert unsuited.isVisibleTo(dock)
    assert unsuited.note.text() == "This network cannot be fine-tuned: its weights are frozen."
    unsuited.button.click()
    assert dock.method.combo.currentData() == "project"
    assert not unsuited.isVisibleTo(dock)
    with qtbot.waitSignal(_started(dock).finished, timeout=60_000) as blocker:
        pass
    assert blocker.args[0].kind == "done"
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("lucas2020"))
    assert unsuited.isVisibleTo(dock)
    know(dock, untrainable="")
    assert not unsuited.isVisibleTo(dock)


def _started(dock: CorrectWidget) -> Any:
    dock.bar.run_button.click()
    assert dock.run is not None
    return dock.run
