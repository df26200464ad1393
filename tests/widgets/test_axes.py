"""Axes are recognised, shown in a narrow dock, and changed with the keyboard alone."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._axes import AxesTable
from napari_fidelity.widgets._layers import guess_axes

if TYPE_CHECKING:
    from collections.abc import Callable

STACK = {"axis_labels": ("time", "z", "wavelengths", "y", "x"), "scale": (1, 2, 1, 1, 1)}


@pytest.fixture
def table(qtbot: Any) -> AxesTable:
    widget = AxesTable()
    qtbot.addWidget(widget)
    return widget


def image(*shape: int, **how: Any) -> Image:
    return Image(np.zeros(shape, np.uint8), name="image", **how)


def texts(table: AxesTable) -> list[str]:
    return [label.text() for label in table.findChildren(QLabel) if label.isVisibleTo(table) and label.text()]


def combos(table: AxesTable) -> list[QComboBox]:
    return [combo for row in table._rows for combo in (row.role, row.extent)]


# how the layer is described: axes that are found
GUESSES: list[tuple[tuple[int, ...], dict[str, Any], str]] = [
    ((4, 4), {}, "YX"),
    ((4, 4, 3), {"rgb": True}, "YXS"),
    ((5, 4, 4), {}, "ZYX"),
    ((5, 4, 4, 4), {"rgb": True}, "ZYXS"),
    ((2, 5, 4, 4), {}, "TZYX"),
    ((2, 5, 3, 4, 4), {}, "TZCYX"),
    ((5, 4, 4), {"axis_labels": ("Time", "y", "x")}, "TYX"),
    ((5, 4, 4), {"axis_labels": ("c", "y", "x")}, "CYX"),
    ((5, 4, 4), {"axis_labels": ("t", "a", "b")}, "TYX"),
    ((4, 4, 5), {"axis_labels": ("row", "column", "depth")}, "YXZ"),
    ((2, 5, 4, 4), {"axis_labels": ("", "channel", "y", "x")}, "ZCYX"),
    ((2, 5, 4, 4), {"axis_labels": ("z", "z", "y", "x")}, "TZYX"),  # nonsense is as good as nothing
    ((2, 4, 4), {"axis_labels": ("y", "x", "q")}, "YXZ"),
    ((5, 4, 4), {"units": ("s", "um", "um")}, "TYX"),
    ((5, 2, 4, 4), {"units": ("um", "min", "um", "um")}, "ZTYX"),
    ((5, 4, 4), {"metadata": {"axes": "TYX"}}, "TYX"),
    ((5, 4, 4), {"metadata": {"axes": "QYX"}}, "ZYX"),
    ((5, 4, 4), {"metadata": {"axes": "TCZYX"}}, "ZYX"),
    ((5, 4, 4, 3), {"rgb": True, "metadata": {"axes": "TYXS"}}, "TYXS"),
    ((5, 4, 4), {"metadata": {"dims": ["c", "y", "x"]}, "axis_labels": ("t", "y", "x")}, "TYX"),
    (
        (5, 4, 4),
        {"metadata": {"napari-fidelity": {"source": {"axes": "CYX"}}}, "axis_labels": ("t", "y", "x")},
        "CYX",
    ),
]


@pytest.mark.parametrize(("shape", "how", "axes"), GUESSES)
def test_axes_are_recognised(shape: tuple[int, ...], how: dict[str, Any], axes: str) -> None:
    assert guess_axes(image(*shape, **how)) == axes


@pytest.mark.parametrize(
    ("shape", "rgb", "words"),
    [
        ((64, 48), False, "2-D image, 64 × 48"),
        ((64, 64, 3), True, "2-D image, 64 × 64, RGB"),
        ((64, 64, 4), True, "2-D image, 64 × 64, RGB (alpha is not used)"),
    ],
)
def test_a_flat_image_needs_one_line(table: AxesTable, shape: Any, rgb: bool, words: str) -> None:
    table.set_layer(image(*shape, rgb=rgb))
    assert texts(table) == [words]
    assert combos(table) == []
    assert table.axes() == ("YXS" if rgb else "YX")


def test_the_rows_of_a_stack(table: AxesTable) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 12, 3, 8, 8), np.uint8), **STACK)
    table.set_layer(layer)
    assert texts(table) == ["5 × 12 × 3 planes of 8 × 8", "Axis", "Meaning", "Restore", "time", "z", "wavele…"]
    shown = [combo.currentText() for combo in combos(table)]
    assert shown == ["time", "current", "depth", "current", "channel", "all 3"]
    assert table.axes() == "TZCYX"
    viewer.dims.set_current_step(0, 4)
    viewer.dims.set_current_step(1, 7)
    assert table.index(viewer) == {"T": 4, "Z": 7}
    table._rows[0].extent.setCurrentIndex(0)
    assert table.index(viewer) == {"Z": 7}


def test_a_role_that_is_taken_is_exchanged(table: AxesTable, qtbot: Any) -> None:
    table.set_layer(image(5, 12, 8, 8))
    assert table.axes() == "TZYX"
    first = table._rows[0]
    with qtbot.waitSignal(table.changed):
        first.role.setCurrentIndex(first.role.findText("depth"))
    assert table.axes() == "ZTYX"
    assert "slice" in first.extent.toolTip()
    first.role.setCurrentIndex(first.role.findText("channel"))
    assert table.axes() == "CTYX"


def test_choices_belong_to_the_layer(table: AxesTable) -> None:
    viewer = ViewerModel()
    first, second = viewer.add_image(np.zeros((5, 8, 8))), viewer.add_image(np.zeros((5, 8, 8)))
    table.set_layer(first)
    table._rows[0].role.setCurrentIndex(2)
    table._rows[0].extent.setCurrentIndex(0)
    table.set_layer(second)
    assert (table.axes(), table.index(viewer)) == ("ZYX", {"Z": viewer.dims.current_step[0]})
    table.set_layer(first)
    assert (table.axes(), table.index(viewer)) == ("CYX", {})
    widgets = combos(table)
    table.set_layer(first)
    assert combos(table) == widgets  # nobody loses the focus because the layer is chosen again


def test_the_choice_of_an_earlier_run(table: AxesTable) -> None:
    viewer = ViewerModel()
    table.set_layer(viewer.add_image(np.zeros((5, 8, 8))))
    viewer.dims.set_current_step(0, 3)
    table.set_axes("TYX", {})
    assert (table.axes(), table.index(viewer)) == ("TYX", {})
    table.set_axes("CYX", {"C": 1})
    assert (table.axes(), table.index(viewer)) == ("CYX", {"C": 3})
    for nonsense in ("YX", "TZYX", "YYX", "TYS"):
        table.set_axes(nonsense, {})
        assert table.axes() == "CYX"


def test_layers_that_change(table: AxesTable, qtbot: Any) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 8, 8)))
    table.set_layer(layer)
    with qtbot.waitSignal(table.changed):
        layer.data = np.zeros((7, 8, 8))
    assert combos(table)[1].itemText(0) == "all 7"
    layer.data = np.zeros((7, 9, 9))
    assert texts(table)[0] == "7 planes of 9 × 9"
    with qtbot.waitSignal(table.changed):
        layer.axis_labels = ("t", "y", "x")
    assert table.axes() == "TYX"
    layer.data = np.zeros((2, 5, 8, 8))
    assert (table.axes(), len(combos(table))) == ("TZYX", 4)


def test_what_cannot_be_used_is_said(table: AxesTable) -> None:
    viewer = ViewerModel()
    with pytest.raises(ImageError, match="no layer"):
        table.axes()
    table.set_layer(image(1, 1, 1, 1, 4, 4))
    assert "more dimensions" in texts(table)[0]
    with pytest.raises(ImageError, match="more dimensions"):
        table.index(viewer)
    far = viewer.add_image(np.zeros((3, 8, 8)), translate=(100, 0, 0))
    viewer.add_image(np.zeros((3, 8, 8)))
    viewer.dims.set_point(0, 0)
    table.set_layer(far)
    with pytest.raises(ImageError, match="Move the slider"):
        table.index(viewer)
    table.set_layer(None)
    assert texts(table) == ["No layer is chosen."]


def test_layers_and_tables_outlive_each_other(qtbot: Any) -> None:
    viewer = ViewerModel()
    table = AxesTable()

    def shown_for_a_while() -> weakref.ref[Image]:
        layer = image(5, 8, 8)
        table.set_layer(layer)
        return weakref.ref(layer)

    gone = shown_for_a_while()
    gc.collect()
    assert gone() is None
    with pytest.raises(ImageError, match="gone"):
        table.index(viewer)
    layer = viewer.add_image(np.zeros((5, 8, 8)))
    table.set_layer(layer)
    table.deleteLater()
    QApplication.sendPostedEvents(None, 0)
    QApplication.processEvents()
    layer.data = np.zeros((6, 8, 8))  # the table's Qt half is gone, its Python half is not


def test_the_keyboard_is_enough(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    box, table = QWidget(), AxesTable()
    before, after = QLineEdit(), QLineEdit()
    column = QVBoxLayout(box)
    for widget in (before, table, after):
        column.addWidget(widget)
    viewer.window.add_dock_widget(box, area="right")
    layer = viewer.add_image(np.zeros((5, 12, 3, 8, 8), np.uint8), **STACK)
    table.set_layer(layer)
    QApplication.processEvents()
    visited, here = [], before
    while here is not after and len(visited) < 20:
        here = here.nextInFocusChain()
        if here.isVisible() and here.focusPolicy() & Qt.FocusPolicy.TabFocus:
            visited.append(here)
    assert visited == [*combos(table), after]
    qtbot.keyClick(combos(table)[1], Qt.Key.Key_Up)
    assert combos(table)[1].currentText() == "all 5"
    assert "T" not in table.index(viewer)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_clipped_in_a_narrow_dock(
    make_napari_viewer: Callable[..., Any], qtbot: Any, theme: str
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.theme = theme
    table = AxesTable()
    dock = viewer.window.add_dock_widget(table, area="right")
    table.set_layer(viewer.add_image(np.zeros((5, 120, 3, 8, 8), np.uint8), **STACK))
    table.set_memory("Reads 12 MB, the result takes 200 MB")
    dock.setFixedWidth(272)  # what 300 leave beside margins and a scroll bar
    QApplication.processEvents()
    assert table.minimumSizeHint().width() <= 272
    for combo in combos(table):
        arrow_and_margins = 30
        assert combo.fontMetrics().horizontalAdvance(combo.currentText()) + arrow_and_margins <= combo.width()
        assert combo.toolTip() and combo.accessibleName()
    for label in table.findChildren(QLabel):
        if label.isVisible() and not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width()
            assert label.toolTip()
