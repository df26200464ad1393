"""What every dock is made of: one scrolling column, headed sections, folds and layer combos."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QFormLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_fidelity.widgets._ticks import comparable

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from qtpy.QtWidgets import QComboBox

_HEADING = (
    "QPushButton { text-align: left; border: 1px solid transparent; padding: 3px; }"
    "QPushButton:focus { border: 1px solid palette(highlight); }"
)
_LETTERS = 32  # of a layer's name in a combo box
_LONG = 24  # letters of a word that may be broken
_WIDTH = 300  # the narrowest dock, in pixels


class Dock(QWidget):
    """A column of sections that scrolls when the window is low, over a foot that is always seen.

    Attributes
    ----------
    column, foot
        Layouts of the two.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        # napari hands plugins a stand-in, whose layers are another object each time they are asked for
        self.viewer: ViewerModel = getattr(viewer, "__wrapped__", viewer)
        column = QWidget()
        self.column = QVBoxLayout(column)
        self.column.setContentsMargins(6, 4, 6, 4)
        self.column.setSpacing(4)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(column)
        self.foot = QVBoxLayout()
        self.foot.setContentsMargins(6, 2, 6, 4)
        self.foot.setSpacing(4)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(area, 1)
        outer.addLayout(self.foot)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Ask for the narrowest width at which nothing is clipped, and some height."""
        return QSize(_WIDTH + 20, 700)

    def minimumSizeHint(self) -> QSize:
        """Let the window be low: the column scrolls."""
        return QSize(_WIDTH - 40, 160)

    def section(self, title: str, *widgets: QWidget, folded: bool | None = None) -> QWidget:
        """Add a section and return it.

        Parameters
        ----------
        title
            Its heading.
        widgets
            What it holds, from top to bottom.
        folded
            ``True`` and ``False`` make a section that folds and say how it begins; ``None`` one that does not.
        """
        if folded is None:
            head = QLabel(f"<b>{title}</b>")
            self.column.addWidget(head)
            for widget in widgets:
                self.column.addWidget(widget)
            return head
        fold = fold_away(title, *widgets, folded=folded)
        self.column.addWidget(fold)
        return fold


class Fold(QCollapsible):
    """A heading that folds away what is below it."""

    def __init__(self, title: str) -> None:
        # superqt would draw the triangle in a colour that napari's style sheets know nothing of
        super().__init__(title, expandedIcon=QIcon(), collapsedIcon=QIcon())
        self._title = title
        self.toggleButton().setStyleSheet(_HEADING)
        self.setDuration(0)  # an animation would redraw the whole column many times
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().setSpacing(2)
        self.content().layout().setContentsMargins(8, 0, 0, 4)
        # the keyboard passes by what is folded away
        self.content().setVisible(False)
        self.toggled.connect(self._turned)
        self._turned(False)

    def setText(self, text: str) -> None:
        """Set the heading."""
        self._title = text
        super().setText(f"{'▾' if self.isExpanded() else '▸'} {text}")

    def text(self) -> str:
        """Return the heading."""
        return self._title

    def _turned(self, opened: bool) -> None:
        self.content().setVisible(opened)
        self.setText(self._title)


def fold_away(title: str, *widgets: QWidget, folded: bool = True) -> Fold:
    """Return widgets under a heading that folds them away."""
    fold = Fold(title)
    for widget in widgets:
        fold.addWidget(widget)
    if not folded:
        fold.expand(animate=False)
    return fold


def rows(**widgets: QWidget) -> QWidget:
    """Return labelled rows; the label is the name with blanks for underscores."""
    box = QWidget()
    form = QFormLayout(box)
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for name, widget in widgets.items():
        label = QLabel(name.replace("_", " "))
        label.setToolTip(widget.toolTip())
        label.setBuddy(widget)
        form.addRow(label, widget)
    return box


def note_label(text: str = "") -> QLabel:
    """Return a label for a remark: wraps, can be selected, takes no room while it is empty."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(bool(text))
    return label


def set_note(label: QLabel, text: str) -> None:
    """Show a remark, or hide the label when there is none."""
    label.setText(text)
    label.setVisible(bool(text))


def breakable(text: str) -> str:
    """Let long words such as paths wrap: a label is never narrower than its longest word."""
    return re.sub(rf"\S{{{_LONG},}}", lambda word: re.sub(r"(?<=\w)([/\\_.,:-])", "\\1\u200b", word[0]), text)


def narrow(combo: QComboBox) -> QComboBox:
    """Let a combo box be narrower than its longest entry."""
    combo.setSizeAdjustPolicy(combo.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    return combo


def layer_combo(
    viewer: ViewerModel, tooltip: str, *, accept: Callable[[Any], bool] | None = None, none: str = ""
) -> ComboBox:
    """Return a combo box over the viewer's image layers; its owner calls ``reset_choices`` as layers change.

    Parameters
    ----------
    viewer
        Whose layers are offered.
    tooltip
        What the layer is for.
    accept
        Which layers are offered; image layers if left out.
    none
        Words for no layer, if that is a choice.
    """

    def choices(_: object) -> list[tuple[str, Any]]:
        offered = accept or comparable
        layers = [layer for layer in viewer.layers if offered(layer)]
        names = [_shortened(layer.name) for layer in layers]
        if len(set(names)) < len(names):
            names = [layer.name for layer in layers]
        return ([(none, None)] if none else []) + list(zip(names, layers, strict=True))

    combo = ComboBox(choices=choices, tooltip=tooltip, nullable=False)
    narrow(combo.native)
    combo.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


class LazyFold(Fold):
    """A fold whose content is made when it is first opened: a dock with many options still opens at once."""

    def __init__(self, title: str, build: Callable[[], QWidget]) -> None:
        super().__init__(title)
        self._build = build
        self.widget: QWidget | None = None
        self.toggled.connect(self._opened)

    def rebuild(self) -> None:
        """Make the content anew, as what it is made of has changed."""
        if self.widget is None:
            return
        self.removeWidget(self.widget)
        self.widget.deleteLater()
        self._make()

    def _opened(self, opened: bool) -> None:
        if opened and self.widget is None:
            self._make()

    def _make(self) -> None:
        self.widget = self._build()
        self.addWidget(self.widget)
        last: QWidget = self.toggleButton()
        for control in self.widget.findChildren(QWidget):  # Tab would come to what is made late last of all
            own = control.window() is last.window()  # lists of combo boxes are windows of their own
            if own and control.focusPolicy() & Qt.FocusPolicy.TabFocus:
                QWidget.setTabOrder(last, control)
                last = control


def _shortened(name: str) -> str:
    """Return a name that fits a narrow combo box: layers that belong together differ at the end."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS // 2 - 4]}…{name[-_LETTERS // 2 - 3 :]}"
