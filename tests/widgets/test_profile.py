"""Line profiles: the same places of the world in every layer, whatever its grid."""

from __future__ import annotations

import time
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from scipy.ndimage import map_coordinates

from napari_fidelity.widgets._profile import ProfilePanel
from napari_fidelity.widgets._sampling import sampled


class Chosen(list):
    """What is ticked, and the reference."""

    reference = None


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def make(viewer, qtbot):
    def build(*layers, reference=None):
        chosen = Chosen(layers)
        chosen.reference = reference
        panel = ProfilePanel(viewer, lambda: [layer for layer in chosen if layer in viewer.layers],
                             lambda: chosen.reference)  # fmt: skip
        viewer.window.add_dock_widget(panel)
        panel.chosen = chosen
        return panel

    return build


def profiles(qtbot, panel, count):
    """Return the profiles by name once they are all up to date."""
    qtbot.waitUntil(lambda: not panel._timer.isActive() and len(panel.plot.profiles) == count, timeout=5000)
    return {profile.name: profile for profile in panel.plot.profiles}


def in_world(viewer, layer, points):
    """What a layer holds at points of its own world, by napari's own transform."""
    pixels = np.array([layer.world_to_data(point) for point in points])
    return map_coordinates(np.asarray(layer.data, float), pixels.T, order=1, mode="nearest")


def line_points(line, count):
    start, end = (np.array(line.data_to_world(vertex)) for vertex in line.data[-1])
    return start + np.linspace(0, 1, count)[:, None] * (end - start)


def test_a_line_across_the_middle(viewer, make, qtbot, scene):
    data = scene(21, 31)
    panel = make(viewer.add_image(data, name="a"))
    panel.draw_button.click()
    (profile,) = profiles(qtbot, panel, 1).values()
    line = viewer.layers["Profile line"]
    assert viewer.layers.selection.active is line
    assert line.mode == "direct"
    np.testing.assert_allclose(line.data[0], [[10, 0], [10, 30]])
    assert profile.position[-1] == pytest.approx(30)
    np.testing.assert_allclose(np.interp(np.arange(31), profile.position, profile.values), data[10], atol=0.02)
    assert profile.values[0] == pytest.approx(data[10, 0])
    assert profile.values[-1] == pytest.approx(data[10, -1])


def test_different_grids_at_the_same_places(viewer, make, qtbot, scene):
    fine = scene(64, 64)
    coarse = fine.reshape(16, 4, 16, 4).mean((1, 3))
    units = {"units": ("um", "um"), "rotate": 25}
    low = viewer.add_image(coarse, name="low", scale=(0.4, 0.4), shear=[0.1], **units)
    high = viewer.add_image(fine, name="high", scale=(0.1, 0.1), shear=[0.1], **units)
    high.translate = high.rotate @ np.array([[1, 0.1], [0, 1]]) @ [-0.15, -0.15]
    panel = make(low, high)
    panel.draw()
    found = profiles(qtbot, panel, 2)
    line = viewer.layers["Profile line"]
    points = line_points(line, len(found["low"].position))
    for layer in (low, high):
        np.testing.assert_allclose(found[layer.name].values, in_world(viewer, layer, points), atol=1e-6)
    np.testing.assert_array_equal(found["low"].position, found["high"].position)
    length = np.linalg.norm(points[-1] - points[0])
    assert found["low"].position[-1] == pytest.approx(length)
    assert panel.plot._unit == "µm"
    assert line.units == high.units
    # the steps of the coarse one are seen to be the mean of the fine one's
    assert np.corrcoef(found["low"].values, found["high"].values)[0, 1] > 0.5


def test_units_are_the_layers_own(viewer, make, qtbot, scene):
    data = scene(20, 20)
    microns = viewer.add_image(data, name="microns", scale=(0.5, 0.5), units=("um", "um"))
    nanos = viewer.add_image(data, name="nanos", scale=(500, 500), units=("nm", "nm"))
    panel = make(nanos, microns, reference=microns)
    panel.draw()
    found = profiles(qtbot, panel, 2)
    np.testing.assert_allclose(found["microns"].values, found["nanos"].values, rtol=1e-6)
    assert found["microns"].position[-1] == pytest.approx(9.5)
    assert panel.plot._unit == "µm"


