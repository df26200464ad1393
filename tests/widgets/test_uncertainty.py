"""The Uncertainty dock as a user meets it, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QApplication

from napari_fidelity import Image
from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import TV
from napari_fidelity.io import save_model
from napari_fidelity.methods import RED, FineTune, Project
from napari_fidelity.operators import Downsample, GaussianNoise
from napari_fidelity.pipeline import ModelReference, Recipe, run_recipe
from napari_fidelity.pipeline.calibration import calibrate_images
from napari_fidelity.uncertainty import Bootstrap, Dropout, Ensemble, NullSpace, Residual
from napari_fidelity.widgets._layers import Source, add_result
from napari_fidelity.widgets._triton import keep_triton_out
from napari_fidelity.widgets.uncertainty import UncertaintyWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "napari-fidelity"
SECONDS = 60_000
QUICK = RED(denoiser=TV(), iterations=2)


def restored(viewer: Any, data: Any, method: Any = QUICK, **settings: Any) -> Any:
    """Add a measurement and what a method makes of it; return the result's layer."""
    rgb = data.ndim == 3 and data.shape[-1] == 3
    measured = viewer.add_image(
        data, name="cells", scale=(0.5,) * (data.ndim - rgb), units="um", contrast_limits=(0, 1), rgb=rgb
    )
    source = Source.of(measured)
    image = drained(source.read())
    recipe = Recipe(operator=Downsample(scale=2), method=method, noise=GaussianNoise(sigma=0.02), **settings)
    keep_triton_out()
    layer = add_result(viewer, source, drain(run_recipe(recipe, image, device="cpu")).image, name="restored")
    viewer.layers.selection.active = layer
    return layer


def drained(reading: Any) -> Any:
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def add_dock(viewer: Any) -> UncertaintyWidget:
    dock = UncertaintyWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Uncertainty")
    return dock


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], scene: Any) -> UncertaintyWidget:
    """The dock over a small reconstruction."""
    viewer = make_napari_viewer()
    restored(viewer, scene(20, 24))
    return add_dock(viewer)


def use(dock: UncertaintyWidget, made: Any) -> None:
    dock.map.set_map(made)


def run(dock: UncertaintyWidget, qtbot: Any) -> Any:
    before = dock.run
    dock.bar.run_button.click()
    assert dock.run is not None and dock.run is not before, said(dock)
    with qtbot.waitSignal(dock.run.finished, timeout=SECONDS) as blocker:
        pass
    return blocker.args[0]


def done(dock: UncertaintyWidget, qtbot: Any) -> Any:
    """Run, and return the layer of the map."""
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    return dock.run.live.layer  # type: ignore[union-attr]


def said(dock: UncertaintyWidget) -> str:
    return dock.bar.message.text().replace("\u200b", "")


def labelled(dock: UncertaintyWidget, qtbot: Any) -> Any:
    dock.regions.make_labels()
    qtbot.waitUntil(lambda: not dock.regions._computing, timeout=SECONDS)
    return dock.regions._regions.layer  # type: ignore[union-attr]


def test_a_result_brings_its_settings_and_its_map_lies_on_it(dock: UncertaintyWidget, qtbot: Any) -> None:
    result = dock.viewer.layers["restored"]
    assert dock.judged.layer.value is result
    assert dock.layer.value is dock.viewer.layers["cells"]
    assert not dock.made.isExpanded()
    assert "RED" in dock.judged.note.text() and "'cells'" in dock.judged.note.text()
    assert not dock.view.isVisibleTo(dock)
    use(dock, NullSpace())
    shown = done(dock, qtbot)
    assert shown.name == "restored – null space"
    assert shown.colormap.name == "inferno" and shown.contrast_limits[0] == 0 and shown.colorbar.visible
    np.testing.assert_allclose(shown.data_to_world((3, 3)), result.data_to_world((3, 3)))
    assert dock.view.layer.value is shown and dock.view.isVisibleTo(dock)
    assert "not verifiable" in dock.view.numbers.text()
    recipe = Recipe.from_plain(shown.metadata[KEY])
    assert recipe.method.of.replace(snapshots=0) == QUICK
    assert recipe.method.image is None  # the result is what the recipe makes
    assert dock.run.to_compare()["images"] == [result]  # type: ignore[union-attr]


