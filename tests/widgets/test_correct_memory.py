"""Fifty corrections one after the other leave nothing behind."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.methods import FineTune
from napari_fidelity.pipeline import Recipe
from napari_fidelity.widgets.correct import CorrectWidget

if TYPE_CHECKING:
    from collections.abc import Callable

STATM = Path("/proc/self/statm")
RUNS, SETTLED = 50, 5
SHORT, LONG = FineTune(iterations=1, views=1), FineTune(iterations=100_000, views=1, average=False)


@pytest.mark.skipif(not STATM.exists(), reason="the resident memory is read as Linux tells it")
def test_fifty_corrections_a_third_stopped_a_third_failing(
    make_napari_viewer: Callable[..., Any],
    model_file: Path,
    scene: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.tile(scene(16, 16), (2, 2)), name="cells")
    dock = CorrectWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Correct")
    dock.model.choose(str(model_file))
    qtbot.waitUntil(lambda: dock.model.info is not None, timeout=60_000)
    before = tensors()  # other tests may hold some
    resident = []
    for number in range(RUNS):
        outcome = one_run(dock, number, qtbot, monkeypatch)
        assert outcome.kind == ("done", "stopped", "failed")[number % 3], outcome.error
        for layer in list(viewer.layers)[1:]:
            viewer.layers.remove(layer)
        dock.result.clear()
        dock.run = None
        gc.collect()
        resident.append(resident_bytes())
    assert resident[-1] < 1.05 * resident[SETTLED - 1], resident
    known = {id(item) for item in before}
    assert not [item for item in tensors() if id(item) not in known]


def one_run(dock: CorrectWidget, number: int, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from napari_fidelity.methods import _finetuning

    dock.method.set_recipe(Recipe(method=LONG if number % 3 == 1 else SHORT))
    with monkeypatch.context() as patch:
        if number % 3 == 2:
            patch.setattr(_finetuning.Run, "_scores", failing_later(_finetuning.Run._scores))
        dock.start()
        assert dock.run is not None, dock.bar.message.text()
        with qtbot.waitSignal(dock.run.finished, timeout=60_000) as blocker:
            if number % 3 == 1:
                qtbot.waitUntil(lambda: len(dock.run.history) > 1, timeout=60_000)
                dock.bar.stop_button.click()
    return blocker.args[0]


def failing_later(scores: Any) -> Any:
    """Let the second step run out of memory."""
    seen = []

    def method(self: Any, image: Any) -> Any:
        import torch

        seen.append(1)
        if len(seen) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return scores(self, image)

    return method


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * 4096


def tensors() -> list[Any]:
    import torch

    return [item for item in gc.get_objects() if isinstance(item, torch.Tensor) and item.numel() >= 32 * 32]
