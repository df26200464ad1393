"""What is registered while the docks are open is offered in them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from napari.components import ViewerModel
from torch import nn

import napari_fidelity as nf
from napari_fidelity.core.registry import OWN_MODELS, OWN_OPERATORS
from napari_fidelity.operators import Downsample, GaussianBlur, Registered
from napari_fidelity.widgets._formation import FormationPanel
from napari_fidelity.widgets._model import ModelPicker, bundled

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_registered")


def register(name: str = "my-net", scale: int = 2, **card: Any) -> None:
    nf.register_model(name, nn.Upsample(scale_factor=scale), scale=scale, n_channels=1, **card)


def entries(combo: Any) -> list[str]:
    return [combo.itemText(i) for i in range(combo.count())]


@pytest.fixture
def picker(qtbot: Any, model_file: Path) -> ModelPicker:
    picker = ModelPicker(model_file.parent)
    qtbot.addWidget(picker)
    return picker


@pytest.fixture
def panel(qtbot: Any) -> FormationPanel:
    panel = FormationPanel(ViewerModel())
    qtbot.addWidget(panel)
    return panel


def test_models_come_after_the_bundled_ones_in_open_and_new_pickers(
    picker: ModelPicker, qtbot: Any, model_file: Path
) -> None:
    n = len(bundled())
    before = entries(picker.combo)
    chosen = picker.name
    register()
    register("other", 3)
    own = ["my-net – ×2, gray, Upsample", "other – ×3, gray, Upsample"]
    assert entries(picker.combo) == [*before[:n], *own, *before[n:]]
    assert picker.name == chosen == picker.combo.currentData()
    again = ModelPicker(model_file.parent)
    qtbot.addWidget(again)
    assert entries(again.combo) == entries(picker.combo)
    bundled.cache_clear()
    assert len(bundled()) == n


def test_a_model_is_chosen_and_described(picker: ModelPicker, qtbot: Any) -> None:
    register(trained_for="tests", licence="mine")
    with qtbot.waitSignal(picker.changed, timeout=20_000):
        picker.choose("my-net")
    assert picker.info == OWN_MODELS.all()["my-net"].info
    assert picker.note.text() == "Trained for tests. Licence: mine."
    assert picker.reference().name == "my-net"
    with qtbot.waitSignal(picker.changed, timeout=20_000):
        register(scale=4, trained_for="more tests")  # what is chosen is another one now
    assert (picker.name, picker.scale) == ("my-net", 4)
    assert "×4" in picker.combo.currentText()
    assert "Trained for more tests." in picker.note.text()


def test_denoisers_keep_the_size(qtbot: Any) -> None:
    picker = ModelPicker(denoiser=True)
    qtbot.addWidget(picker)
    register("enlarging")
    register("denoising", 1)
    names = [picker.combo.itemData(i) for i in range(picker.combo.count())]
    assert "denoising" in names
    assert "enlarging" not in names


def test_another_thread_may_register(picker: ModelPicker, qtbot: Any) -> None:
    thread = threading.Thread(target=register)
    thread.start()
    qtbot.waitUntil(lambda: picker.combo.findData("my-net") >= 0)
    thread.join()


def test_pickers_that_are_gone_are_left_alone(qtbot: Any) -> None:
    picker = ModelPicker()
    picker.deleteLater()
    qtbot.wait(1)
    register()


def test_operators_are_offered_once_there_are_some(panel: FormationPanel) -> None:
    preset = panel.forms.preset
    before = entries(preset)
    nf.register_operator("my-blur", GaussianBlur(sigma=1.3))
    assert entries(preset) == [*before, "my-blur (your own)"]
    panel.forms.choose("registered:name=my-blur")
    assert panel.operator() == Registered(name="my-blur")
    assert panel.forms.blur.isHidden()
    heard: list[bool] = []
    panel.changed.connect(lambda: heard.append(True))
    nf.register_operator("my-blur", Downsample(scale=2))
    assert heard
    assert entries(preset) == [*before, "my-blur (your own)"]


def test_a_recipe_with_an_operator_is_shown(panel: FormationPanel) -> None:
    named = nf.register_operator("my-blur", GaussianBlur(sigma=1.3))
    panel.set_formation(named, None)
    assert panel.forms.chosen == "registered:name=my-blur"
    assert panel.operator() == named
    both = Downsample(scale=2) @ named
    panel.set_formation(both, None)
    assert panel.forms.chosen == "written"
    assert panel.forms.written.operator() == both


def test_one_that_is_gone_says_so(panel: FormationPanel) -> None:
    nf.register_operator("my-blur", GaussianBlur(sigma=1.3))
    panel.forms.choose("registered:name=my-blur")
    OWN_OPERATORS.clear()
    panel.set_scale(2)
    panel.forms.edited.emit()
    assert "No operator of the name 'my-blur' is registered" in panel.problem.text()


def test_an_object_that_only_applies_to_one_size_breaks_nothing(panel: FormationPanel) -> None:
    class Sized:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.ones(7, 9)

        A_adjoint = A

    nf.register_operator("sized", Sized())
    panel.forms.choose("registered:name=sized")
    assert panel.problem.text() == ""
    assert panel.operator().image_shape((7, 9)) == (7, 9)