def test_a_map_is_made_again_from_its_layer(dock: UncertaintyWidget, qtbot: Any) -> None:
    use(dock, Bootstrap(samples=2))
    first = done(dock, qtbot)
    names = [layer.name for layer in dock.viewer.layers]
    assert names[-3:] == ["restored – bootstrap, bias", "restored – bootstrap, mean", "restored – bootstrap"]
    bias, mean, _ = dock.viewer.layers[-3:]
    assert bias.contrast_limits[0] == -bias.contrast_limits[1] and not bias.visible
    assert mean.contrast_limits == [0, 1] and mean.colormap.name == "gray"
    assert "2 samples" in said(dock)
    use(dock, NullSpace())
    dock.judged.layer.value = None
    dock.load_layer(first)
    assert dock.judged.layer.value is dock.viewer.layers["restored"]
    assert dock.map.kind == "bootstrap"
    np.testing.assert_array_equal(done(dock, qtbot).data, first.data)


def test_what_the_network_invented(
    make_napari_viewer: Callable[..., Any], scene: Any, model_file: Path, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    rgb = np.stack([scene(16, 18, seed=i) for i in range(3)], axis=-1)
    tuned = FineTune(iterations=2, views=1, precision="float32")
    restored(viewer, rgb, tuned, model=ModelReference(name=str(model_file)))
    dock = add_dock(viewer)
    use(dock, Dropout(passes=2, p=0.05, before=True))
    shown = done(dock, qtbot)
    before = viewer.layers["restored – dropout, std before"]
    assert before.contrast_limits == shown.contrast_limits
    assert shown.contrast_limits[1] >= np.percentile(before.data, 99.9) > 0
    assert shown.data.shape == (32, 36) and not shown.rgb and (shown.data >= 0).all() and shown.data.max() > 0
    assert viewer.layers["restored – dropout, mean"].rgb
    use(dock, Residual())
    left = done(dock, qtbot)
    assert left.data.shape == (16, 18) and left.contrast_limits[0] < 0
    assert left.colormap.name == "blue-white-red" and dock.view.colours.isHidden()
    assert left.colorbar.visible and not shown.colorbar.visible  # of one map at a time
    np.testing.assert_allclose(left.scale, viewer.layers["cells"].scale)


def test_colours_bar_and_overlay(dock: UncertaintyWidget, qtbot: Any) -> None:
    use(dock, NullSpace())
    shown = done(dock, qtbot)
    view = dock.view
    view.colours.setCurrentIndex(view.colours.findData("gray_r"))
    assert shown.colormap.name == "gray_r"
    view.bar.click()
    assert not shown.colorbar.visible
    dock.viewer.layers["restored"].visible = False
    view.over.click()
    below = dock.viewer.layers["restored"]
    assert below.visible and dock.viewer.layers.index(shown) > dock.viewer.layers.index(below)
    alpha = shown.colormap.map(np.array([0.0, 1.0]))[:, 3]
    assert alpha[0] == 0 and alpha[1] > 0.5
    view.over.click()
    assert shown.colormap.name == "gray_r"


def test_doubtful_regions_are_labelled_measured_and_found_again(dock: UncertaintyWidget, qtbot: Any) -> None:
    use(dock, NullSpace())
    shown = done(dock, qtbot)
    dock.regions.percentile.setValue(80)
    dock.regions.least.setValue(3)
    labels = labelled(dock, qtbot)
    assert labels.name == "restored – null space – doubtful"
    np.testing.assert_allclose(labels.scale, shown.scale)
    above = np.abs(shown.data) > np.percentile(shown.data, 80)
    assert (labels.data > 0).sum() <= above.sum() and above[labels.data > 0].all()
    table = dock.regions.table.table
    assert table.rowCount() == labels.data.max()
    pixels = (labels.data == 1).sum()
    assert [table.item(0, i).text() for i in range(3)] == ["1", str(pixels), f"{pixels / 16:.3g}"]
    assert table.horizontalHeaderItem(2).text() == "µm²"
    table.selectRow(1)
    assert labels.selected_label == 2
    place = np.argwhere(labels.data == 2).mean(0)
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], labels.data_to_world(place), atol=1e-6)
    dock.regions.table.buttons.copy_button.click()
    assert QApplication.clipboard().text().splitlines()[0].split("\t")[:3] == ["label", "pixels", "area (µm²)"]

    before = (labels.data > 0).sum()
    dock.regions.percentile.setValue(90)  # the labels follow
    qtbot.waitUntil(lambda: 0 < (labels.data > 0).sum() < before, timeout=SECONDS)
    labels.data[:2, :2] = 7  # the user edits
    dock.regions.percentile.setValue(80)
    qtbot.waitUntil(lambda: "edited" in dock.regions.note.text(), timeout=SECONDS)
    assert labels.data[0, 0] == 7
    other = labelled(dock, qtbot)
    assert other is not labels and labels.data[0, 0] == 7
    other.paint((4, 4), 9)  # with napari's brush, while the regions are being found
    last = labelled(dock, qtbot)
    assert last is not other and other.data[4, 4] == 9


