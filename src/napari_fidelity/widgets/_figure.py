"""A matplotlib figure for a dock.

matplotlib is imported in the background when there is something to draw, never when a dock opens. The margins are
fixed numbers of pixels: with a layout engine every draw would take two or three times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import note_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QColor

_INTERVAL = 200  # ms between two draws
_HEIGHT = 170  # px
# Okabe and Ito's colours, which colour-blind readers tell apart; darker ones on light themes.
_ON_DARK = ("#56b4e9", "#e69f00", "#2fbf94", "#cc79a7", "#e8743b", "#b7a8f0", "#c9bb3f")
_ON_LIGHT = ("#0072b2", "#b35900", "#007a5a", "#a8488b", "#8c3b00", "#5b4bb0", "#756800")


class LatePlot(QWidget):
    """A figure that is made late, drawn at most five times a second and follows the theme."""

    margins = (48, 12, 8, 38)  # px: left, right, top, bottom

    def __init__(self) -> None:
        super().__init__()
        self._canvas: Any = None
        self._figure: Any = None
        self._asked = self._stale = False
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(2)
        self._place = QWidget()
        self._place.setFixedHeight(_HEIGHT)
        place = QVBoxLayout(self._place)
        place.setContentsMargins(0, 0, 0, 0)
        self.column.addWidget(self._place)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._draw)
        # not Fixed: a legend that wraps needs more than the size hint
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)

    def prepare(self) -> None:
        """Make the figure ahead of time: the first drawing takes a tenth of a second."""
        if self._canvas is None:
            self._load()

    def changeEvent(self, event: QEvent) -> None:
        """Take over the colours of a new theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and self._canvas is not None:
            self._redraw()

    def showEvent(self, event: QEvent) -> None:
        """Draw what came in while nobody could see it."""
        super().showEvent(event)
        if self._stale:
            self._redraw()

    def resizeEvent(self, event: QEvent) -> None:
        """Keep the margins."""
        super().resizeEvent(event)
        if self._canvas is not None:
            self._redraw()

    def _redraw(self) -> None:
        if not self._timer.isActive():
            self._timer.start(_INTERVAL if self._canvas is not None else 0)

    def _draw(self) -> None:
        self._stale = not self.isVisible()
        if self._stale:
            return
        if self._canvas is None:
            self._load()
            return
        width, height = max(self._place.width(), 100), self._place.height()
        left, right, top, bottom = self.margins
        self._figure.subplots_adjust(
            left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height
        )
        self._paint()
        self._canvas.draw_idle()

    def _load(self) -> None:
        if self._asked:
            return
        self._asked = True
        if _Matplotlib.ready:
            self._loaded()
            return
        from napari_fidelity.widgets._worker import run_later

        # The worker knows nothing of this widget, which may be gone when it is done.
        run_later(_Matplotlib.load, lambda _: _if_alive(self, self._loaded), self._failed, "Loading the plots")

    def _loaded(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        self._figure = Figure(dpi=100)
        self._canvas = FigureCanvasQTAgg(self._figure)
        # The wheel scrolls the dock, and the tooltip is this widget's.
        self._canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._canvas.setMinimumSize(1, 1)
        self._build()
        self._place.layout().addWidget(self._canvas)
        if not self.isVisible():
            self._canvas.draw()
        self._redraw()

    def _failed(self, error: Exception) -> None:
        _if_alive(self, lambda: self._place.layout().addWidget(note_label(f"No plot: {error}")))

    def _build(self) -> None:
        """Make the axes."""
        raise NotImplementedError

    def _paint(self) -> None:
        """Bring data and colours into the axes."""
        raise NotImplementedError

    def colour(self, number: int | None) -> str:
        """Return the colour of a line in the present theme; that of text for ``None``."""
        palette = self.palette()
        if number is None:
            text: QColor = palette.color(palette.ColorRole.WindowText)
            return str(text.name())
        colours = _ON_DARK if self._back().lightness() < 128 else _ON_LIGHT
        return colours[number % len(colours)]

    def _back(self) -> QColor:
        palette = self.palette()
        return palette.color(palette.ColorRole.Window)

    def _dress(self, axes: Any) -> None:
        from matplotlib.transforms import blended_transform_factory

        text = self.colour(None)
        self._figure.set_facecolor(self._back().name())
        axes.set_facecolor("none")
        axes.tick_params(labelsize=7.5, length=2.5, colors=text, which="both")
        axes.xaxis.label.set(color=text, fontsize=8)
        axes.yaxis.label.set(color=text, fontsize=8)
        # at a fixed place: beside wide tick labels it would run out of the figure
        left = axes.yaxis.get_label_position() == "left"
        beside = 14 / self._place.width() if left else 1 - 14 / self._place.width()
        across = blended_transform_factory(self._figure.transFigure, axes.transAxes)
        axes.yaxis.set_label_coords(beside, 0.5, transform=across)
        for spine in axes.spines.values():
            spine.set(color=text, alpha=0.35, linewidth=0.8)


class _Matplotlib:
    """Whether matplotlib is there; loading it takes half a second, the first draw as long again."""

    ready = False

    @classmethod
    def load(cls) -> None:
        """Import it and draw once, for the fonts; in a worker."""
        import matplotlib.backends.backend_qtagg  # noqa: F401 - so that the window does not wait for it
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.add_subplot()
        axes.set_xlabel("0")
        axes.plot([0, 1])
        FigureCanvasAgg(figure).draw()
        cls.ready = True


def _if_alive(widget: QWidget, act: Callable[[], object]) -> None:
    from qtpy import compat

    if compat.isalive(widget):
        act()
