"""Side by side, blink and split view: what they show, and that nothing of them is left behind."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_fidelity.widgets._arrange import ArrangePanel, camera_of, grid_of
from napari_fidelity.widgets._split import NAME


@pytest.fixture
def viewer(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    for i, name in enumerate("abc"):
        viewer.add_image(scene(32, 32, seed=i), name=name)
    viewer.add_shapes([np.array([[1, 1], [5, 9]])], shape_type="line", name="line")
    viewer.layers["b"].visible = False
    return viewer


@pytest.fixture
def panel(viewer, qtbot):
    chosen = [viewer.layers["a"], viewer.layers["b"]]
    panel = ArrangePanel(viewer, lambda: [layer for layer in chosen if layer in viewer.layers])
    panel.chosen = chosen
    viewer.window.add_dock_widget(panel)
    return panel


def state(viewer):
    grid = grid_of(viewer)
    seen = {layer.name: layer.visible for layer in viewer.layers}
    names = {layer.name: layer.name_overlay.visible for layer in viewer.layers if hasattr(layer, "name_overlay")}
    return seen, names, grid.enabled, grid.stride, tuple(grid.shape), camera_of(viewer).zoom, [*viewer.layers]


def seen(viewer):
    return {layer.name for layer in viewer.layers if layer.visible}


def split(panel, qtbot):
    panel.split_button.click()
    qtbot.waitUntil(lambda: panel.split.layer is not None, timeout=5000)
    return panel.split.layer


def test_side_by_side_and_back(panel, viewer):
    grid = grid_of(viewer)
    grid.stride, grid.shape = -2, (3, -1)
    before = state(viewer)
    panel.side_button.click()
    assert grid.enabled
    assert grid.stride == 1
    assert seen(viewer) == {"a", "b"}
    assert camera_of(viewer).zoom < before[5]  # the same field of view in a smaller box
    panel.side_button.click()
    after = state(viewer)
    assert after[:5] == before[:5]
    assert after[5] == pytest.approx(before[5])


def test_a_grid_that_was_on_stays_on(panel, viewer):
    grid_of(viewer).enabled = True
    before = state(viewer)
    panel.side_button.click()
    panel.side_button.click()
    assert state(viewer)[:5] == before[:5]


def test_side_by_side_follows_the_ticks(panel, viewer):
    panel.side_button.click()
    panel.chosen.append(viewer.layers["c"])
    panel.refresh()
    assert seen(viewer) == {"a", "b", "c"}
    viewer.layers.remove("a")
    assert seen(viewer) == {"b", "c"}
    panel.side_button.click()
    assert seen(viewer) == {"c", "line"}  # as before


def test_layers_made_meanwhile_stay_as_they_are(panel, viewer, scene):
    panel.blink_button.click()
    new = viewer.add_image(scene(8, 8), name="new")
    panel.blink_button.click()
    assert new.visible
    assert seen(viewer) == {"a", "c", "line", "new"}


def test_blink_shows_one_layer_after_the_other(panel, viewer, qtbot):
    before = state(viewer)
    panel.blink_button.click()
    assert panel.timer.interval() == 500
    assert panel.timer.isActive()
    shown = []
    for _ in range(4):
        shown.append(seen(viewer))
        panel.timer.timeout.emit()
    assert shown == [{"a", "line"}, {"b", "line"}] * 2
    panel.blink_button.click()
    assert not panel.timer.isActive()
    assert state(viewer) == before


def test_blinking_survives_deletion(panel, viewer):
    panel.blink_button.click()
    viewer.layers.remove("a")
    panel.timer.timeout.emit()
    assert seen(viewer) == {"b", "line"}
    viewer.layers.remove("b")
    panel.timer.timeout.emit()
    assert not panel.blink_button.isChecked()
    assert not panel.timer.isActive()
    assert seen(viewer) == {"c", "line"}


def test_closing_the_dock_ends_everything(panel, viewer, qtbot):
    viewer.window._qt_window.show()
    before = state(viewer)
    for button in (panel.side_button, panel.blink_button, panel.split_button):
        panel.parent().show()
        button.click()
        qtbot.wait(100)
        panel.parent().hide()
        assert not button.isChecked()
        assert not panel.timer.isActive()
        assert state(viewer)[:5] == before[:5]


def test_the_timer_dies_with_the_dock(panel, viewer, qtbot):
    from qtpy.compat import isalive

    panel.blink_button.click()
    timer = panel.timer
    viewer.window.remove_dock_widget(panel)
    panel.deleteLater()
    qtbot.waitUntil(lambda: not isalive(timer), timeout=2000)
    qtbot.wait(50)


def test_one_at_a_time(panel, viewer, qtbot):
    before = state(viewer)
    panel.side_button.click()
    panel.blink_button.click()
    assert not panel.side_button.isChecked()
    assert not grid_of(viewer).enabled
    split(panel, qtbot)
    assert not panel.blink_button.isChecked()
    panel.side_button.click()
    assert NAME not in viewer.layers
    panel.side_button.click()
    assert state(viewer)[:5] == before[:5]


@pytest.mark.parametrize("name", ["side_button", "blink_button", "split_button"])
def test_two_layers_are_needed(name, panel, viewer):
    before = state(viewer)
    panel.chosen.pop()
    getattr(panel, name).click()
    assert not getattr(panel, name).isChecked()
    assert "two layers" in panel.note.text()
    assert state(viewer) == before


def expected(left, right, border, line=1):
    data = np.concatenate([left[:, :border], right[:, border:]], axis=1)
    return np.delete(data, slice(border, border + line), axis=1)


def test_split_view_has_the_one_left_and_the_other_right(panel, viewer, qtbot):
    before = state(viewer)
    layer = split(panel, qtbot)
    left, right = (viewer.layers[name].data for name in "ab")
    assert layer.name == NAME
    assert seen(viewer) == {NAME, "line"}
    assert viewer.layers.index("line") > viewer.layers.index(NAME)  # what is drawn stays on top
    np.testing.assert_array_equal(np.delete(layer.data, 16, axis=1), expected(left, right, 16))
    for value, border in ((250, 8), (900, 29), (0, 0), (1000, 32), (500, 16)):
        panel.slider.setValue(value)
        qtbot.wait(10)
        np.testing.assert_array_equal(
            np.delete(layer.data, slice(border, border + 1), axis=1), expected(left, right, border)
        )
    panel.split_button.click()
    assert state(viewer)[:5] == before[:5]
    assert NAME not in viewer.layers


def test_the_pair_can_be_chosen(panel, viewer, qtbot):
    layer = split(panel, qtbot)
    panel.right.value = viewer.layers["c"]
    c = viewer.layers["c"].data
    qtbot.waitUntil(lambda: np.array_equal(layer.data[:, 20:], c[:, 20:]), timeout=3000)
    assert NAME not in [item.name for item in panel.right.choices]


def test_split_view_on_different_grids(make_napari_viewer, qtbot, scene):
    from napari_fidelity.widgets._planes import resample_onto

    viewer = make_napari_viewer()
    units = {"units": ("um", "um")}
    low = viewer.add_image(scene(16, 16), name="low", scale=(0.4, 0.4), rotate=20, **units)
    high = viewer.add_image(scene(64, 64), name="high", scale=(100, 100), rotate=20, units=("nm", "nm"))
    high.translate = high.rotate @ [-150, -150]  # half a pixel of the one before that of the other
    panel = ArrangePanel(viewer, lambda: [low, high])
    layer = split(panel, qtbot)
    assert layer.data.shape == (64, 64)
    on_high = resample_onto(low, high, viewer.dims.point)
    np.testing.assert_allclose(layer.data[:, :32], on_high[:, :32])
    assert np.isfinite(on_high).all()
    np.testing.assert_allclose(layer.data[:, 33:], high.data[:, 33:])
    np.testing.assert_allclose(layer.data_to_world((5, 7)), high.data_to_world((5, 7)))
    assert layer.units == high.units


def test_split_view_of_colours(panel, viewer, qtbot, scene):
    colours = viewer.add_image((scene(3, 32, 32).transpose(1, 2, 0) * 255).astype(np.uint8), name="colours")
    viewer.layers["a"].contrast_limits = (0, 1)
    panel.chosen[:] = [viewer.layers["a"], colours]
    layer = split(panel, qtbot)
    assert layer.rgb
    np.testing.assert_allclose(layer.data[:, 17:], colours.data[:, 17:] / 255, atol=1e-6)
    gray = viewer.layers["a"].data[:, :16]
    np.testing.assert_allclose(layer.data[:, :16], np.repeat(gray[..., None], 3, -1), atol=0.01)


def test_split_view_of_stacks_follows_the_slider(make_napari_viewer, qtbot, scene):
    import dask.array as da

    viewer = make_napari_viewer()
    stack, other = scene(3, 16, 16), scene(3, 16, 16, seed=1)
    a = viewer.add_image(stack, name="a", scale=(2, 1, 1), translate=(4, 0, 0))
    b = viewer.add_image(da.from_array(other, chunks=(1, 16, 16)), name="b", scale=(2, 1, 1), translate=(4, 0, 0))
    panel = ArrangePanel(viewer, lambda: [a, b])
    viewer.dims.set_point(0, 4)
    layer = split(panel, qtbot)
    np.testing.assert_array_equal(layer.data[:, 9:], other[0][:, 9:])
    viewer.dims.set_point(0, 8)
    qtbot.waitUntil(lambda: np.array_equal(layer.data[:, 9:], other[2][:, 9:]), timeout=3000)
    np.testing.assert_array_equal(layer.data[:, :8], stack[2][:, :8])
    a.data = stack[:, ::-1]
    qtbot.waitUntil(lambda: np.array_equal(layer.data[:, :8], stack[2, ::-1][:, :8]), timeout=3000)


def test_split_view_says_why_not(panel, viewer, qtbot, scene):
    viewer.add_image(scene(3, 16, 16), name="stack")
    viewer.dims.ndisplay = 3
    panel.split_button.click()
    assert "2-D" in panel.note.text()
    panel.split_button.click()


@pytest.mark.parametrize("name", ["a", "b", NAME])
def test_a_layer_deleted_under_the_split_view(name, panel, viewer, qtbot):
    split(panel, qtbot)
    viewer.layers.remove(name)
    assert not panel.split_button.isChecked()
    assert NAME not in viewer.layers
    assert panel.split.layer is None
    assert "line" in seen(viewer)


def test_the_selection_stays(panel, viewer, qtbot):
    viewer.layers.selection.active = viewer.layers["c"]
    split(panel, qtbot)
    assert viewer.layers.selection.active is viewer.layers["c"]


def test_moving_the_border_is_fast(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    rng = np.random.default_rng(0)
    a = viewer.add_image(rng.random((1024, 1024), np.float32), name="a")
    b = viewer.add_image(rng.random((256, 256), np.float32), name="b", scale=(4, 4), translate=(1.5, 1.5))
    panel = ArrangePanel(viewer, lambda: [a, b])
    split(panel, qtbot)
    seconds = []
    for value in range(0, 1000, 90):
        panel.slider.setValue(value)
        began = time.perf_counter()
        qtbot.wait(1)  # the move itself waits for the events before it
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.1


def test_the_keyboard_moves_the_border(panel, viewer, qtbot):
    split(panel, qtbot)
    before = panel.slider.value()
    qtbot.keyClick(panel.slider, Qt.Key.Key_Right)
    assert panel.slider.value() == before + 10


def test_split_view_shows_colours_as_the_canvas_does() -> None:
    from napari.layers import Image

    from napari_fidelity.widgets._split import _Look

    eight_bit = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    result = Image(eight_bit.astype(np.float32), rgb=True, contrast_limits=(0, 255))  # in the measurement's units
    for layer in (Image(eight_bit, rgb=True), result):
        np.testing.assert_allclose(_Look(layer).colours(layer.data), eight_bit / 255, atol=1e-6)
