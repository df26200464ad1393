"""Time series in the docks: how a network is adapted to them, what the growing result shows, and their flicker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image, metrics
from napari_fidelity.methods import FineTune, Project
from napari_fidelity.metrics.flicker import course, enlarged, static_region
from napari_fidelity.pipeline import Recipe
from napari_fidelity.widgets._comparison import Comparison, Settings
from napari_fidelity.widgets._layers import Source
from napari_fidelity.widgets._live import Frame, LiveLayer
from napari_fidelity.widgets._restoration import _slice_words
from napari_fidelity.widgets._series import SeriesChoice
from napari_fidelity.widgets._triton import keep_triton_out
from napari_fidelity.widgets.correct import CorrectWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 60_000


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], model_file: Path, scene: Any, qtbot: Any) -> CorrectWidget:
    """The dock over a series of seven frames."""
    viewer = make_napari_viewer()
    series = np.stack([scene(16, 14, seed=i) for i in range(7)])
    viewer.add_image(series, name="series", axis_labels=("t", "y", "x"))
    widget = CorrectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Correct")
    widget.model.choose(str(model_file))
    qtbot.waitUntil(lambda: widget.model.info is not None, timeout=SECONDS)
    return widget


def shown(widget: Any) -> bool:
    return not widget.isHidden()


def test_the_choice_is_there_for_series_that_a_network_is_adapted_to(dock: CorrectWidget) -> None:
    series = dock.method.series
    dock.axes.set_axes("TYX", {"T": 0})
    assert not shown(series)  # a single frame of it
    assert series.value() == "auto"
    dock.axes.set_axes("ZYX", {})
    assert not shown(series)
    dock.axes.set_axes("TYX", {})
    assert shown(series)
    assert series.note.text().startswith(
        "7 runs of 1 frame at once; 7 frame passes an iteration (each frame once)"
    )
    series.set_value("whole")
    assert series.note.text().startswith("1 run of 7 frames at once")
    assert dock.method.recipe_fields()["series"] == "whole"
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("project"))
    assert not shown(series)
    assert dock.method.recipe_fields()["series"] == "auto"


def test_the_cost_of_a_network_for_video_is_said(qtbot: Any) -> None:
    choice = SeriesChoice()
    qtbot.addWidget(choice)
    choice.set_method(FineTune())
    choice.set_series(40, 2, 5)
    said = {}
    for name in ("auto", "frame", "window", "whole"):
        choice.set_value(name)
        said[name] = choice.note.text()
    assert said["auto"] == said["window"]
    assert said["frame"].startswith("80 runs of up to 5 frames at once; 388 frame passes")
    assert said["window"].startswith("16 runs of up to 9 frames at once; 136 frame passes")
    assert said["whole"] == (
        "2 runs of 40 frames at once; 80 frame passes an iteration (each frame once), at most 960 in all."
    )
    choice.set_method(Project())
    assert choice.value() == "auto"


def test_a_series_is_restored_in_windows_and_its_settings_come_back(dock: CorrectWidget, qtbot: Any) -> None:
    dock.axes.set_axes("TYX", {})
    dock.method.series.set_value("window")
    dock.bar.run_button.click()
    assert dock.run is not None, dock.bar.message.text()
    with qtbot.waitSignal(dock.run.finished, timeout=SECONDS) as blocker:
        pass
    (outcome,) = blocker.args
    assert outcome.kind == "done", outcome.error
    result = dock.viewer.layers[-1]
    assert result.data.shape == (7, 32, 28)
    assert np.isfinite(result.data).all()
    assert {record.block for record in dock.run.history} == {0, 1}  # five frames and two
    dock.method.series.set_value("auto")
    dock.load_layer(result)
    assert dock.method.series.value() == "window"
    assert Recipe.from_plain(result.metadata["napari-fidelity"]).series == "window"


def test_the_growing_result_takes_the_frames_it_is_told_of(make_napari_viewer: Any, scene: Any) -> None:
    viewer = make_napari_viewer()
    data = scene(2, 5, 6, 6)
    source = Source.of(viewer.add_image(data, name="measured"), "ZTYX")
    frame = Frame.of(Image(data, "ZTYX"))
    live = LiveLayer(viewer, source, "result")

    def block(*shape: int, value: float) -> Image:
        return Image(np.full(shape, value, np.float32), "TYX"[3 - len(shape) :], {"Y": 0.5, "X": 0.5})

    live.show(block(3, 12, 12, value=1), {"Z": 1, "T": 1}, frame)
    live.show(block(12, 12, value=2), {"Z": 0, "T": 4}, frame)
    live.show(block(2, 12, 12, value=3), {"Z": 0, "T": 0}, frame)
    assert live.layer is not None
    first = live.layer.data[..., 0, 0]
    nan = np.nan
    np.testing.assert_array_equal(first, [[3, 3, nan, nan, 2], [nan, 1, 1, 1, nan]])


def test_a_step_of_several_frames_says_which(dock: CorrectWidget) -> None:
    from napari_fidelity.core.step import Step

    def step(**changes: Any) -> Any:
        return Step(0, 1, 0.0, {}, lambda: None, **changes)

    assert _slice_words(step()) == ""
    assert _slice_words(step(block=1, blocks=3)) == ", slice 2 of 3"
    assert _slice_words(step(block=1, blocks=3, position={"T": 5}, frames=5)) == ", frames 6–10, part 2 of 3"
    assert _slice_words(step(position={"T": 0}, frames=7)) == ", frames 1–7"


# -- Compare ----------------------------------------------------------------------------------------------------


def scored(comparison: Comparison) -> Any:
    steps = comparison.scores()
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def test_flicker_stands_beside_the_other_scores(make_napari_viewer: Any, scene: Any) -> None:
    viewer = make_napari_viewer()
    keep_triton_out()  # as a worker would
    rng = np.random.default_rng(0)
    true = np.repeat(100 * scene(1, 48, 48), 8, axis=0)
    noisy = (true + rng.normal(0, 2, true.shape)).astype(np.float32)
    sources = {
        name: Source.of(viewer.add_image(data, name=name), "TYX") for name, data in {"t": true, "n": noisy}.items()
    }
    every = Settings(every_slice=True, data_range=100)
    image = Source.of(viewer.layers["n"], "TYX")
    (layer,) = scored(Comparison((image,), sources["t"], settings=every)).layers
    assert layer.row.flicker == pytest.approx(2, rel=0.03)
    assert np.isnan(layer.row.flicker_ratio)
    assert layer.row.flicker == metrics.flicker(noisy, static=static_region(course(true))).value
    assert all(np.isnan(row.flicker) for row in layer.slices)
    assert layer.row.psnr == pytest.approx(np.mean([row.psnr for row in layer.slices]))
    current = Source.of(viewer.layers["n"], "TYX", {"T": 2})
    (layer,) = scored(Comparison((current,), sources["t"], settings=Settings(data_range=100))).layers
    assert np.isnan(layer.row.flicker)
    stack = Source.of(viewer.layers["n"], "ZYX")
    (layer,) = scored(Comparison((stack,), Source.of(viewer.layers["t"], "ZYX"), settings=every)).layers
    assert np.isnan(layer.row.flicker)


def test_flicker_is_compared_with_that_of_the_measurement(make_napari_viewer: Any, scene: Any) -> None:
    from napari_fidelity.operators import Downsample

    viewer = make_napari_viewer()
    rng = np.random.default_rng(0)
    small = (100 * scene(1, 24, 24) + rng.normal(0, 3, (6, 24, 24))).astype(np.float32)
    large = np.stack([enlarged(frame, (48, 48)) for frame in small])
    steady = (large.mean(axis=0) + 0.25 * (large - large.mean(axis=0))).astype(np.float32)
    image, measured = (
        Source.of(viewer.add_image(data, name=name), "TYX") for name, data in {"i": steady, "m": small}.items()
    )
    every = Settings(every_slice=True, data_range=100)
    found = scored(Comparison((image,), None, measured, Downsample(scale=2), every)).layers[0].row
    assert found.flicker_ratio == pytest.approx(0.25, rel=1e-3)
    single = Source.of(viewer.add_image(small[:1], name="one"), "TYX")  # says nothing of what moves
    found = scored(Comparison((image,), single, settings=every)).layers[0].row
    assert found.flicker == pytest.approx(metrics.flicker(steady).value)
