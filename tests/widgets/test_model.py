"""Choosing a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_fidelity.core.errors import ArchitectureError, ModelFileError
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.widgets import _model
from napari_fidelity.widgets._model import ModelPicker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_memory")
SECONDS = 60_000


@pytest.fixture
def picker(qtbot: Any) -> ModelPicker:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    return picker


def entries(picker: ModelPicker) -> list[str]:
    return [picker.combo.itemText(i) for i in range(picker.combo.count())]


def wait(picker: ModelPicker, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: picker.info is not None or picker.error is not None, timeout=SECONDS)


def test_it_begins_with_a_bundled_one(picker: ModelPicker) -> None:
    assert picker.name == "edsr-s-x2"
    assert picker.scale == 2
    reference = picker.reference()
    assert (reference.name, reference.scale) == ("edsr-s-x2", None)
    assert entries(picker)[-1] == "Choose a file…"
    assert "bicubic downsampling" in picker.note.text()


def test_a_bundled_one_makes_way_for_one_that_fits(picker: ModelPicker, qtbot: Any) -> None:
    with qtbot.waitSignal(picker.changed):
        picker.fit(4)
    assert picker.name == "edsr-s-x4"
    picker.fit(1)
    assert picker.name == "edsr-s-x1"
    picker.fit(8)  # there is none: it stays, and says what that means
    assert picker.name == "edsr-s-x1"
    assert "asks for ×8" in picker.note.text()
    assert picker.reference().scale == 8


def test_a_file_is_read_when_it_is_chosen(
    picker: ModelPicker, qtbot: Any, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(model_file), ""))
    last = picker.combo.count() - 1
    picker.combo.setCurrentIndex(last)
    picker.combo.activated.emit(last)
    wait(picker, qtbot)
    assert picker.scale == 2
    assert picker.reference().name == str(model_file)
    # it is remembered
    again = ModelPicker()
    qtbot.addWidget(again)
    qtbot.waitUntil(lambda: f"{model_file.name} – ×2, gray, EDSR" in entries(again), timeout=SECONDS)


def test_a_cancelled_dialog_changes_nothing(picker: ModelPicker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    last = picker.combo.count() - 1
    picker.combo.setCurrentIndex(last)
    picker.combo.activated.emit(last)
    assert picker.combo.currentData() == picker.name == "edsr-s-x2"


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(b"", ".safetensors"), (b"garbage" * 99, ".safetensors"), (b"garbage", ".pth"), (b"words", ".txt")],
)
def test_what_is_no_model_says_why(
    picker: ModelPicker, qtbot: Any, tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    picker.choose(str(path))
    wait(picker, qtbot)
    assert path.name in picker.note.text().replace("\u200b", "")
    with pytest.raises(ModelFileError):
        picker.reference()
    picker.choose("edsr-s-x4")  # and nothing is broken
    assert picker.reference().name == "edsr-s-x4"


def test_a_denoiser_keeps_the_size(qtbot: Any, model_file: Path) -> None:
    picker = ModelPicker(denoiser=True)
    qtbot.addWidget(picker)
    assert picker.scale == 1
    assert not [text for text in entries(picker) if "×2" in text or "×4" in text]
    picker.choose(str(model_file))
    wait(picker, qtbot)
    with pytest.raises(ArchitectureError, match="enlarges ×2"):
        picker.reference()


def test_a_network_that_is_told_the_noise_level_is_the_first_denoiser_and_the_last_corrector(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = tuple(
        ModelInfo(name, architecture, scale, 3, 1)
        for name, architecture, scale in (("a", "DRUNet", 1), ("b", "EDSR", 1), ("c", "EDSR", 2))
    )
    monkeypatch.setattr("napari_fidelity.io.list_models", lambda: infos)
    _model.bundled.cache_clear()
    try:
        assert [info.id for info in _model.bundled()] == ["c", "b", "a"]
        picker = ModelPicker(denoiser=True)
        qtbot.addWidget(picker)
        assert picker.name == "a"
    finally:
        _model.bundled.cache_clear()
