"""The Reconstruct dock as a user meets it, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.denoisers import NLM, TV
from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED
from napari_fidelity.networks.untrained import Skip
from napari_fidelity.operators import Downsample, Fourier, GaussianNoise, Identity, Radon, sampling_mask
from napari_fidelity.pipeline import Recipe
from napari_fidelity.widgets.reconstruct import ReconstructWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "napari-fidelity"
SECONDS = 60_000
NOISE = 0.05
QUICK = RED(denoiser=TV(), iterations=3)
SMALL = Skip(width=4, scales=2)


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], scene: Any) -> ReconstructWidget:
    """The dock over a small noisy gray image, with a method that takes no time."""
    viewer = make_napari_viewer()
    viewer.add_image(noisy(scene(24, 20)), name="cells", scale=(0.5, 0.5), contrast_limits=(0.1, 0.8))
    return add_dock(viewer)


def noisy(image: Any, seed: int = 0) -> Any:
    return image + np.random.default_rng(seed).normal(0, NOISE, image.shape).astype(np.float32)


def add_dock(viewer: Any) -> ReconstructWidget:
    widget = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Reconstruct")
    use(widget, QUICK)
    return widget


def use(dock: ReconstructWidget, method: Any, operator: Any = None, **settings: Any) -> None:
    """Choose method and image formation."""
    dock.method.set_recipe(Recipe(method=method, **settings))
    dock.formation.set_formation(operator or Identity(), GaussianNoise(sigma=NOISE))


def started(dock: ReconstructWidget) -> Any:
    before = dock.run
    dock.bar.run_button.click()
    assert dock.run is not None and dock.run is not before, said(dock)
    return dock.run


def run(dock: ReconstructWidget, qtbot: Any) -> Any:
    """Run to the end and return the outcome."""
    with qtbot.waitSignal(started(dock).finished, timeout=SECONDS) as blocker:
        pass
    return blocker.args[0]


def done(dock: ReconstructWidget, qtbot: Any) -> Any:
    """Run, and return the layer that came of it."""
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    return dock.viewer.layers[-1]


def said(dock: ReconstructWidget) -> str:
    return dock.bar.message.text().replace("\u200b", "")


@pytest.mark.parametrize(
    "method",
    [
        QUICK,
        DIP(network=SMALL, iterations=4, runs=2),
        DeepRED(network=SMALL, denoiser=NLM(patch_distance=2), iterations=4, every=2),
        ZSSR(width=8, depth=2, iterations=4, updates=2, crop=16),
    ],
    ids=lambda method: method.kind,
)
def test_a_result_lies_on_the_measurement_and_can_be_made_again(
    dock: ReconstructWidget, qtbot: Any, method: Any
) -> None:
    use(dock, method, Downsample(scale=2))
    first = done(dock, qtbot)
    cells = dock.viewer.layers["cells"]
    assert first.data.shape == (48, 40)
    np.testing.assert_allclose(first.data_to_world((0.5, 0.5)), cells.data_to_world((0, 0)), atol=1e-9)
    assert first.contrast_limits == cells.contrast_limits
    assert len(dock.run.history) == method.iterations
    assert "of the noise's variance" in said(dock)
    dock.result.slider.setValue(1)
    dock.result.keep.click()
    kept = dock.viewer.layers[-1]
    assert kept.metadata[KEY]["recipe"]["method"]["iteration"] == 1

    dock.method.combo.setCurrentIndex(dock.method.combo.findData("romano2017"))
    dock.load_layer(kept)
    np.testing.assert_array_equal(done(dock, qtbot).data, kept.data)
    recipe = Recipe.from_plain(kept.metadata[KEY])
    assert recipe.method == method.replace(iteration=1, snapshots=recipe.method.snapshots)


def test_it_removes_noise_that_it_found_itself(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer, truth = make_napari_viewer(), np.kron([[0.2, 0.8], [0.6, 0.4]], np.ones((24, 24))).astype(np.float32)
    viewer.add_image(noisy(truth), name="cells")
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: dock.formation.noise() is not None, timeout=SECONDS)
    assert dock.formation.noise().sigma == pytest.approx(NOISE, rel=0.3)
    combo = dock.method.denoiser.options.combo
    combo.setCurrentIndex(combo.findData("tv"))
    result = done(dock, qtbot)
    assert rms(result.data, truth) < 0.5 * NOISE


def rms(image: Any, truth: Any) -> float:
    return float(np.sqrt(np.mean(np.square(image - truth))))


def test_stop_pause_and_the_same_again(dock: ReconstructWidget, qtbot: Any) -> None:
    use(dock, DIP(network=SMALL, iterations=100_000))
    running = started(dock)
    qtbot.waitUntil(lambda: len(running.history) > 3, timeout=SECONDS)
    dock.bar.pause_button.click()
    qtbot.waitUntil(lambda: running.job.state == "paused", timeout=SECONDS)
    qtbot.wait(300)  # the iteration it was in
    seen = len(running.history)
    qtbot.wait(300)
    assert len(running.history) == seen
    with qtbot.waitSignal(running.finished, timeout=SECONDS) as blocker:
        dock.bar.stop_button.click()
    assert blocker.args[0].kind == "stopped"
    result = dock.viewer.layers[-1]
    assert result.name == "cells – DIP"
    dock.load_layer(result)
    np.testing.assert_array_equal(run(dock, qtbot).value.image.data, result.data)


def test_an_error_is_one_message_and_nothing_is_broken(
    dock: ReconstructWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TV, "_denoise", lambda *_: 1 / 0)
        outcome = run(dock, qtbot)
    assert outcome.kind == "failed"
    assert str(outcome.error) == said(dock)
    assert len(dock.viewer.layers) == 1
    done(dock, qtbot)


def test_a_stack_slice_by_slice_and_as_a_volume(dock: ReconstructWidget, scene: Any, qtbot: Any) -> None:
    stack = noisy(np.stack([scene(16, 18)] * 4))
    layer = dock.viewer.add_image(stack, name="stack", scale=(2, 0.5, 0.5))
    dock.layer.value = layer
    use(dock, QUICK)
    assert dock.method.spatial_row.isVisibleTo(dock)
    assert dock.source().index == {"Z": 0}
    assert done(dock, qtbot).data.shape == (1, 16, 18)

    dock.method.spatial.setCurrentIndex(dock.method.spatial.findData("ZYX"))
    assert dock.source().index == {}  # a single slice is no volume
    volume = done(dock, qtbot)
    assert volume.data.shape == stack.shape
    assert {record.block for record in dock.run.history} == {0}
    np.testing.assert_allclose(volume.data_to_world((3, 0, 0)), layer.data_to_world((3, 0, 0)), atol=1e-9)
    dock.method.spatial.setCurrentIndex(0)
    slices = done(dock, qtbot)
    assert slices.data.shape == stack.shape
    assert {record.block for record in dock.run.history} == {0, 1, 2, 3}
    assert rms(volume.data, slices.data) > 1e-3

    dock.load_layer(volume)
    assert dock.method.spatial.currentData() == "ZYX"
    np.testing.assert_array_equal(done(dock, qtbot).data, volume.data)
    dock.axes.set_axes("ZYX", {"Z": 2})
    assert dock.method.spatial.currentData() == "YX"


def test_blur_and_scale_of_a_volume_are_those_within_its_slices(
    dock: ReconstructWidget, scene: Any, qtbot: Any
) -> None:
    layer = dock.viewer.add_image(np.stack([scene(12, 14)] * 3), name="stack", scale=(2, 0.5, 0.5))
    dock.layer.value = layer
    use(dock, QUICK, Downsample(scale=2), spatial="ZYX")
    result = done(dock, qtbot)
    assert result.data.shape == (3, 24, 28)
    np.testing.assert_allclose(result.data_to_world((2, 0.5, 0.5)), layer.data_to_world((2, 0, 0)), atol=1e-9)
    dock.formation.check_button.click()
    qtbot.waitUntil(lambda: "differs from" in said(dock), timeout=SECONDS)
    dock.formation.check_button.click()
    dock.load_layer(result)  # a model of three axes now, which stays as it is
    assert dock.operator().scale == (1, 2, 2)
    np.testing.assert_array_equal(done(dock, qtbot).data, result.data)


def test_colour_channels_and_time(dock: ReconstructWidget, scene: Any, qtbot: Any) -> None:
    rgb = noisy(np.stack([scene(16, 16, seed=i) for i in range(3)], -1))
    dock.layer.value = dock.viewer.add_image(rgb, name="colour", rgb=True)
    use(dock, QUICK)
    result = done(dock, qtbot)
    assert result.rgb and result.data.shape == rgb.shape
    stack = noisy(np.stack([scene(16, 16, seed=i) for i in range(2)]))
    layer = dock.viewer.add_image(stack, name="stack")
    dock.layer.value = layer
    for axes, settings in (("CYX", {"channels": "each"}), ("TYX", {})):
        dock.axes.set_axes(axes, {})
        use(dock, QUICK, **settings)
        assert not dock.method.spatial_row.isVisibleTo(dock)
        result = done(dock, qtbot)
        assert result.data.shape == stack.shape
        assert np.isfinite(result.data).all()


def test_begin_with_a_layer(dock: ReconstructWidget, scene: Any, qtbot: Any) -> None:
    dock.viewer.add_image(np.stack([scene(24, 20, seed=i) for i in range(2)]), name="guess")
    dock.viewer.add_image(np.ones((3, 3)), name="other")
    dock.viewer.dims.set_point(0, 1)
    start = dock.method.start
    start.combo.setCurrentIndex(start.combo.findData("layer"))
    start.layer.value = dock.viewer.layers["guess"]
    result = done(dock, qtbot)
    recipe = Recipe.from_plain(result.metadata[KEY])
    np.testing.assert_allclose(recipe.method.start, dock.viewer.layers["guess"].data[1])
    dock.load_layer(result)
    assert start.combo.currentData() == "given"
    np.testing.assert_array_equal(done(dock, qtbot).data, result.data)
    start.combo.setCurrentIndex(start.combo.findData("layer"))
    start.layer.value = dock.viewer.layers["other"]
    assert run(dock, qtbot).kind == "failed"
    assert "start from" in said(dock)


@pytest.mark.parametrize(
    ("operator", "axes"),
    [
        (Radon(angles=30), "YX"),
        (Fourier(mask=sampling_mask((24, 24), acceleration=2, centre=0.2, rng=0), image="real"), "CYX"),
    ],
    ids=["tomography", "mixed channels"],
)
def test_no_pictures(dock: ReconstructWidget, scene: Any, qtbot: Any, operator: Any, axes: str) -> None:
    import torch

    truth = scene(24, 24)
    y = operator.A(torch.from_numpy(truth)[None, None]).numpy().squeeze()
    scale = (1, 0.5) if axes == "YX" else (1, 0.5, 0.5)
    dock.layer.value = dock.viewer.add_image(y, name="measured", scale=scale, contrast_limits=(0, 99))
    dock.axes.set_axes(axes, {})
    use(dock, QUICK.replace(iterations=8), operator)
    result = done(dock, qtbot)
    assert result.data.shape == truth.shape
    np.testing.assert_allclose(result.scale, (0.5, 0.5))
    assert result.contrast_limits[1] < 5  # not the measurement's
    assert np.corrcoef(result.data.ravel(), truth.ravel())[0, 1] > 0.8


def test_a_network_that_enlarges_is_no_denoiser(dock: ReconstructWidget, qtbot: Any, model_file: Path) -> None:
    use(dock, RED(iterations=2))
    picker = dock.method.denoiser.model
    assert picker.info is not None and (picker.info.id, picker.info.scale) == ("drunet-s", 1)
    picker.choose(str(model_file))
    qtbot.waitUntil(lambda: picker.error is not None, timeout=SECONDS)
    dock.bar.run_button.click()
    assert "enlarges ×2" in said(dock)
    assert dock.run is None
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("dip"))  # which takes no network
    assert dock.request().recipe.model is None


def test_the_dock_that_made_a_result_takes_its_settings(dock: ReconstructWidget, qtbot: Any, npe2pm: Any) -> None:
    from npe2 import PluginManifest

    from napari_fidelity.widgets.correct import CorrectWidget

    npe2pm.register(PluginManifest.from_distribution("napari-fidelity"))
    result = done(dock, qtbot)
    correct = CorrectWidget(dock.viewer)
    dock.viewer.window.add_dock_widget(correct, name="Correct")
    correct.load_layer(result)
    opened = dock.viewer.window.dock_widgets["Reconstruct (napari-fidelity)"]
    assert type(opened) is ReconstructWidget
    assert opened.request().recipe.method == dock.request().recipe.method
    assert opened.run is None
    dock.result.compare.click()
    compare = dock.viewer.window.dock_widgets["Compare (napari-fidelity)"]
    assert compare.measurement.value is dock.viewer.layers["cells"]


def test_without_a_layer_it_says_what_to_do(make_napari_viewer: Callable[..., Any]) -> None:
    dock = add_dock(make_napari_viewer())
    dock.bar.run_button.click()
    assert "no image layer to reconstruct" in said(dock)
