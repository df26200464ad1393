"""Plots: what they show, when they load and how they follow the theme."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.core.step import Record
from napari_fidelity.widgets._plots import CurvePlot, Profile, ProfilePlot


def history(count, start=0, block=0, loss=1e-2):
    return [
        Record(i, loss * math.exp(-i / 50) + 1e-5, i / 10, {"lr_psnr": 30 + i / 10, "change": 1 / (i + 1)}, block)
        for i in range(start, start + count)
    ]


@pytest.fixture
def shown(qtbot):
    """Show plots in a column 280 px wide."""
    box = QWidget()
    column = QVBoxLayout(box)
    qtbot.addWidget(box)
    box.resize(280, 400)

    def show(plot):
        column.addWidget(plot)
        box.show()
        return plot

    return show


def drawn(qtbot, plot):
    """Wait until everything that came in is in the figure."""
    qtbot.waitUntil(lambda: plot._canvas is not None and not plot._timer.isActive(), timeout=20_000)
    plot._canvas.draw()
    return plot._figure


def inside(figure):
    """Whether everything that is drawn lies in the figure, and no number runs into the name of its axis."""
    width, height = figure.canvas.get_width_height()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        box = axes.get_tightbbox(renderer)
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1, box
        label = axes.yaxis.label.get_window_extent(renderer)
        for tick in axes.yaxis._update_ticks():
            left = axes.yaxis.get_label_position() == "left"
            numbers = (tick.label1 if left else tick.label2).get_window_extent(renderer)
            assert numbers.x0 >= label.x1 - 1 if left else numbers.x1 <= label.x0 + 1
    return True


def test_loss_and_score_of_a_run(shown, qtbot):
    plot = shown(CurvePlot())
    plot.set_history(history(100), "cells, corrected")
    plot.add(history(20, start=100))
    plot.mark(60)
    figure = drawn(qtbot, plot)
    assert len(plot.records) == 120
    left, right = figure.axes
    np.testing.assert_allclose(plot._loss.get_data()[1], [r.loss for r in plot.records])
    np.testing.assert_allclose(plot._score_line.get_data()[1], [r.scores["lr_psnr"] for r in plot.records])
    assert left.get_yscale() == "log"
    assert right.get_ylabel() == "LR-PSNR (dB)"
    assert plot._marker.get_xdata() == [60, 60]
    assert plot._title.text() == "cells, corrected"
    assert inside(figure)


def test_the_score_is_chosen(shown, qtbot):
    plot = shown(CurvePlot())
    plot.set_history(history(10))
    plot._score.setCurrentIndex(1)
    drawn(qtbot, plot)
    assert plot.score == "change"
    assert plot._score.toolTip().endswith("changes the image.")
    np.testing.assert_allclose(plot._score_line.get_data()[1], [r.scores["change"] for r in plot.records])
    plot.clear()
    drawn(qtbot, plot)
    assert plot.records == ()
    assert len(plot._loss.get_data()[1]) == 0
    assert not plot._marker.get_visible()


def test_the_last_block_stands_out(shown, qtbot):
    plot = shown(CurvePlot())
    plot.set_history([*history(5), *history(4, block=1), *history(3, block=2)])
    drawn(qtbot, plot)
    np.testing.assert_array_equal(plot._loss.get_data()[0], [0, 1, 2])
    np.testing.assert_array_equal(plot._old_loss.get_data()[0], [0, 1, 2, 3, 4, np.nan, 0, 1, 2, 3, np.nan])


@pytest.mark.parametrize(
    "records",
    [
        [Record(0, 0.0, 0, {"lr_psnr": math.inf})],
        [Record(0, 3e-4, 0, {})],
        [Record(0, math.nan, 0, {"lr_psnr": 30.0}), Record(1, -1.0, 0, {"lr_psnr": 30.0})],
        [Record(i, 1e-3 * (1 + 1e-6 * i), 0, {"lr_psnr": 40.0}) for i in range(10)],
        [Record(i, 10.0 ** (-i), 0, {"held_out": 1e5 * i}) for i in range(12)],
        [Record(i, 1e-3, 0, {"change": 1.2e-5 + 1e-8 * i, "discrepancy": 1234.5}) for i in range(10)],
        [Record(i, 1.23456e-7 * (1 + i), 0, {"something_new": -1e-7 * i}) for i in range(12)],
    ],
)
def test_odd_histories(records, shown, qtbot):
    plot = shown(CurvePlot())
    plot.set_history(records)
    figure = drawn(qtbot, plot)
    left = figure.axes[0]
    low, high = left.get_ylim()
    assert any(low <= tick <= high for tick in left.get_yticks())
    for axes in figure.axes:
        words = [tick.label1.get_text() or tick.label2.get_text() for tick in axes.yaxis._update_ticks()]
        assert len(words) == len(set(words)), words
    assert inside(figure)


def test_drawing_is_throttled(shown, qtbot):
    plot = shown(CurvePlot())
    plot.set_history(history(5))
    drawn(qtbot, plot)
    painted = []
    paint = plot._paint
    plot._paint = lambda: (painted.append(time.perf_counter()), paint())
    began = time.perf_counter()
    while time.perf_counter() - began < 1.0:
        plot.add(history(1))
        qtbot.wait(5)
    assert 2 <= len(painted) <= 6
    assert len(plot.records) > 20


def test_hidden_plots_load_nothing_and_catch_up(shown, qtbot):
    plot = CurvePlot()
    plot.set_history(history(5))
    qtbot.wait(50)
    assert plot._canvas is None
    shown(plot)
    drawn(qtbot, plot)
    assert len(plot._loss.get_data()[1]) == 5


def test_matplotlib_comes_late_and_in_the_background():
    code = (
        "import sys, time\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari_fidelity.widgets._plots import CurvePlot\n"
        "from napari_fidelity.core.step import Record\n"
        "plot = CurvePlot(); plot.show(); app.processEvents()\n"
        "print('matplotlib.figure' in sys.modules)\n"
        "plot.set_history([Record(0, 1.0, 0.0, {}), Record(1, 0.5, 0.0, {})])\n"
        "end = time.monotonic() + 60\n"
        "while plot._canvas is None and time.monotonic() < end:\n"
        "    app.processEvents(); time.sleep(0.005)\n"
        "print(plot._canvas is not None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_a_plot_deleted_while_matplotlib_loads(qtbot, monkeypatch):
    from napari_fidelity.widgets._figure import _Matplotlib

    monkeypatch.setattr(_Matplotlib, "ready", False)
    plot = CurvePlot()
    plot.show()
    plot.set_history(history(5))
    qtbot.wait(1)
    plot.deleteLater()
    qtbot.wait(500)


def test_profiles(shown, qtbot):
    plot = shown(ProfilePlot())
    x = np.linspace(0, 3, 50)
    plot.set_profiles([Profile("a <b>", x, x**2, 0), Profile("the reference", x, x)], "µm")
    figure = drawn(qtbot, plot)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "distance (µm)"
    assert len(axes.lines) == 2
    assert "a&nbsp;&lt;b&gt;" in plot._legend.text() or "a\N{NO-BREAK SPACE}&lt;b&gt;" in plot._legend.text()
    assert inside(figure)
    plot.clear()
    drawn(qtbot, plot)
    assert not axes.lines
    assert plot._legend.isHidden()


def test_long_legends_take_the_room_they_need(shown, qtbot):
    plot = shown(ProfilePlot())
    x = np.linspace(0, 3, 50)
    plot.set_profiles([Profile(f"a layer with rather a long name {i}", x, x, i) for i in range(5)])
    drawn(qtbot, plot)
    qtbot.wait(50)
    assert plot._legend.y() >= plot._place.geometry().bottom()
    assert plot._legend.height() >= plot._legend.heightForWidth(plot._legend.width())


def test_plots_follow_the_theme(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    plot = CurvePlot()
    viewer.window.add_dock_widget(plot)
    plot.set_history(history(10))
    colours = {}
    for theme in ("dark", "light"):
        viewer.theme = theme
        qtbot.wait(300)
        figure = drawn(qtbot, plot)
        back = np.mean(figure.get_facecolor()[:3])
        import matplotlib.colors

        text = np.mean(matplotlib.colors.to_rgb(figure.axes[0].xaxis.label.get_color()))
        colours[theme] = (back, text)
    assert colours["dark"][0] < 0.3 < 0.8 < colours["dark"][1]
    assert colours["light"][1] < 0.3 < 0.8 < colours["light"][0]
