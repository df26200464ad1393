"""The Correct dock as a user meets it, in a real viewer."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.core.errors import FidelityError, MemoryNeededError
from napari_fidelity.widgets._reproduce import measurement_of
from napari_fidelity.widgets.correct import CorrectWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "napari-fidelity"
SECONDS = 60_000


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], model_file: Path, scene: Any, qtbot: Any) -> CorrectWidget:
    """The dock over a small gray measurement of ×2, with a network that takes no time."""
    viewer = make_napari_viewer()
    viewer.add_image(scene(24, 20), name="cells", scale=(0.5, 0.5), contrast_limits=(0.1, 0.8))
    return add_dock(viewer, model_file, qtbot)


def add_dock(viewer: Any, model_file: Path, qtbot: Any, name: str = "Correct") -> CorrectWidget:
    widget = CorrectWidget(viewer)
    viewer.window.add_dock_widget(widget, name=name)
    widget.model.choose(str(model_file))
    qtbot.waitUntil(lambda: widget.model.info is not None, timeout=SECONDS)
    return widget


def run(dock: CorrectWidget, qtbot: Any) -> Any:
    """Run to the end and return the outcome."""
    with qtbot.waitSignal(_started(dock).finished, timeout=SECONDS) as blocker:
        pass
    return blocker.args[0]


def _started(dock: CorrectWidget) -> Any:
    dock.bar.run_button.click()
    assert dock.run is not None, said(dock)
    return dock.run


def said(dock: CorrectWidget) -> str:
    return dock.bar.message.text().replace("\u200b", "")  # which lets long words wrap


def names(dock: CorrectWidget) -> list[str]:
    return [layer.name for layer in dock.viewer.layers]


def test_output_and_corrected_image_lie_on_the_measurement(dock: CorrectWidget, qtbot: Any) -> None:
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    cells, output, corrected = dock.viewer.layers
    assert (output.name, corrected.name) == ("cells – small-x2", "cells – corrected")
    for layer in (output, corrected):
        assert layer.data.shape == (48, 40)
        assert layer.data.dtype == np.float32
        assert np.isfinite(layer.data).all()
        # pixel (0, 0) of the measurement is the mean place of the result's first two by two
        np.testing.assert_allclose(layer.data_to_world((0.5, 0.5)), cells.data_to_world((0, 0)), atol=1e-9)
        np.testing.assert_allclose(layer.data_to_world((46.5, 38.5)), cells.data_to_world((23, 19)), atol=1e-9)
        assert layer.contrast_limits == cells.contrast_limits
    assert len(dock.run.history) == len(outcome.value.history)
    np.testing.assert_array_equal(corrected.data, outcome.value.image.data)
    assert "LR-PSNR" in said(dock)
    assert not dock.bar.running


def test_iterations_can_be_looked_at_and_kept(dock: CorrectWidget, qtbot: Any) -> None:
    outcome = run(dock, qtbot)
    corrected = dock.viewer.layers[-1]
    dock.result.slider.setValue(2)
    iteration = dock.result.iteration
    np.testing.assert_array_equal(corrected.data, outcome.value.snapshots[iteration].data)
    dock.result.keep.click()
    kept = dock.viewer.layers[-1]
    assert kept.name == f"cells – corrected, iteration {iteration}"
    np.testing.assert_array_equal(kept.data, corrected.data)
    dock.result.slider.setValue(dock.result.slider.maximum())
    np.testing.assert_array_equal(corrected.data, outcome.value.image.data)
    # the kept iteration can be made again, to the bit
    dock.load_layer(kept)
    again = run(dock, qtbot)
    assert again.kind == "done", again.error


def test_a_result_can_be_made_again_to_the_bit(dock: CorrectWidget, qtbot: Any) -> None:
    run(dock, qtbot)
    first = dock.viewer.layers[-1]
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("project"))
    dock.load_layer(first)
    outcome = run(dock, qtbot)
    np.testing.assert_array_equal(outcome.value.image.data, first.data)
    assert outcome.value.provenance["recipe"] == first.metadata[KEY]["recipe"]


@pytest.mark.parametrize("pauses", [False, True])
def test_stop_keeps_the_best_so_far(dock: CorrectWidget, qtbot: Any, pauses: bool) -> None:
    endless(dock)
    started = _started(dock)
    qtbot.waitUntil(lambda: len(started.history) > 3, timeout=SECONDS)
    with qtbot.waitSignal(started.finished, timeout=SECONDS) as blocker:
        if pauses:
            dock.bar.pause_button.click()
            qtbot.waitUntil(lambda: started.job.state == "paused", timeout=SECONDS)
            qtbot.wait(400)  # the iteration it was in
            seen = len(started.history)
            qtbot.wait(300)
            assert len(started.history) == seen
        dock.bar.stop_button.click()
    outcome = blocker.args[0]
    assert outcome.kind == "stopped"
    result = dock.viewer.layers[-1]
    np.testing.assert_array_equal(result.data, outcome.value.image.data)
    assert "stopped by the user" in outcome.value.stop_reason
    # what was stopped can be made again, to the bit
    dock.load_layer(result)
    again = run(dock, qtbot)
    np.testing.assert_array_equal(again.value.image.data, result.data)


def endless(dock: CorrectWidget) -> None:
    """Let the dock's fine-tuning go on for ever."""
    from napari_fidelity.methods import FineTune
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.stopping import Budget

    dock.method.set_recipe(Recipe(method=FineTune(iterations=100_000), stop=Budget(iterations=99_999)))


