"""Files that run code when they are opened: asked about once for each content, run with that trust."""

from __future__ import annotations

import gc
import hashlib
import shutil
import warnings
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from napari.layers import Image as Layer
from qtpy.QtWidgets import QMessageBox

from napari_fidelity.core.errors import MemoryNeededError, UntrustedModelError
from napari_fidelity.io import load_model
from napari_fidelity.methods import Apply
from napari_fidelity.operators import Downsample
from napari_fidelity.pipeline import ModelReference, Recipe
from napari_fidelity.uncertainty import Ensemble, _files
from napari_fidelity.widgets import _model_memory
from napari_fidelity.widgets._layers import Source
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._model_opened import with_members
from napari_fidelity.widgets._restoration import Request, restoration
from napari_fidelity.widgets.correct import CorrectWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_memory")
SECONDS = 60_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file of a network that enlarges by two."""
    return _program(tmp_path_factory.mktemp("program") / "enlarges.ts", 1.0)


def _program(path: Path, factor: float) -> Path:
    class Enlarges(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(y * self.factor, scale_factor=2.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Enlarges(), torch.rand(1, 1, 16, 16)).save(str(path))
    return path


@pytest.fixture
def picker(qtbot: Any) -> ModelPicker:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    picker.show()
    return picker


def wait(picker: ModelPicker, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: picker.info is not None or picker.error is not None, timeout=SECONDS)


def asked(picker: ModelPicker, qtbot: Any, path: Path | str) -> QMessageBox:
    """Choose a file that must not be opened, press the button, and return the question."""
    picker.choose(str(path))
    wait(picker, qtbot)
    assert isinstance(picker.error, UntrustedModelError)
    assert picker.trust.isVisible()
    picker.trust.button.click()
    question = picker.trust.question
    assert question is not None
    return question


def answer(question: QMessageBox, role: QMessageBox.ButtonRole) -> None:
    next(button for button in question.buttons() if question.buttonRole(button) == role).click()


YES, NO = QMessageBox.ButtonRole.AcceptRole, QMessageBox.ButtonRole.RejectRole


def test_nothing_is_run_before_it_is_allowed(picker: ModelPicker, program: Path, qtbot: Any) -> None:
    question = asked(picker, qtbot, program)
    assert question.defaultButton() is question.button(QMessageBox.StandardButton.Cancel)
    assert question.escapeButton() is question.defaultButton()
    said = question.text() + question.informativeText()
    assert "enlarges.ts" in said
    assert "TorchScript" in said
    shown = said.replace(" ", "").replace("<br>", "")
    assert picker.error.sha256 in shown
    assert "--trust" not in said
    answer(question, NO)
    assert picker.trust.question is None
    assert _model_memory.trusted() == frozenset()
    note = picker.note.text().replace("\u200b", "")
    assert "Nothing of it has been run" in note
    assert "--trust" not in note
    with pytest.raises(UntrustedModelError):
        picker.reference()
    assert program not in _model_memory.recent_files()


def test_the_decision_is_for_the_content(picker: ModelPicker, program: Path, tmp_path: Path, qtbot: Any) -> None:
    answer(asked(picker, qtbot, program), YES)
    wait(picker, qtbot)
    assert picker.info is not None
    assert picker.info.format == "torchscript"
    assert not picker.trust.isVisible()
    assert picker.reference().name == str(program)
    other = tmp_path / "of another name.ts"
    shutil.copyfile(program, other)
    picker.choose(str(other))
    wait(picker, qtbot)
    assert picker.info is not None
    # another content of the same path and name asks again
    _program(other, 2.0)
    question = asked(picker, qtbot, other)
    # and the question goes when another model is chosen
    picker.choose("edsr-s-x2")
    assert picker.trust.question is None
    assert not question.isVisible()
    assert not picker.trust.isVisible()
    assert len(_model_memory.trusted()) == 1


def test_trust_is_taken_back_in_the_card(picker: ModelPicker, program: Path, qtbot: Any) -> None:
    answer(asked(picker, qtbot, program), YES)
    wait(picker, qtbot)
    picker.show_card()
    picker.card.distrusted.emit(picker.info.sha256)
    wait(picker, qtbot)
    assert isinstance(picker.error, UntrustedModelError)
    assert picker.trust.isVisible()


def test_a_recipe_brings_no_trust(picker: ModelPicker, program: Path, qtbot: Any) -> None:
    picker.set_reference(ModelReference(name=str(program), sha256="ab" * 32))
    wait(picker, qtbot)
    assert isinstance(picker.error, UntrustedModelError)
    picker.trust.button.click()
    answer(picker.trust.question, YES)
    wait(picker, qtbot)
    assert picker.reference().sha256 == "ab" * 32  # the run compares it


def test_a_network_of_an_ensemble_needs_trust_too(program: Path) -> None:
    recipe = Recipe(method=Ensemble(of=Apply(), models=("edsr-s-x2", str(program))))
    with pytest.raises(UntrustedModelError, match="Trust and load") as caught:
        with_members(recipe, frozenset())
    opened: Any = with_members(recipe, {caught.value.sha256}).method
    assert opened._trust == {caught.value.sha256}  # a file that changes before it runs asks again
    plain = recipe.replace(method=Ensemble(of=Apply(), models=("edsr-s-x2",)))
    assert with_members(plain, frozenset()) == plain
    none = recipe.replace(method=Apply())
    assert with_members(none, frozenset()) is none


@pytest.mark.parametrize("limit", [None, 1])
def test_a_run_loads_each_network_of_an_ensemble_once(
    limit: int | None, program: Path, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []

    def load(name: str, **settings: Any) -> Any:
        network = load_model(name, **settings)
        held.append(weakref.ref(network))
        return network

    monkeypatch.setattr(_files, "load_model", load)
    if limit is not None:  # the run is refused after the networks have been loaded
        monkeypatch.setattr("napari_fidelity.pipeline.memory.free_memory", lambda device: limit)
    layer = Layer(scene(3, 16, 16), name="cells")
    method = Ensemble(of=Apply(), models=("edsr-s-x2", str(program)))
    recipe = Recipe(operator=Downsample(scale=2), method=method)
    request = Request(Source.of(layer), recipe, "cpu", trusted=frozenset({_sha256(program)}))
    with pytest.raises(MemoryNeededError) if limit else nullcontext() as refused:
        for _ in restoration(request, []):
            pass
    assert len(held) == 2
    gc.collect()
    assert not any(one() for one in held), refused


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], scene: Any) -> CorrectWidget:
    viewer = make_napari_viewer()
    viewer.add_image(scene(24, 20), name="cells")
    widget = CorrectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Correct")
    widget.method.use_projection()
    return widget


def run(dock: CorrectWidget, qtbot: Any) -> Any:
    dock.bar.run_button.click()
    assert dock.run is not None, dock.bar.message.text()
    with qtbot.waitSignal(dock.run.finished, timeout=SECONDS) as blocker:
        pass
    return blocker.args[0]


def test_a_run_passes_trust_on_and_a_changed_file_asks_again(
    dock: CorrectWidget, program: Path, tmp_path: Path, qtbot: Any
) -> None:
    file = tmp_path / "mine.ts"
    shutil.copyfile(program, file)
    dock.model.choose(str(file))
    wait(dock.model, qtbot)
    dock.bar.run_button.click()
    assert dock.run is None
    assert "TorchScript" in dock.bar.message.text()
    dock.model.trust.button.click()
    answer(dock.model.trust.question, YES)
    wait(dock.model, qtbot)
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    assert "'trust" not in str(outcome.value.provenance["recipe"])
    _program(file, 3.0)
    outcome = run(dock, qtbot)
    assert isinstance(outcome.error, UntrustedModelError)
    assert "Trust and load" in dock.bar.message.text()
    qtbot.waitUntil(lambda: dock.model.error is not None, timeout=SECONDS)
    assert dock.model.trust.isVisibleTo(dock)