def test_the_reference_is_drawn_as_such(viewer, make, qtbot, scene):
    a, b = viewer.add_image(scene(16, 16), name="a"), viewer.add_image(scene(16, 16, seed=1), name="b")
    panel = make(a, b, reference=b)
    panel.draw()
    found = profiles(qtbot, panel, 2)
    assert found["b"].colour is None
    assert found["a"].colour == 0


def test_it_follows_the_line(viewer, make, qtbot, scene):
    data = scene(32, 32)
    panel = make(viewer.add_image(data, name="a"))
    panel.draw()
    profiles(qtbot, panel, 1)
    line = viewer.layers["Profile line"]
    line.data = [np.array([[4.0, 3.0], [4.0, 20.0]])]
    qtbot.waitUntil(lambda: panel.plot.profiles[0].position[-1] == pytest.approx(17), timeout=2000)
    assert panel.plot.profiles[0].values[0] == pytest.approx(data[4, 3])
    # as napari does while a corner is being dragged
    line._data_view.edit(0, np.array([[4.0, 3.0], [20.0, 3.0]]))
    line.refresh()
    qtbot.waitUntil(lambda: panel.plot.profiles[0].position[-1] == pytest.approx(16), timeout=2000)
    assert panel.plot.profiles[0].values[-1] == pytest.approx(data[20, 3])


def test_dragging_with_the_mouse(viewer, make, qtbot, scene):
    from napari.utils._test_utils import read_only_mouse_event
    from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

    panel = make(viewer.add_image(scene(32, 32), name="a"))
    panel.draw()
    profiles(qtbot, panel, 1)
    line = viewer.layers["Profile line"]

    def event(kind, position):
        return read_only_mouse_event(
            type=kind, is_dragging=kind == "mouse_move", position=position, view_direction=None,
            dims_displayed=(0, 1), modifiers=[],
        )  # fmt: skip

    mouse_press_callbacks(line, event("mouse_press", (15.5, 31)))
    mouse_move_callbacks(line, event("mouse_move", (5.5, 31)))
    qtbot.waitUntil(lambda: panel.plot.profiles[0].position[-1] > 31.5, timeout=2000)
    mouse_release_callbacks(line, event("mouse_release", (5.5, 31)))
    assert panel.plot.profiles[0].position[-1] == pytest.approx(np.hypot(31, 10))


def test_any_line_will_do_and_the_selected_one_comes_first(viewer, make, qtbot, scene):
    data = scene(32, 32)
    panel = make(viewer.add_image(data, name="a"))
    mine = viewer.add_shapes(
        [np.array([[1, 1], [1, 9]]), np.array([[0, 0], [8, 8]]), np.array([[2, 2], [2, 7], [9, 7]])],
        shape_type=["line", "rectangle", "path"],
        name="mine",
    )
    assert panel.line.value is mine
    (profile,) = profiles(qtbot, panel, 1).values()
    assert profile.position[-1] == pytest.approx(12)  # round the corner of the last one
    assert profile.values[-1] == pytest.approx(data[9, 7])
    mine.selected_data = {0}
    qtbot.waitUntil(lambda: panel.plot.profiles[0].position[-1] == pytest.approx(8), timeout=2000)


def test_outside_of_a_layer_there_is_nothing(viewer, make, qtbot, scene):
    panel = make(viewer.add_image(scene(10, 10), name="small"), viewer.add_image(scene(20, 20), name="large"))
    viewer.add_shapes([np.array([[3, 0], [3, 19]])], shape_type="line")
    found = profiles(qtbot, panel, 2)
    small = found["small"]
    np.testing.assert_array_equal(np.isnan(small.values), small.position > 9.5)
    assert np.isfinite(found["large"].values).all()


def test_the_current_slice_of_a_stack(viewer, make, qtbot, scene):
    data = scene(3, 4, 16, 16)
    layer = viewer.add_image(data, name="stack", scale=(1, 2, 1, 1))
    flat = viewer.add_image(scene(16, 16, seed=3), name="flat")
    panel = make(layer, flat)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 2)
    panel.draw()
    found = profiles(qtbot, panel, 2)
    assert found["stack"].values[0] == pytest.approx(data[1, 2, 7:9, 0].mean())
    viewer.dims.set_current_step(1, 3)
    qtbot.waitUntil(
        lambda: panel.plot.profiles[0].values[0] == pytest.approx(data[1, 3, 7:9, 0].mean()), timeout=2000
    )
    assert found["flat"].values[0] == panel.plot.profiles[1].values[0]


