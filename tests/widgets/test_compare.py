"""The Compare dock in a real viewer; its numbers are those of napari_fidelity.metrics."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QLineEdit, QSlider, QSpinBox

from napari_fidelity import metrics
from napari_fidelity.operators import Downsample
from napari_fidelity.widgets.compare import CompareWidget

KEY = "napari-fidelity"
FORMATION = {"operator": {"kind": "downsample", "scale": 2}}
A = Downsample(scale=2)


def applied(image):
    import torch

    x = torch.from_numpy(np.asarray(image, np.float64))[None, None]
    return A.A(x)[0, 0].numpy()


@pytest.fixture
def images(scene):
    true = (scene(48, 48) * 250).round().astype(np.uint8)
    rng = np.random.default_rng(0)
    good = (true + rng.normal(0, 2, true.shape)).astype(np.float32)
    bad = (true + rng.normal(0, 9, true.shape)).astype(np.float32)
    measured = np.rint(applied(true)).astype(np.uint8)
    return {"true": true, "measured": measured, "good": good, "bad": bad}


@pytest.fixture
def viewer(make_napari_viewer, images):
    viewer = make_napari_viewer()
    fine = {"scale": (0.1, 0.1), "translate": (-0.05, -0.05), "units": ("um", "um")}
    viewer.add_image(images["true"], name="true", **fine)
    viewer.add_image(
        images["measured"], name="measured", scale=(0.2, 0.2), units=("um", "um"),
        metadata={KEY: {"formation": FORMATION, "of": "true"}},
    )  # fmt: skip
    viewer.add_image(images["good"], name="good", **fine)
    viewer.add_image(images["bad"], name="bad", **fine)
    return viewer


@pytest.fixture
def dock(viewer, qtbot):
    dock = CompareWidget(viewer)
    viewer.window.add_dock_widget(dock)
    return dock


def finish(qtbot, dock, act):
    act()
    assert dock.bar.running
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=20_000)


def score(qtbot, dock):
    finish(qtbot, dock, dock.start)
    return {row.name: row for row in dock.table.rows}


def cells(dock):
    tree = dock.table.tree
    items = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return [(items[i].text(0), items[i + 1]) for i in range(0, len(items), 2)]


def test_the_layers_say_what_belongs_together(dock, viewer):
    assert [layer.name for layer in dock.ticks.layers()] == ["true", "measured", "good", "bad"]
    assert dock.reference.value.name == "true"
    assert dock.measurement.value.name == "measured"
    assert dock.formation.operator() == A


def test_a_result_names_its_measurement_and_formation(make_napari_viewer, images):
    viewer = make_napari_viewer()
    viewer.add_image(images["measured"], name="mine")
    record = {"recipe": {"operator": {"kind": "downsample", "scale": 2}}, "source": {"layer": "mine"}}
    viewer.add_image(images["good"], name="result", metadata={KEY: record})
    dock = CompareWidget(viewer)
    assert dock.measurement.value.name == "mine"
    assert dock.reference.value is None
    assert dock.formation.operator() == A


def test_the_formation_can_be_seen_and_changed(dock, viewer, images, qtbot):
    dock.formation.expand(animate=False)
    assert dock.formation.operator() == A
    other = Downsample(scale=3)
    dock.prefill(operator=other)
    assert dock.formation.operator() == other


def test_a_measurement_that_nobody_knows_asks_for_its_formation(make_napari_viewer, images):
    viewer = make_napari_viewer()
    layer = viewer.add_image(images["measured"], name="mine")
    viewer.add_image(images["good"], name="good")
    dock = CompareWidget(viewer)
    assert not dock.formation.isExpanded()
    dock.measurement.value = layer
    assert dock.formation.isExpanded()


def test_prefilled_with_a_run(make_napari_viewer, images):
    viewer = make_napari_viewer()
    layers = {name: viewer.add_image(image, name=name) for name, image in images.items()}
    dock = CompareWidget(viewer)
    assert dock.reference.value is None
    assert not dock.bar.run_button.isEnabled()
    assert not dock.difference_button.isEnabled()
    dock.prefill([layers["good"]], layers["true"], layers["measured"], A)
    assert dock.ticks.layers() == [layers["good"]]
    assert dock.reference.value is layers["true"]
    assert dock.formation.operator() == A
    assert dock.bar.run_button.isEnabled()


def test_scores_are_those_of_the_metrics(dock, images, qtbot):
    rows = score(qtbot, dock)
    assert list(rows) == ["good", "bad"]  # neither the reference nor what lies on another grid
    for name, row in rows.items():
        expected = metrics.compare(
            {name: images[name]}, images["true"], data_range=255, measurement=images["measured"], operator=A
        )[0]
        for number in ("psnr", "ssim", "residual", "lr_psnr"):
            assert getattr(row, number) == pytest.approx(getattr(expected, number), rel=1e-9)
        assert np.isnan(row.lpips) or metrics.lpips_available()[0]
    assert "data range 255" in dock.table.caption.text()


def test_scores_with_options(dock, images, qtbot):
    dock.options.crop.setValue(4)
    dock.options.rounded.setChecked(True)
    dock.options.data_range.setText("300")
    dock.options.channels.setCurrentText("luma (Y)")
    row = score(qtbot, dock)["good"]
    how = {"data_range": 300, "crop": 4, "rounded": True, "channels": "y"}
    assert row.psnr == pytest.approx(metrics.psnr(images["good"], images["true"], **how))
    assert row.ssim == pytest.approx(metrics.ssim(images["good"], images["true"], **how))
    assert row.lr_psnr == pytest.approx(
        metrics.lr_psnr(images["good"], images["measured"], A, data_range=300), rel=1e-9
    )
    for words in ("300", "luma", "border of 4 px", "rounded"):
        assert words in dock.table.caption.text()


def test_rgb_scores(make_napari_viewer, qtbot, scene):
    viewer = make_napari_viewer()
    true = scene(3, 32, 32).transpose(1, 2, 0)
    image = np.clip(true + np.random.default_rng(0).normal(0, 0.05, true.shape), 0, 1)
    viewer.add_image(true, name="true")
    viewer.add_image(np.dstack([image, np.ones(image.shape[:2])]), name="with alpha")
    dock = CompareWidget(viewer)
    dock.reference.value = viewer.layers["true"]
    dock.options.channels.setCurrentText("luma (Y)")
    row = score(qtbot, dock)["with alpha"]
    assert row.psnr == pytest.approx(metrics.psnr(image, true, data_range=1, channels="y"), rel=1e-5)
    finish(qtbot, dock, dock.add_differences)
    layer = viewer.layers["with alpha − true"]
    np.testing.assert_allclose(layer.data, (image - true).mean(-1), atol=1e-6)


def test_the_best_numbers_are_bold_and_names_are_whole(dock, qtbot):
    score(qtbot, dock)
    (good_name, good), (bad_name, bad) = cells(dock)
    assert (good_name, bad_name) == ("good", "bad")
    shown = [i for i in range(1, 6) if not dock.table.tree.isColumnHidden(i)]
    assert len(shown) in (4, 5)
    for i in shown:
        assert good.font(i).bold()
        assert not bad.font(i).bold()
        assert good.text(i) != "–"
        assert len(dock.table.tree.headerItem().toolTip(i)) > 40


def test_why_a_number_is_missing(dock, viewer, images, qtbot):
    viewer.add_image(images["good"][:40], name="smaller")
    broken = images["good"].copy()
    broken[0, 0] = np.nan
    viewer.add_image(broken, name="broken")
    rows = score(qtbot, dock)
    assert np.isnan(rows["smaller"].psnr)
    assert "differ in shape" in rows["smaller"].notes[0]
    assert "finite" in " ".join(rows["broken"].notes)
    assert rows["good"].psnr > 30
    assert "smaller: PSNR and SSIM" in dock.table.notes.text()


def test_pixels_that_were_not_observed_do_not_count(dock, viewer, images, qtbot):
    holes = images["measured"].astype(np.float32)
    holes[3:7, 5:9] = np.nan
    viewer.add_image(holes, name="holes", metadata={KEY: {"formation": FORMATION}})
    dock.measurement.value = viewer.layers["holes"]
    left = metrics.residual_image(images["good"], np.nan_to_num(holes), A)
    seen = np.isfinite(holes)
    assert score(qtbot, dock)["good"].residual == pytest.approx(np.sqrt(np.mean(left[seen] ** 2)), rel=1e-6)
    finish(qtbot, dock, dock.add_residuals)
    layer = viewer.layers["A(good) − holes"]
    np.testing.assert_allclose(layer.data[seen], left[seen], rtol=1e-5)
    assert np.isnan(layer.data[~seen]).all()


@pytest.fixture
def stacks(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    true = scene(2, 3, 24, 24)
    rng = np.random.default_rng(0)
    image = true + rng.normal(0, 1, true.shape) * np.linspace(0.01, 0.1, 6).reshape(2, 3, 1, 1)
    labels = ("t", "z", "y", "x")
    viewer.add_image(true, name="true", axis_labels=labels)
    viewer.add_image(image.astype(np.float32), name="image", axis_labels=labels)
    dock = CompareWidget(viewer)
    dock.reference.value = viewer.layers["true"]
    return dock, viewer, true, image.astype(np.float32)


def test_the_current_slice_or_all_of_them(stacks, qtbot):
    dock, viewer, true, image = stacks
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 2)
    row = score(qtbot, dock)["image"]
    # values between 0 and 1 suggest a range of 1
    assert row.psnr == pytest.approx(metrics.psnr(image[1, 2], true[1, 2], data_range=1))
    finish(qtbot, dock, dock.add_differences)
    one = viewer.layers["image − true"]
    np.testing.assert_allclose(one.data, (image - true)[1:2, 2:3], atol=1e-6)
    np.testing.assert_allclose(one.data_to_world((0, 0, 0, 0)), (1, 2, 0, 0))
    dock.options.slices.setCurrentIndex(1)
    rows = score(qtbot, dock)
    each = [metrics.psnr(image[t, z], true[t, z], data_range=1) for t in range(2) for z in range(3)]
    assert rows["image"].psnr == pytest.approx(np.mean(each))
    assert rows["image t = 1, z = 0"].psnr == pytest.approx(each[3])
    _, numbers = cells(dock)[0]
    assert numbers.text(0) == "mean of 6"
    assert dock.table.tree.topLevelItem(0).childCount() == 6
    finish(qtbot, dock, dock.add_differences)
    np.testing.assert_allclose(viewer.layers["image − true [1]"].data, image - true, atol=1e-6)


def test_one_reference_for_every_slice(stacks, qtbot):
    dock, viewer, true, image = stacks
    dock.reference.value = viewer.add_image(true[0, 0], name="one")
    dock.ticks.tick([viewer.layers["image"]])
    dock.options.slices.setCurrentIndex(1)
    rows = score(qtbot, dock)
    assert rows["image t = 1, z = 1"].psnr == pytest.approx(metrics.psnr(image[1, 1], true[0, 0], data_range=1))
    finish(qtbot, dock, dock.add_differences)
    np.testing.assert_allclose(viewer.layers["image − one"].data, image - true[0, 0], atol=1e-6)


def test_slices_that_the_reference_does_not_have(stacks, qtbot):
    dock, viewer, true, _ = stacks
    dock.reference.value = viewer.add_image(true[:, :2], name="fewer", axis_labels=("t", "z", "y", "x"))
    dock.ticks.tick([viewer.layers["image"]])
    dock.options.slices.setCurrentIndex(1)
    row = score(qtbot, dock)["image"]
    assert "'fewer' has no slice z = 2" in " ".join(row.notes)
    assert "psnr: mean of 4 of 6 slices" in row.notes


def test_dask_and_multiscale_layers(make_napari_viewer, qtbot, images):
    import dask.array as da

    viewer = make_napari_viewer()
    viewer.add_image(da.from_array(images["true"], chunks=16), name="true")
    viewer.add_image([images["good"], images["good"][::2, ::2]], multiscale=True, name="pyramid")
    dock = CompareWidget(viewer)
    dock.reference.value = viewer.layers["true"]
    row = score(qtbot, dock)["pyramid"]
    assert row.psnr == pytest.approx(metrics.psnr(images["good"], images["true"], data_range=255))


def test_difference_layers_lie_on_their_layers(dock, viewer, images, qtbot):
    finish(qtbot, dock, dock.add_differences)
    for name in ("good", "bad"):
        layer, source = viewer.layers[f"{name} − true"], viewer.layers[name]
        np.testing.assert_allclose(layer.data, images[name] - images["true"].astype(np.float32))
        np.testing.assert_allclose(layer.data_to_world((7, 9)), source.data_to_world((7, 9)))
        assert layer.units == source.units
        low, high = layer.contrast_limits
        assert low == -high
        assert layer.colormap.name == "blue-white-red"
        assert layer not in dock.ticks.layers()
    # one scale for all, or the eye compares apples with pears
    assert viewer.layers["good − true"].contrast_limits == viewer.layers["bad − true"].contrast_limits


def test_residual_layers_lie_on_the_measurement(dock, viewer, images, qtbot):
    finish(qtbot, dock, dock.add_residuals)
    layer = viewer.layers["A(bad) − measured"]
    np.testing.assert_allclose(layer.data, applied(images["bad"]) - images["measured"], atol=1e-4)
    np.testing.assert_allclose(layer.data_to_world((3, 4)), viewer.layers["measured"].data_to_world((3, 4)))
    assert "A(measured) − measured" not in viewer.layers


def test_maps_that_cannot_be_made_are_named(dock, viewer, images, qtbot):
    viewer.add_image(images["good"][:40], name="smaller")
    finish(qtbot, dock, dock.add_differences)
    assert "good − true" in viewer.layers
    assert "'smaller'" in dock.bar.message.text()


def test_a_rotated_layer_keeps_its_place(make_napari_viewer, images, qtbot):
    viewer = make_napari_viewer()
    viewer.add_image(images["true"], name="true")
    layer = viewer.add_image(images["good"], name="good", scale=(2, 3), rotate=30, shear=[0.2], translate=(5, 6))
    dock = CompareWidget(viewer)
    dock.reference.value = viewer.layers["true"]
    finish(qtbot, dock, dock.add_differences)
    np.testing.assert_allclose(viewer.layers["good − true"].data_to_world((7, 9)), layer.data_to_world((7, 9)))


def test_copy_and_save(dock, qtbot, tmp_path, monkeypatch):
    score(qtbot, dock)
    dock.table.copy_button.click()
    assert QApplication.clipboard().text() == metrics.to_csv(dock.table.rows, "\t")
    file = tmp_path / "scores.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(file), ""))
    dock.table.save_button.click()
    assert file.read_text(encoding="utf-8") == metrics.to_csv(dock.table.rows)


def test_saving_never_replaces_a_file_unasked(dock, qtbot, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_error", said.append)
    score(qtbot, dock)
    file = tmp_path / "scores.csv"
    file.write_text("mine")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores"), ""))
    dock.table.buttons.save()  # the dialog asked about "scores", not about "scores.csv"
    assert file.read_text() == "mine"
    assert len(said) == 1
    assert "exists" in said[0]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "nowhere" / "a.csv"), ""))
    dock.table.buttons.save()
    assert "nowhere" in said[1]


def test_problems_are_one_message_each(dock, viewer, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_error", said.append)
    dock.options.data_range.setText("broad")
    dock.start()
    assert "data range" in said[-1]
    dock.options.data_range.setText("")
    dock.ticks.tick([viewer.layers["true"]])
    dock.start()
    assert "Tick a layer" in said[-1]
    assert len(said) == 2
    assert not dock.bar.running


def test_an_error_of_any_kind_ends_the_run(dock, qtbot, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_error", said.append)

    def broken(*_, **__):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(metrics, "compare", broken)
    finish(qtbot, dock, dock.start)
    assert len(said) == 1
    assert dock.bar.run_button.isEnabled()
    assert dock.difference_button.isEnabled()


def slow(monkeypatch):
    original = metrics.compare

    def compare(*args, **options):
        time.sleep(0.2)
        return original(*args, **options)

    monkeypatch.setattr(metrics, "compare", compare)


def test_stop_keeps_the_numbers_so_far(dock, qtbot, monkeypatch):
    slow(monkeypatch)
    dock.start()
    qtbot.waitUntil(lambda: dock.bar.stop_button.isEnabled())
    time.sleep(0.1)
    dock.bar.stop_button.click()
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=10_000)
    assert len(dock.table.rows) < 2
    assert "topped" in dock.bar.message.text()


def test_layers_deleted_during_a_run(dock, viewer, qtbot, monkeypatch):
    slow(monkeypatch)
    dock.start()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=10_000)
    assert [row.name for row in dock.table.rows] == ["good", "bad"]
    assert dock.ticks.count() == 0
    assert dock.reference.value is None


def test_a_dock_closed_during_a_run(dock, viewer, qtbot, monkeypatch):
    slow(monkeypatch)
    dock.start()
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.wait(600)


def test_a_viewer_closed_during_a_run(make_napari_viewer, images, qtbot, monkeypatch):
    viewer = make_napari_viewer()
    for name in ("true", "good", "bad"):
        viewer.add_image(images[name], name=name)
    dock = CompareWidget(viewer)
    viewer.window.add_dock_widget(dock)
    dock.reference.value = viewer.layers["true"]
    slow(monkeypatch)
    dock.profile.draw()
    dock.arrange.blink_button.click()
    dock.start()
    qtbot.wait(50)
    viewer.close()
    qtbot.wait(600)


def test_nothing_is_held_of_deleted_layers(dock, viewer, qtbot):
    dock.formation.expand(animate=False)
    score(qtbot, dock)
    finish(qtbot, dock, dock.add_differences)
    dock.profile.draw()
    qtbot.waitUntil(lambda: bool(dock.profile.plot.profiles), timeout=5000)
    dock.arrange.split_button.click()
    qtbot.waitUntil(lambda: dock.arrange.split.layer is not None, timeout=5000)
    layers = [weakref.ref(layer) for layer in viewer.layers]
    arrays = [weakref.ref(layer.data) for layer in viewer.layers if layer.name in ("good − true", "Split view")]
    assert len(arrays) == 2
    viewer.layers.clear()

    def gone():
        gc.collect()  # of all that the test run has loaded: seconds on a busy machine, and Qt deletes later
        held = holders([*arrays, *layers])
        assert not held, held

    qtbot.waitUntil(gone, timeout=60_000)


def holders(references):
    """Return in words what holds the objects that are left."""
    left = [ref() for ref in references if ref() is not None]
    return [
        f"{type(each).__name__} by {[str(type(other)) for other in gc.get_referrers(each) if other is not left]}"
        for each in left
    ]


def test_new_and_renamed_layers_are_listed(dock, viewer, images):
    viewer.add_image(images["good"], name="new")
    viewer.add_labels(np.zeros((4, 4), int), name="labels")
    viewer.layers["bad"].name = "worse"
    names = [dock.ticks.item(i).text() for i in range(dock.ticks.count())]
    assert names == ["new", "worse", "good", "measured", "true"]
    dock.ticks.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert viewer.layers["new"] not in dock.ticks.layers()
    viewer.layers.remove("good")
    assert [layer.name for layer in dock.ticks.layers()] == ["true", "measured", "worse"]


def test_every_control_has_a_tooltip_and_the_keyboard_reaches_it(dock, qtbot):
    dock.options.show()
    kinds = (QAbstractButton, QComboBox, QLineEdit, QSlider, QSpinBox)
    controls = [child for kind in kinds for child in dock.findChildren(kind)]
    assert len(controls) > 15
    for control in controls:
        if control.parent().metaObject().className() in ("QSpinBox", "QCollapsible"):
            continue  # a spin box's own line edit
        assert control.toolTip() or control.text(), control.objectName()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control
    texts = [b.text() for b in dock.findChildren(QAbstractButton) if not b.isHidden()]
    mnemonics = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
    assert len(mnemonics) == len(set(mnemonics)), mnemonics
    assert not set(mnemonics) & set("fvlpwh")  # napari's menus


def test_nothing_is_clipped_at_300_pixels(dock, viewer, qtbot):
    score(qtbot, dock)
    dock.arrange.split_button.click()
    dock.profile.draw()
    qtbot.wait(300)
    for width in (300,):
        assert dock.column.parentWidget().minimumSizeHint().width() <= width - 16  # the scroll bar
    dock.arrange.stop()


def test_opening_is_fast(make_napari_viewer, images):
    viewer = make_napari_viewer()
    for name, image in images.items():
        viewer.add_image(image, name=name)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        dock = CompareWidget(viewer)
        seconds.append(time.perf_counter() - began)
        dock.deleteLater()
    assert min(seconds) < 0.3


def test_opening_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, napari, numpy as np\n"
        "from napari_fidelity.widgets.compare import CompareWidget\n"
        "viewer = napari.components.ViewerModel()\n"
        "viewer.add_image(np.zeros((8, 8)), metadata={'napari-fidelity': {'formation': {'operator': "
        "{'kind': 'downsample', 'scale': 2}}}})\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "dock = CompareWidget(viewer)\n"
        "print([name for name in ('torch', 'matplotlib.figure') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[]", done.stderr
