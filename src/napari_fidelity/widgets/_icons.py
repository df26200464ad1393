"""The docks' icons: drawn in one colour, which is that of the text beside them in any theme."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from qtpy.QtCore import QByteArray, QEvent, QObject, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPalette, QPixmap

if TYPE_CHECKING:
    from qtpy.QtWidgets import QAbstractButton, QWidget

NAMES = ("run", "pause", "stop", "compare", "reproduce", "check", "about")

_SIZES = (16, 20, 24, 32, 48)  # pixels; the larger ones are for fine screens
_GROUPS = {QIcon.Mode.Normal: QPalette.ColorGroup.Active, QIcon.Mode.Disabled: QPalette.ColorGroup.Disabled}
_FAINT = 0.35  # opacity of what cannot be clicked, where the theme gives it no colour of its own
_RESTYLED = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.Polish)


def icon(name: str, widget: QWidget) -> QIcon:
    """Return an icon in the text colour that a widget has now.

    Parameters
    ----------
    name
        One of :data:`NAMES`.
    widget
        The widget that will show it; its palette gives the colour.
    """
    widget.ensurePolished()  # a style sheet reaches the palette only then
    colours = {mode: widget.palette().color(group, widget.foregroundRole()) for mode, group in _GROUPS.items()}
    same = colours[QIcon.Mode.Normal] == colours[QIcon.Mode.Disabled]
    drawn = QIcon()
    for mode, colour in colours.items():
        opacity = _FAINT if same and mode == QIcon.Mode.Disabled else 1.0
        for size in _SIZES:
            drawn.addPixmap(_drawn(name, colour, size, opacity), mode)
    return drawn


def set_icon(button: QAbstractButton, name: str) -> None:
    """Give a button an icon that follows the theme; a second one replaces the first."""
    for child in button.children():
        if isinstance(child, _Follower):
            child.show(name)
            return
    _Follower(button, name)


class _Follower(QObject):
    """Draws a button's icon again when its colours change."""

    def __init__(self, button: QAbstractButton, name: str) -> None:
        super().__init__(button)
        self._button = button
        self.show(name)
        button.installEventFilter(self)

    def show(self, name: str) -> None:
        """Draw an icon in the colour of now."""
        self._name = name
        self._colour = self._text_colour()
        self._button.setIcon(icon(name, self._button))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look at what restyles the button; Qt calls this."""
        # Setting an icon restyles the button in turn: only a new colour is worth drawing.
        if event is not None and event.type() in _RESTYLED and self._text_colour() != self._colour:
            self.show(self._name)
        return False

    def _text_colour(self) -> QColor:
        return self._button.palette().color(self._button.foregroundRole())


@cache
def _source(name: str) -> str:
    return (files("napari_fidelity.widgets") / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def _drawn(name: str, colour: QColor, size: int, opacity: float) -> QPixmap:
    from qtpy.QtSvg import QSvgRenderer

    svg = _source(name).replace("currentColor", colour.name())
    renderer = QSvgRenderer(QByteArray(svg.encode()))
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    renderer.render(painter, QRectF(0, 0, size, size))
    # Made faint as a whole: strokes that overlap would otherwise show through each other.
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationIn)
    painter.fillRect(pixmap.rect(), QColor.fromRgbF(0, 0, 0, opacity * colour.alphaF()))
    painter.end()
    return pixmap