def test_a_line_drawn_in_the_stack_itself(viewer, make, qtbot, scene):
    data = scene(4, 16, 16)
    panel = make(viewer.add_image(data, name="stack"))
    viewer.dims.set_current_step(0, 3)
    viewer.add_shapes([np.array([[1, 5, 2], [1, 5, 9]])], shape_type="line")
    (profile,) = profiles(qtbot, panel, 1).values()
    assert profile.values[0] == pytest.approx(data[3, 5, 2])


def test_colours_give_their_mean(viewer, make, qtbot, scene):
    data = scene(3, 16, 16).transpose(1, 2, 0)
    panel = make(viewer.add_image(data, name="rgb", rgb=True))
    panel.draw()
    (profile,) = profiles(qtbot, panel, 1).values()
    assert profile.values[0] == pytest.approx(data[7:9, 0].mean())


def test_data_on_disk_is_read_in_the_background_once(viewer, make, qtbot, scene, monkeypatch):
    import dask.array as da

    data = scene(3, 16, 16)
    reads = []

    def slow(block):
        if block.size > 1:
            reads.append(1)
            time.sleep(0.3)
        return block

    lazy = da.from_array(data, chunks=(1, 16, 16)).map_blocks(
        slow, dtype=data.dtype, meta=np.array((), data.dtype)
    )
    layer = viewer.add_image(lazy, name="lazy", contrast_limits=(0, 1), cache=False)
    panel = make(layer)
    panel.draw()
    reads.clear()
    profiles(qtbot, panel, 1)
    assert panel.plot.profiles[0].values[0] == pytest.approx(data[int(viewer.dims.current_step[0]), 7:9, 0].mean())
    read = len(reads)
    line = viewer.layers["Profile line"]
    line.data = [np.array([[4.0, 3.0], [4.0, 12.0]])]
    qtbot.waitUntil(lambda: panel.plot.profiles[0].position[-1] == pytest.approx(9), timeout=2000)
    assert len(reads) == read
    plane = weakref.ref(panel._planes[layer][1])
    viewer.layers.remove(layer)
    assert plane() is None


def test_layers_and_lines_may_go(viewer, make, qtbot, scene):
    panel = make(viewer.add_image(scene(16, 16), name="a"), viewer.add_image(scene(16, 16), name="b"))
    panel.draw()
    profiles(qtbot, panel, 2)
    viewer.layers.remove("a")
    panel.refresh()
    profiles(qtbot, panel, 1)
    viewer.layers.remove("Profile line")
    profiles(qtbot, panel, 0)
    assert panel.plot.isHidden()
    viewer.layers.clear()
    panel.draw()
    assert "Tick a layer" in panel.note.text()


def test_no_profile_in_3d_and_it_says_so(viewer, make, qtbot, scene):
    panel = make(viewer.add_image(scene(4, 16, 16), name="a"))
    panel.draw()
    profiles(qtbot, panel, 1)
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: "2-D" in panel.note.text(), timeout=2000)
    viewer.dims.ndisplay = 2
    profiles(qtbot, panel, 1)
    viewer.add_shapes(ndim=2, name="empty")
    qtbot.waitUntil(lambda: "no line in 'empty'" in panel.note.text(), timeout=2000)


def test_the_values_can_be_copied(viewer, make, qtbot, scene):
    panel = make(viewer.add_image(scene(16, 16), name="a"), viewer.add_image(scene(16, 16, seed=1), name="b"))
    assert not panel.copy_button.isEnabled() or not panel.plot.profiles
    panel.draw()
    found = profiles(qtbot, panel, 2)
    panel.copy_button.click()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0] == "distance\ta\tb"
    table = np.array([line.split("\t") for line in lines[1:]], float)
    np.testing.assert_allclose(table[:, 1], found["a"].values, rtol=1e-5)
    assert len(table) == len(found["a"].position)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, ">u2", np.float64])
def test_sampling_between_pixels(dtype):
    plane = (np.arange(20).reshape(4, 5) * 3).astype(dtype)
    rows, columns = np.array([0.0, 1.5, 3.0, -0.4, 3.6]), np.array([0.0, 2.25, 4.0, 4.4, 1.0])
    values = sampled(plane, rows, columns)
    expected = map_coordinates(plane.astype(float), [rows[:4], columns[:4]], order=1, mode="nearest")
    np.testing.assert_allclose(values[:4], expected)
    assert np.isnan(values[4])
