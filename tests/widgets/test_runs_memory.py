"""Fifty runs one after the other, some stopped, some failing, leave nothing behind."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

from napari_fidelity.widgets._run_bar import RunBar
from napari_fidelity.widgets._worker import Job, News

if TYPE_CHECKING:
    from collections.abc import Generator

RUNS = 50
WARM = 5  # runs after which memory must not grow any more
STEPS = 12
SIDE = 1024  # pixels: 4 MB a tensor


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def work(number: int) -> Generator[News, str | None, Any]:
    """Hold a network and images as a correction does, yield images, and end in one of three ways."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.Conv2d(16, 1, 3, padding=1))
    optimiser = torch.optim.Adam(network.parameters())
    measurement = np.full((SIDE, SIDE), number, np.float32)
    image = torch.from_numpy(measurement.copy())[None, None]
    patch = image[..., :64, :64]
    for i in range(STEPS):
        optimiser.zero_grad()
        loss = (network(patch) - patch).square().mean()
        loss.backward()
        optimiser.step()
        image = image + network(image[..., :64, :64]).detach().mean()
        reason = yield News(
            "image", make=lambda image=image: image.numpy().copy(), done=i, total=STEPS, text=f"Iteration {i}"
        )
        if reason:
            break
        time.sleep(0.005)
        if number % 3 == 2 and i == 3:
            torch.nn.functional.conv2d(image, torch.zeros(1, 3, 3, 3))  # a shape error, as a real RuntimeError
    return image, measurement


def tensors() -> int:
    found = 0
    for thing in gc.get_objects():
        try:
            found += isinstance(thing, torch.Tensor)
        except ReferenceError:  # a weak proxy whose object is gone
            continue
    return found


def test_fifty_runs(qtbot: Any, make_napari_viewer: Any, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("napari.utils.notifications.show_error", lambda _: None)
    viewer = make_napari_viewer()
    bar = RunBar()
    viewer.window.add_dock_widget(bar)
    layer = viewer.add_image(np.zeros((SIDE, SIDE), np.float32))
    kinds: list[str] = []

    def show(news: News) -> None:
        layer.data = news.value

    def note(outcome: Any) -> None:
        kinds.append(outcome.kind)

    memory: list[int] = []
    before = tensors()
    for number in range(RUNS):
        job = Job(lambda number=number: work(number), name=f"Run {number}", rate=20)
        job.changed.connect(show)
        job.ended.connect(note)
        bar.follow(job)
        job.start()
        if number % 3 == 1:
            qtbot.wait(50)
            bar.stop_button.click()
        del job
        qtbot.waitUntil(lambda: not bar.running, timeout=10000)
        qtbot.wait(10)
        if number + 1 in (WARM, RUNS):
            assert tensors() == before  # without the garbage collector's help
            memory.append(resident())
    assert kinds == [("done", "stopped", "failed")[number % 3] for number in range(RUNS)]
    print(f"resident after {WARM}: {memory[0] / 1e6:.0f} MB, after {RUNS}: {memory[1] / 1e6:.0f} MB")
    assert memory[1] < 1.05 * memory[0]
