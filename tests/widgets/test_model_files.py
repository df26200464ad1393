"""The list of models: bundled, from the model folder, recent ones; drives may be slow, full or gone."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from napari import settings as napari_settings
from npe2 import PluginManifest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog

import napari_fidelity
from napari_fidelity.io._formats import SUFFIXES
from napari_fidelity.widgets import _model_memory, _model_search
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._model_files import Listing, in_folder, is_model, still_there
from napari_fidelity.widgets._model_memory import recent_files, remember, stamp_of, tell, told
from napari_fidelity.widgets._model_reading import bundled

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("fresh_memory")
SECONDS = 60_000
NAMES = ["b.pth", "A x10.safetensors", "a x2.pt", "c.ckpt", "c.bin", "d.ts", "e.pt2", "f.zip", "g.tar", "rdf.yaml"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (*NAMES, "readme.txt", ".hidden.pth", "pth"):
        (folder / name).write_bytes(b"no model")
    (folder / "folder.pth").mkdir()
    return folder


@pytest.fixture
def pick(qtbot: Any) -> Callable[..., ModelPicker]:
    def pick(folder: Path | None = None) -> ModelPicker:
        picker = ModelPicker(folder)
        qtbot.addWidget(picker)
        return picker

    return pick


def entries(picker: ModelPicker) -> list[str]:
    return [picker.combo.itemText(i) for i in range(picker.combo.count())]


def wait_for(qtbot: Any, picker: ModelPicker, text: str) -> None:
    qtbot.waitUntil(lambda: text in entries(picker), timeout=SECONDS)


def test_a_folder_is_listed_by_name_and_number(folder: Path) -> None:
    listing = in_folder(folder, {})
    names = [path.name for path in listing.files]
    assert names == [
        "a x2.pt",
        "A x10.safetensors",
        "b.pth",
        "c.bin",
        "c.ckpt",
        "d.ts",
        "e.pt2",
        "f.zip",
        "g.tar",
        "rdf.yaml",
    ]
    assert (listing.left_out, listing.problem) == (0, "")


def test_every_file_that_loads_can_be_chosen(
    pick: Callable[..., ModelPicker], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: (asked.append(args[3]), ("", ""))[1])
    pick()._ask_for_file()
    for suffix in SUFFIXES:
        assert is_model(f"net{suffix}" if suffix != ".yaml" else "rdf.yaml")
        assert f"*{suffix}" in asked[0]
    assert is_model("net.rdf.yaml")
    assert not is_model("environment.yaml")


def test_thousands_of_files_make_no_endless_list(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.pth").touch()
    began = time.perf_counter()
    listing = in_folder(tmp_path, {})
    assert time.perf_counter() - began < 5
    assert len(listing.files) + listing.left_out == 2000
    assert [path.stem for path in listing.files[:3]] == ["0", "1", "2"]


def test_what_cannot_be_listed_says_so(tmp_path: Path) -> None:
    assert "is not there" in in_folder(tmp_path / "gone", {}).problem
    file = tmp_path / "file"
    file.touch()
    assert "cannot be read" in in_folder(file, {}).problem


def test_what_was_told_counts_until_the_file_changes(folder: Path) -> None:
    file = folder / "b.pth"
    tell(file, stamp_of(file), "×4, RGB, RRDB")
    assert in_folder(folder, told()).words == {file: "×4, RGB, RRDB"}
    assert still_there([file, folder / "gone.pth"], told()) == Listing((file,), {file: "×4, RGB, RRDB"})
    file.write_bytes(b"another one")
    assert in_folder(folder, told()).words == {}


def test_a_damaged_memory_is_an_empty_one() -> None:
    for damaged in ("{", "[1]", '{"a": 1}', '{"a": [[1], "x"]}'):
        _model_memory.stored().setValue("models/told", damaged)
        assert told() == {}


def test_the_list_is_in_groups(
    folder: Path, pick: Callable[..., ModelPicker], model_file: Path, qtbot: Any
) -> None:
    remember(model_file)
    remember(folder / "vanished.pth")
    remember(folder / "b.pth")
    picker = pick(folder)
    wait_for(qtbot, picker, "f.zip")
    wait_for(qtbot, picker, model_file.name)
    shown = entries(picker)
    assert shown[len(bundled())] == ""  # a line below the bundled ones
    assert shown.count("b.pth") == 1
    assert "vanished.pth" not in shown
    assert shown[-1] == "Choose a file…"
    assert shown.index("f.zip") < shown.index(model_file.name)
    assert picker.combo.currentData() == picker.name == "edsr-s-x2"


def test_scale_and_architecture_are_told_once_a_file_was_read(
    pick: Callable[..., ModelPicker], model_file: Path, qtbot: Any
) -> None:
    picker = pick(model_file.parent)
    wait_for(qtbot, picker, model_file.name)
    picker.choose(str(model_file))
    wait_for(qtbot, picker, f"{model_file.name} – ×2, gray, EDSR")
    assert picker.combo.currentData() == str(model_file)
    wait_for(qtbot, pick(model_file.parent), f"{model_file.name} – ×2, gray, EDSR")


def test_a_folder_that_comes_and_goes(folder: Path, pick: Callable[..., ModelPicker], qtbot: Any) -> None:
    hidden = folder.rename(folder.with_name("elsewhere"))
    picker = pick(folder)
    wait_for(qtbot, picker, "The model folder is not there")
    remark = picker.combo.findText("The model folder is not there")
    assert not picker.combo.model().item(remark).isEnabled()
    hidden.rename(folder)
    picker.combo.showPopup()  # which looks again
    wait_for(qtbot, picker, "b.pth")
    picker.combo.hidePopup()
    assert "The model folder is not there" not in entries(picker)


def test_a_slow_drive_holds_nothing_up(
    folder: Path, pick: Callable[..., ModelPicker], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), []

    def slow(*args: Any) -> Listing:
        asked.append(args)
        answers.wait(30)
        return in_folder(*args)

    monkeypatch.setattr(_model_search, "in_folder", slow)
    picker = pick(folder)
    try:
        qtbot.waitUntil(lambda: bool(asked))
        for _ in range(3):
            picker.search.look()
        picker.choose("edsr-s-x4")
        assert picker.scale == 4
        assert "b.pth" not in entries(picker)
    finally:
        answers.set()
    wait_for(qtbot, picker, "b.pth")
    assert len(asked) == 1
    assert picker.combo.currentData() == "edsr-s-x4"


def test_the_answer_for_a_folder_that_is_not_meant_any_more(
    folder: Path, pick: Callable[..., ModelPicker], tmp_path: Path
) -> None:
    picker = pick()
    picker.search.folder = tmp_path
    picker.search._found(folder, in_folder(folder, {}))
    assert "b.pth" not in entries(picker)


def test_a_file_that_vanished_says_so(folder: Path, pick: Callable[..., ModelPicker], qtbot: Any) -> None:
    picker = pick(folder)
    wait_for(qtbot, picker, "b.pth")
    (folder / "b.pth").unlink()
    at = picker.combo.findText("b.pth")
    picker.combo.setCurrentIndex(at)
    picker.combo.activated.emit(at)
    qtbot.waitUntil(lambda: picker.error is not None, timeout=SECONDS)
    assert "'b.pth' is not there" in picker.note.text()
    picker.search.look()
    picker.choose("edsr-s-x2")
    qtbot.waitUntil(lambda: "b.pth" not in entries(picker), timeout=SECONDS)


def test_files_of_one_name_are_told_apart(folder: Path, pick: Callable[..., ModelPicker], tmp_path: Path) -> None:
    picker = pick()
    picker.combo.show_folder(Listing((folder / "b.pth",)))
    picker.combo.show_recent(Listing((tmp_path / "other" / "b.pth",)))
    assert {"b.pth (models)", "b.pth (other)"} <= set(entries(picker))


def test_too_many_files_are_counted(folder: Path, pick: Callable[..., ModelPicker]) -> None:
    picker = pick()
    picker.combo.show_folder(Listing((folder / "b.pth",), left_out=1500))
    at = picker.combo.findText("… and 1500 more: choose a file")
    assert at > 0
    assert not picker.combo.model().item(at).isEnabled()


def test_the_folder_of_the_preferences_is_followed(
    folder: Path, pick: Callable[..., ModelPicker], qtbot: Any, plugin_settings: None, npe2pm: Any
) -> None:
    manifest = Path(napari_fidelity.__file__).parent / "napari.yaml"
    npe2pm.register(PluginManifest.from_file(manifest))
    picker = pick()
    page = napari_settings.get_plugin_settings("napari-fidelity").fidelity
    page.model_folder = str(folder)
    wait_for(qtbot, picker, "b.pth")
    page.model_folder = ""
    qtbot.waitUntil(lambda: "b.pth" not in entries(picker), timeout=SECONDS)


def drop(picker: ModelPicker, *urls: str) -> bool:
    """Drop files or addresses onto the picker; return whether it would take them."""
    data = QMimeData()
    data.setUrls([QUrl(url) for url in urls])
    given = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPointF(5, 5).toPoint(), *given)
    enter.ignore()
    picker.dragEnterEvent(enter)
    picker.dropEvent(QDropEvent(QPointF(5, 5), *given))
    return enter.isAccepted()


def test_a_model_file_can_be_dropped(pick: Callable[..., ModelPicker], model_file: Path, qtbot: Any) -> None:
    picker = pick()
    assert picker.acceptDrops()
    for urls in ([], ["https://a.org/b.pth"], ["file:///a/b.tif"], ["file:///a.pth", "file:///b.pth"]):
        assert not drop(picker, *urls)
        assert picker.name == "edsr-s-x2"
    assert drop(picker, QUrl.fromLocalFile(str(model_file)).toString())
    assert picker.name == str(model_file)
    qtbot.waitUntil(lambda: picker.info is not None, timeout=SECONDS)
    assert recent_files() == [model_file]
    picker.fit(4)  # it was chosen by hand: no bundled one takes its place
    assert picker.name == str(model_file)
