"""Small plots for a dock: how a run goes on, and intensities along a line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QComboBox
from superqt import QElidingLabel

from napari_fidelity.widgets._dock import narrow, note_label, set_note
from napari_fidelity.widgets._figure import LatePlot
from napari_fidelity.widgets._scales import number_axis, scale_loss, widened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.core.step import Record

_POINTS = 2000  # of a curve, at most
_SCORES = {
    "lr_psnr": "LR-PSNR (dB)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lr_lpips": "LR-LPIPS",
    "discrepancy": "discrepancy",
    "held_out": "held-out error",
    "change": "change",
    "variance": "variance of outputs",
}
_MEANING = {
    "lr_psnr": "How well the image explains the measurement; higher is better, up to the noise.",
    "psnr": "Against the reference; higher is better.",
    "ssim": "Structural similarity to the reference; 1 is best.",
    "lr_lpips": "How different A x and the measurement look to the eye; lower is better.",
    "discrepancy": "Misfit over what the noise explains; 1 is where the data say nothing more.",
    "held_out": "Misfit at pixels the run does not see; it rises when noise is being fitted.",
    "variance": "How much the last outputs differ from each other (ES-WMV); it rises when noise is being fitted.",
    "change": "By how much an iteration changes the image.",
}


class CurvePlot(LatePlot):
    """Loss and one score over the iterations of a run.

    The loss is on the left, logarithmic where it is positive; the score chosen in the box is on the right. Where a
    run has several blocks (slices), the last one's curve stands out.
    """

    margins = (56, 56, 8, 38)

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Record] = []
        self._marked: int | None = None
        self._title = QElidingLabel()
        self._title.hide()
        self._score = narrow(QComboBox())
        self._score.setAccessibleName("Score on the right axis")
        self._score.setToolTip("The score on the right axis")
        self._score.currentIndexChanged.connect(self._score_chosen)
        self.column.insertWidget(0, self._title)
        self.column.insertWidget(1, self._score, alignment=Qt.AlignmentFlag.AlignRight)
        self._score.hide()
        self.setToolTip("Loss on the left axis and the chosen score on the right one, iteration by iteration")

    def clear(self) -> None:
        """Begin anew, for another run."""
        self.set_history(())

    def set_history(self, records: Iterable[Record], title: str = "") -> None:
        """Show a whole history.

        Parameters
        ----------
        records
            In the order they were made.
        title
            What it belongs to.
        """
        self._records = []
        self._marked = None
        self._title.setText(title)
        self._title.setToolTip(title)
        self._title.setVisible(bool(title))
        self.add(records)
        self._redraw()

    def add(self, records: Iterable[Record]) -> None:
        """Append records of a run that goes on."""
        new = list(records)
        if not new:
            return
        self._records += new
        known = {self._score.itemData(i) for i in range(self._score.count())}
        for name in [name for name in new[-1].scores if name not in known]:
            self._score.addItem(_SCORES.get(name, name.replace("_", " ")), name)
            self._score.setItemData(self._score.count() - 1, _MEANING.get(name, ""), Qt.ItemDataRole.ToolTipRole)
        self._score.setVisible(self._score.count() > 0)
        self._redraw()

    def mark(self, iteration: int | None) -> None:
        """Show a line at an iteration, or none."""
        self._marked = iteration
        self._redraw()

    @property
    def records(self) -> Sequence[Record]:
        """What is shown."""
        return tuple(self._records)

    @property
    def score(self) -> str:
        """Name of the score on the right axis, empty if there is none."""
        return self._score.currentData() or ""

    def _score_chosen(self) -> None:
        meaning = _MEANING.get(self.score, "")
        self._score.setToolTip("The score on the right axis" + (f". {meaning}" if meaning else ""))
        self._redraw()

    def _build(self) -> None:
        self._axes = self._figure.add_subplot()
        self._right = self._axes.twinx()
        (self._old_loss,) = self._axes.plot([], [], lw=0.8, alpha=0.35)
        (self._old_score,) = self._right.plot([], [], lw=0.8, alpha=0.35)
        (self._loss,) = self._axes.plot([], [], lw=1.4)
        (self._score_line,) = self._right.plot([], [], lw=1.4)
        self._marker = self._axes.axvline(0, lw=1, ls="--", visible=False)
        self._axes.set_xlabel("iteration")

    def _paint(self) -> None:
        loss_colour, score_colour = self.colour(0), self.colour(1)
        for axes in (self._axes, self._right):
            self._dress(axes)
        x, loss, score, last = self._numbers()
        for old, line, values, colour in (
            (self._old_loss, self._loss, loss, loss_colour),
            (self._old_score, self._score_line, score, score_colour),
        ):
            old.set_data(x[:last], values[:last])
            line.set_data(x[last:], values[last:])
            alone = np.isfinite(values[last:]).sum() == 1
            line.set(color=colour, marker="o" if alone else "", markersize=4)
            old.set_color(colour)
        number_axis(self._right.yaxis, self._score.currentText(), widened(score, 0.06))
        self._right.set_visible(bool(self.score) and bool(np.isfinite(score).any()))
        for axis, colour in ((self._axes.yaxis, loss_colour), (self._right.yaxis, score_colour)):
            axis.label.set_color(colour)
        self._axes.set_xlim(*widened(x, 0.02))
        scale_loss(self._axes, loss)
        self._marker.set(visible=self._marked is not None, color=self.colour(None))
        if self._marked is not None:
            self._marker.set_xdata([self._marked, self._marked])

    def _numbers(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:
        """Return iterations, losses, scores (NaN between blocks) and where the last block begins."""
        rows: list[tuple[float, float, float]] = []
        last, block = 0, self._records[0].block if self._records else 0
        for record in _thinned(self._records):
            if record.block != block:
                rows.append((math.nan, math.nan, math.nan))
                block, last = record.block, len(rows)
            rows.append((record.index, record.loss, record.scores.get(self.score, math.nan)))
        table = np.array(rows, float).reshape(-1, 3)
        table[~np.isfinite(table)] = np.nan
        return table[:, 0], table[:, 1], table[:, 2], last


def _thinned(records: list[Record]) -> list[Record]:
    """Return as many records as can be told apart on a curve, the last one among them."""
    every = -(-len(records) // _POINTS) or 1
    return records[len(records) - 1 :: -every][::-1]


@dataclass(frozen=True, eq=False)
class Profile:
    """Intensities of one layer along a line.

    Attributes
    ----------
    name
        Of the layer.
    position
        Distance from the start of the line.
    values
        Intensities; NaN where the line leaves the layer.
    colour
        Number of its curve's colour; ``None`` for the colour of text, which the reference has.
    """

    name: str
    position: NDArray[Any]
    values: NDArray[Any]
    colour: int | None = None


class ProfilePlot(LatePlot):
    """Intensities of several layers along one line."""

    def __init__(self) -> None:
        super().__init__()
        self._profiles: list[Profile] = []
        self._unit = "pixel"
        self._legend = note_label()
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self.column.addWidget(self._legend)
        self.setToolTip(
            "Intensity along the line, at the same places in every layer; colours give the mean of RGB"
        )

    def set_profiles(self, profiles: Iterable[Profile], unit: str = "pixel") -> None:
        """Show profiles instead of those before.

        Parameters
        ----------
        profiles
            One per layer.
        unit
            Of their positions.
        """
        self._profiles, self._unit = list(profiles), unit
        self._write_legend()
        self._redraw()

    def clear(self) -> None:
        """Show nothing."""
        self.set_profiles(())

    @property
    def profiles(self) -> Sequence[Profile]:
        """What is shown."""
        return tuple(self._profiles)

    def changeEvent(self, event: QEvent) -> None:
        """Take over the colours of a new theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "_legend"):
            self._write_legend()

    def _write_legend(self) -> None:
        from html import escape

        space = "\N{NO-BREAK SPACE}"  # an entry is not broken in two
        entries = (
            f'<span style="color:{self.colour(p.colour)}">━</span>'
            + f" {escape(_shortened(p.name))}  ".replace(" ", space).replace("-", "\N{NON-BREAKING HYPHEN}")
            for p in self._profiles
        )
        set_note(self._legend, " ".join(entries))

    def _build(self) -> None:
        self._axes = self._figure.add_subplot()

    def _paint(self) -> None:
        self._axes.clear()
        for p in self._profiles:
            # the reference lies below, so that what follows it closely does not hide under it
            self._axes.plot(
                p.position, p.values, lw=1.3, color=self.colour(p.colour), zorder=2 if p.colour is None else 3
            )
        self._axes.set_xlabel(f"distance ({self._unit})")
        self._dress(self._axes)
        self._axes.margins(x=0)
        self._axes.locator_params(axis="x", nbins=5)
        values = [p.values for p in self._profiles] or [np.zeros(1)]
        number_axis(self._axes.yaxis, "intensity", widened(np.concatenate(values), 0.05))


def _shortened(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most - 14]}…{name[-13:]}"
