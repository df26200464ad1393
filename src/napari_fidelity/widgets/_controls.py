"""Small controls that several panels are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import narrow
from napari_fidelity.widgets._fields import quiet_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping


def choice(entries: Mapping[str, tuple[str, str]], name: str, tooltip: str) -> QComboBox:
    """Return a combo box over named entries.

    Parameters
    ----------
    entries
        Words and meaning of each, by the key that ``currentData`` returns.
    name
        What is chosen, for screen readers.
    tooltip
        What is chosen, for everyone.
    """
    combo = narrow(QComboBox())
    for key, (words, meaning) in entries.items():
        combo.addItem(words, key)
        combo.setItemData(combo.count() - 1, f"<qt>{meaning}</qt>", Qt.ItemDataRole.ToolTipRole)
    combo.setToolTip(f"<qt>{tooltip}</qt>")
    combo.setAccessibleName(name)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    quiet_wheel(combo)
    return combo


def number_edit(name: str, tooltip: str) -> QLineEdit:
    """Return a line to type a number in, freely."""
    edit = QLineEdit()
    edit.setMinimumWidth(50)
    edit.setAccessibleName(name)
    edit.setToolTip(f"<qt>{tooltip}</qt>")
    return edit


def stacked(*widgets: QWidget) -> QWidget:
    """Return widgets one below the other."""
    box = QWidget()
    column = QVBoxLayout(box)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    for widget in widgets:
        column.addWidget(widget)
    return box


def labelled(fields: Mapping[str, QWidget]) -> QWidget:
    """Return labelled rows."""
    box = QWidget()
    form = QFormLayout(box)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(2)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for words, field in fields.items():
        label = QLabel(words)
        label.setToolTip(field.toolTip())
        label.setBuddy(field)
        form.addRow(label, field)
    return box