def test_layers_deleted_during_a_run(dock: CorrectWidget, qtbot: Any) -> None:
    endless(dock)
    started = _started(dock)
    qtbot.waitUntil(lambda: started.live.shown, timeout=SECONDS)
    dock.viewer.layers.remove(started.live.layer)
    dock.viewer.layers.remove("cells")
    seen = len(started.history)
    qtbot.waitUntil(lambda: len(started.history) > seen + 3, timeout=SECONDS)
    with qtbot.waitSignal(started.finished, timeout=SECONDS) as blocker:
        dock.bar.stop_button.click()
    assert blocker.args[0].kind == "stopped"
    assert names(dock) == ["cells – small-x2", "cells – corrected"]  # no result is lost


def test_the_dock_closed_during_a_run_loses_nothing(dock: CorrectWidget, qtbot: Any) -> None:
    viewer = dock.viewer
    started = _started(dock)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: started.job.state == "ended", timeout=SECONDS)
    qtbot.waitUntil(lambda: "cells – corrected" in [layer.name for layer in viewer.layers], timeout=SECONDS)


def test_the_viewer_closed_during_a_run(dock: CorrectWidget, qtbot: Any) -> None:
    endless(dock)
    started = _started(dock)
    qtbot.waitUntil(lambda: len(started.history) > 2, timeout=SECONDS)
    dock.viewer.close()
    qtbot.waitUntil(lambda: started.job.state == "ended", timeout=SECONDS)


def test_two_runs_at_once_do_not_disturb_each_other(
    dock: CorrectWidget, model_file: Path, scene: Any, qtbot: Any
) -> None:
    dock.viewer.add_image(scene(20, 24, seed=1), name="nuclei")
    second = add_dock(dock.viewer, model_file, qtbot, "Second")
    second.layer.value = dock.viewer.layers["nuclei"]
    alone = [run(each, qtbot).value.image.data for each in (dock, second)]
    runs = [_started(dock), _started(second)]
    qtbot.waitUntil(lambda: all(each.job.state == "ended" for each in runs), timeout=SECONDS)
    for each, before in zip(("cells", "nuclei"), alone, strict=True):
        layers = [layer for layer in dock.viewer.layers if layer.name.startswith(f"{each} – corrected")]
        assert len(layers) == 2  # the earlier result is not overwritten
        np.testing.assert_array_equal(layers[-1].data, before)


STAGES = {
    "reading": "napari_fidelity.widgets._layers.Source.read",
    "loading": "napari_fidelity.pipeline.models.load_reference",
    "memory": "napari_fidelity.pipeline.memory_needed",
    "network": "napari_fidelity.methods.apply.Apply.steps",
    "first step": "napari_fidelity.methods.finetune.FineTune.steps",
    "output layer": "napari_fidelity.widgets._run.add_result",
}