def test_a_map_of_the_measurement_alone_makes_its_result(dock: UncertaintyWidget, qtbot: Any) -> None:
    use(dock, NullSpace())
    first = done(dock, qtbot)
    dock.judged.layer.value = None
    assert dock.made.isExpanded()
    again = done(dock, qtbot)
    assert again.name == "cells – null space"
    np.testing.assert_allclose(again.data, first.data, atol=1e-5)


def test_an_image_made_elsewhere(dock: UncertaintyWidget, qtbot: Any, scene: Any) -> None:
    other = dock.viewer.add_image(scene(40, 48, seed=3), name="elsewhere", scale=(0.25, 0.25), units="um")
    dock.judged.layer.value = other
    assert "Not made by Fidelity" in dock.judged.note.text()
    use(dock, Residual())
    shown = done(dock, qtbot)
    recipe = Recipe.from_plain(shown.metadata[KEY])
    np.testing.assert_array_equal(recipe.method.image, other.data)
    dock.viewer.layers.remove(other)
    assert dock.judged.layer.value is None
    dock.load_layer(shown)
    np.testing.assert_allclose(done(dock, qtbot).data, shown.data, atol=1e-6)


def test_one_slice_of_a_stack_and_regions_slice_by_slice(
    make_napari_viewer: Callable[..., Any], scene: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    result = restored(viewer, scene(3, 12, 14))
    dock = add_dock(viewer)
    use(dock, NullSpace())
    shown = done(dock, qtbot)
    assert shown.data.shape == result.data.shape
    dock.regions.percentile.setValue(70)
    labels = labelled(dock, qtbot)
    slices = [set(np.unique(plane)) - {0} for plane in labels.data]
    assert not slices[0] & slices[1] and not slices[1] & slices[2]
    dock.axes.set_axes("ZYX", {"Z": 1})
    one = done(dock, qtbot)
    assert one.data.shape == (1, 24, 28)
    np.testing.assert_allclose(one.data[0], shown.data[1], atol=1e-6)


def test_stop_keeps_the_map_so_far(dock: UncertaintyWidget, qtbot: Any) -> None:
    use(dock, Bootstrap(samples=10_000))
    dock.bar.run_button.click()
    run = dock.run
    assert run is not None
    qtbot.waitUntil(lambda: len(run.history) > 4, timeout=SECONDS)
    with qtbot.waitSignal(run.finished, timeout=SECONDS) as blocker:
        dock.bar.stop_button.click()
    assert blocker.args[0].value is not None
    assert np.isfinite(run.live.layer.data).all()
    assert "stopped by the user" in said(dock).lower()


def test_fine_tuning_by_a_map(
    make_napari_viewer: Callable[..., Any], scene: Any, model_file: Path, qtbot: Any, npe2pm: Any
) -> None:
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-fidelity"))
    viewer = make_napari_viewer()
    restored(viewer, scene(16, 18), Project(), model=ModelReference(name=str(model_file)))
    dock = add_dock(viewer)
    use(dock, NullSpace())
    shown = done(dock, qtbot)
    dock.view.weights.click()
    correct = viewer.window.dock_widgets["Correct (napari-fidelity)"]
    assert correct.layer.value is viewer.layers["cells"]
    recipe = correct.request().recipe
    assert recipe.method.kind == "finetune" and recipe.model.name == str(model_file)
    mask = recipe.method.mask
    assert mask.shape == shown.data.shape and 0 <= mask.min() and mask.max() <= 1
    assert (
        mask[np.unravel_index(shown.data.argmin(), mask.shape)]
        > mask[np.unravel_index(shown.data.argmax(), mask.shape)]
    )


def test_what_cannot_be_done_says_so(make_napari_viewer: Callable[..., Any], scene: Any, qtbot: Any) -> None:
    dock = add_dock(make_napari_viewer())
    dock.bar.run_button.click()
    assert "no image layer to judge" in said(dock)
    dock.viewer.add_image(scene(12, 14), name="cells")
    dock.made_by.setCurrentIndex(dock.made_by.findData("Reconstruct"))
    dock.method.set_recipe(Recipe(method=QUICK))
    use(dock, Dropout())
    assert run(dock, qtbot).kind == "failed"
    assert "Dropout needs a method with a restoration network" in said(dock)


def test_intervals_of_a_calibration_and_of_one_for_another_network(
    make_napari_viewer: Callable[..., Any], scene: Any, model_file: Path, network: Any, tmp_path: Path, qtbot: Any
) -> None:
    truths = [scene(24, 28, seed=seed) for seed in range(1, 11)]
    images = [(Image(seen(truth), "YX"), Image(truth, "YX")) for truth in truths]
    recipe = Recipe(
        operator=Downsample(scale=2),
        method=Project(),
        noise=GaussianNoise(sigma=0.02),
        model=ModelReference(name=str(model_file)),
    )
    calibrate_images(images, Ensemble(members=3), recipe, device="cpu").save(tmp_path / "ten.json")
    viewer = make_napari_viewer()
    measured = seen(scene(24, 28, seed=20))
    restored(viewer, measured, Project(), model=recipe.model)
    dock = add_dock(viewer)
    use(dock, Ensemble(members=3))
    dock.map.calibration.read(str(tmp_path / "ten.json"))
    assert "10 images (ten.json)" in dock.map.calibration.note.text()
    done(dock, qtbot)
    lower, upper = (viewer.layers[f"restored – ensemble, {name}"] for name in ("lower", "upper"))
    result = viewer.layers["restored"]
    assert lower.data.shape == result.data.shape
    assert (lower.data <= result.data).all() and (result.data <= upper.data).all()
    assert (lower.data < upper.data).mean() > 0.9 and lower.colormap.name == "gray"
    assert "intervals cover 90 %" in said(dock)
    assert "coverage guaranteed</td><td align='right'>yes" in dock.view.numbers.text()
    assert dock.view.void.isHidden()

    save_model(network(n_feats=4), tmp_path / "other.safetensors", licence="CC0")
    other = ModelReference(name=str(tmp_path / "other.safetensors"))
    dock.judged.layer.value = restored(viewer, measured, Project(), model=other)
    done(dock, qtbot)
    words = "Guarantee void: the calibration belongs to another network"
    assert dock.view.void.text().startswith(words) and dock.view.void.isVisibleTo(dock)
    assert "void" in said(dock)


def seen(truth: Any) -> Any:
    """What a measurement shows of an image, at half its size."""
    data = Downsample(scale=2).A(torch.from_numpy(truth)[None, None])[0, 0].numpy()
    return (data + np.random.default_rng(0).normal(0, 0.02, data.shape)).astype(np.float32)


def test_void_guarantees_are_said_plainly() -> None:
    from napari_fidelity.widgets._map_numbers import numbers_html, void_words

    reason = "all 4 samples are done; guarantee void: slope is 7, 2 in the calibration images (p = 0.001)"
    record = {"runs": [{"scores": {"guaranteed": 0.0, "slope": 7.0}, "stop_reason": reason}]}
    assert void_words(record).startswith("Guarantee void: slope is 7")
    assert void_words({"runs": [{"stop_reason": "all done"}]}) == ""
    assert "coverage guaranteed</td><td align='right'>no" in numbers_html(record, np.ones(3))