@pytest.mark.parametrize("error", ["runtime", "memory", "cuda", "own"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_any_stage_is_one_message(
    dock: CorrectWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch, stage: str, error: str
) -> None:
    import torch

    raised = {
        "runtime": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        "memory": MemoryError(),
        "cuda": torch.OutOfMemoryError("CUDA out of memory"),
        "own": FidelityError("The sky is falling", do="Take cover"),
    }[error]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise raised

    before = len(dock.viewer.layers)
    with monkeypatch.context() as patch:
        patch.setattr(STAGES[stage], fail)
        outcome = run(dock, qtbot)
    assert outcome.kind == "failed"
    assert isinstance(outcome.error, FidelityError)
    if error in ("memory", "cuda"):
        assert isinstance(outcome.error, MemoryNeededError)
    assert str(outcome.error) == said(dock)
    assert not dock.bar.running
    assert len(dock.viewer.layers) <= before + 1
    assert run(dock, qtbot).kind == "done"  # and nothing is broken


def test_an_error_on_the_way_keeps_the_last_image(
    dock: CorrectWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fidelity.methods import _finetuning

    steps = _finetuning.Run.steps

    def failing(self: Any) -> Any:
        inner = steps(self)
        for _ in range(4):
            yield next(inner)
        raise RuntimeError("cuDNN error")

    monkeypatch.setattr(_finetuning.Run, "steps", failing)
    outcome = run(dock, qtbot)
    assert outcome.kind == "failed"
    assert names(dock)[-1] == "cells – corrected (unfinished)"
    assert np.isfinite(dock.viewer.layers[-1].data).all()


def test_a_missing_model_file_is_named(dock: CorrectWidget, qtbot: Any, tmp_path: Path) -> None:
    dock.model.choose(str(tmp_path / "gone.safetensors"))
    qtbot.waitUntil(lambda: dock.model.error is not None, timeout=SECONDS)
    dock.bar.run_button.click()
    assert "gone.safetensors" in said(dock)
    assert not dock.bar.running


def test_a_model_file_deleted_after_it_was_chosen(
    dock: CorrectWidget, qtbot: Any, tmp_path: Path, model_file: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model_file.read_bytes())
    dock.model.choose(str(copy))
    qtbot.waitUntil(lambda: dock.model.info is not None, timeout=SECONDS)
    copy.unlink()
    outcome = run(dock, qtbot)
    assert outcome.kind == "failed"
    assert "copy.safetensors" in said(dock)


@pytest.mark.parametrize("axes", ["TYX", "ZYX"])
def test_stacks_are_corrected_slice_by_slice(dock: CorrectWidget, scene: Any, qtbot: Any, axes: str) -> None:
    stack = np.stack([scene(16, 16, seed=i) for i in range(3)])
    labels = tuple(axes.lower())
    layer = dock.viewer.add_image(stack, name="stack", scale=(2, 0.5, 0.5), axis_labels=labels)
    dock.layer.value = layer
    dock.axes.set_axes(axes, {})
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    result = dock.viewer.layers[-1]
    assert result.data.shape == (3, 32, 32)
    assert result.axis_labels == labels
    np.testing.assert_allclose(result.data_to_world((2, 0.5, 0.5)), layer.data_to_world((2, 0, 0)), atol=1e-9)


def test_the_current_slice_alone(dock: CorrectWidget, scene: Any, qtbot: Any) -> None:
    stack = np.stack([scene(16, 16, seed=i) for i in range(3)])
    layer = dock.viewer.add_image(stack, name="stack", scale=(2, 0.5, 0.5))
    dock.layer.value = layer
    dock.axes.set_axes("ZYX", {"Z": 0})
    dock.viewer.dims.set_point(0, 2.0)
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    result = dock.viewer.layers[-1]
    assert result.data.shape == (1, 32, 32)
    np.testing.assert_allclose(result.data_to_world((0, 0.5, 0.5)), layer.data_to_world((1, 0, 0)), atol=1e-9)
    assert result.metadata[KEY]["source"]["index"] == {"Z": 1}


def test_rgb_multiscale_and_named_errors(dock: CorrectWidget, scene: Any, qtbot: Any) -> None:
    rgb = np.stack([scene(32, 32, seed=i) for i in range(3)], -1)
    dock.layer.value = dock.viewer.add_image([rgb, rgb[::2, ::2]], name="colour", multiscale=True, rgb=True)
    outcome = run(dock, qtbot)
    assert outcome.kind == "done", outcome.error
    assert dock.viewer.layers[-1].data.shape == (64, 64, 3)
    assert dock.viewer.layers[-1].rgb
    dock.layer.value = dock.viewer.add_image(np.full((16, 16), np.nan, np.float32), name="empty")
    assert run(dock, qtbot).kind == "failed"
    assert "NaN" in said(dock)


def test_without_a_layer_it_says_what_to_do(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    dock = CorrectWidget(viewer)
    viewer.window.add_dock_widget(dock)
    dock.bar.run_button.click()
    assert "sample" in said(dock)


def test_nothing_of_a_run_stays_alive(dock: CorrectWidget, qtbot: Any) -> None:
    before = {id(item) for item in tensors()}
    run(dock, qtbot)
    dock.result.clear()
    dock.run = None
    assert not [item for item in tensors() if id(item) not in before]


def tensors() -> list[Any]:
    import torch

    gc.collect()
    return [item for item in gc.get_objects() if isinstance(item, torch.Tensor) and item.numel() >= 9]


def test_a_stack_that_was_stopped_can_be_made_again(dock: CorrectWidget, scene: Any, qtbot: Any) -> None:
    stack = np.stack([scene(16, 16, seed=i) for i in range(3)])
    dock.layer.value = dock.viewer.add_image(stack, name="stack")
    dock.axes.set_axes("ZYX", {})
    started = _started(dock)
    qtbot.waitUntil(lambda: any(record.block == 1 for record in started.history), timeout=SECONDS)
    with qtbot.waitSignal(started.finished, timeout=SECONDS):
        dock.bar.stop_button.click()
    first = dock.viewer.layers[-1]
    assert np.isnan(first.data[2]).all()  # not reached
    dock.load_layer(first)
    again = run(dock, qtbot)
    np.testing.assert_array_equal(again.value.image.data, first.data)
    # with anything changed it is another run, and goes to its end
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("project"))
    assert np.isfinite(run(dock, qtbot).value.image.data).all()


def test_a_model_file_that_has_changed_since_is_named(
    dock: CorrectWidget, qtbot: Any, tmp_path: Path, model_file: Path, network: Any
) -> None:
    from napari_fidelity.io import save_model

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model_file.read_bytes())
    dock.model.choose(str(copy))
    qtbot.waitUntil(lambda: dock.model.info is not None, timeout=SECONDS)
    run(dock, qtbot)
    save_model(network(n_feats=9), copy, overwrite=True)
    dock.load_layer(dock.viewer.layers[-1])
    assert run(dock, qtbot).kind == "failed"
    assert "not the one the recipe was made with" in said(dock)


def test_an_error_is_said_once(dock: CorrectWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    dock.layer.value = dock.viewer.add_image(np.full((16, 16), np.nan, np.float32), name="empty")
    assert run(dock, qtbot).kind == "failed"
    assert len(shown) == 1
    monkeypatch.setattr("napari_fidelity.widgets._live.add_result", lambda *_, **__: 1 / 0)
    dock.layer.value = dock.viewer.layers["cells"]
    outcome = run(dock, qtbot)
    assert (outcome.kind, len(shown)) == ("failed", 2)
    assert outcome.value is not None  # which the caller can still have


def test_a_check_waits_for_the_run(dock: CorrectWidget, qtbot: Any) -> None:
    endless(dock)
    started = _started(dock)
    assert not dock.formation.check_button.isEnabled()
    qtbot.waitUntil(lambda: len(started.history) > 1, timeout=SECONDS)
    with qtbot.waitSignal(started.finished, timeout=SECONDS):
        dock.bar.stop_button.click()
    assert dock.formation.check_button.isEnabled()
    assert dock.reproduce.copy.isEnabled()  # the result is selected
    dock.formation.check_button.click()
    qtbot.waitUntil(lambda: "differs from" in said(dock), timeout=SECONDS)
    assert names(dock)[-1] == "A(cells – corrected)"
    dock.formation.check_button.click()
    assert names(dock)[-1] == "cells – corrected"


def test_an_image_that_cannot_be_shown_is_not_lost(
    dock: CorrectWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fidelity.widgets import _restoration

    class Unshowable:
        def __init__(self, *_: Any) -> None:
            raise MemoryError

    monkeypatch.setattr(_restoration, "Shown", Unshowable)
    outcome = run(dock, qtbot)
    assert outcome.kind == "failed"
    np.testing.assert_array_equal(dock.viewer.layers["cells – corrected"].data, outcome.value.image.data)


def test_layers_that_are_gone_are_let_go(dock: CorrectWidget, qtbot: Any) -> None:
    run(dock, qtbot)
    dock.viewer.layers.clear()
    assert dock.run is None
    assert not dock.result.isVisibleTo(dock)


def test_the_networks_own_output_can_be_made_again(dock: CorrectWidget, qtbot: Any) -> None:
    run(dock, qtbot)
    output = dock.viewer.layers["cells – small-x2"]
    dock.load_layer(output)
    assert dock.method.combo.currentData() == "apply"
    again = run(dock, qtbot)
    np.testing.assert_array_equal(again.value.image.data, output.data)


def test_another_layer_of_the_same_name_is_not_the_measurement(
    dock: CorrectWidget, scene: Any, qtbot: Any
) -> None:
    run(dock, qtbot)
    result = dock.viewer.layers[-1]
    measured = dock.viewer.layers["cells"]
    measured.name = "renamed"
    dock.viewer.add_image(scene(24, 20, seed=5), name="cells")
    assert measurement_of(dock.viewer, result) is measured


def test_a_dock_closed_while_a_model_is_read(dock: CorrectWidget, qtbot: Any, model_file: Path) -> None:
    dock.model.choose(str(model_file))
    dock.viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.wait(1500)  # an answer that comes now must not reach a deleted label
