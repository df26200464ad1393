"""How quick the docks are: ``python benchmarks/docks.py``.

Needs a screen, a virtual one will do: ``LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a python benchmarks/docks.py``.

Measured by the wall clock, each several times: the opening of each dock; the longest time the window was blocked
(the largest gap between two ticks of a timer that fires every 5 ms) while a sample is corrected with default
settings, and, to compare with, while napari alone adds a layer of that size with nothing else going on.
"""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import napari
import numpy as np
from _common import markdown, parse, publish, verdicts
from qtpy.QtCore import QEventLoop, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = "portrait"
RUNS = 3
IDLE = 2500  # milliseconds after which a dock has loaded what it loads in the background


def main() -> None:
    args = parse(__doc__)
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    viewer.open_sample("napari-fidelity", SAMPLE)
    wait(IDLE)
    rows, opening = [], {}
    for name in ("Correct", "Compare"):
        opening[name] = [opened(viewer, name) for _ in range(RUNS)]
        rows.append((f"opening {name}", opening[name]))
    alone = []
    for _ in range(RUNS):
        alone.append(max(gaps(layer_added(viewer))))
        tidy(viewer)
    rows.append(("longest block while napari adds a layer, nothing else going on", alone))
    blocks = corrections(viewer)
    rows.append(("longest block during a run, layers added included", [max(gaps) for gaps in blocks]))
    rows.append(("third longest block during a run (two layers are added)", [sorted(gaps)[-3] for gaps in blocks]))
    viewer.close()
    table = markdown(
        ["what", "median", "largest"],
        [[what, f"{1000 * statistics.median(s):.0f} ms", f"{1000 * max(s):.0f} ms"] for what, s in rows],
    )
    checks = [(f"{name} opens in less than 0.5 s", statistics.median(s) < 0.5) for name, s in opening.items()]
    checks += [
        ("median of the longest block during a run below 100 ms", statistics.median(rows[-2][1]) < 0.1),
        ("the same beside the layers that napari adds", statistics.median(rows[-1][1]) < 0.1),
    ]
    publish(
        args.out / "docks.md",
        "The docks",
        [f"Each {RUNS} times, sample '{SAMPLE}'; milliseconds by the wall clock.", table, verdicts(checks)],
    )


def opened(viewer: napari.Viewer, name: str) -> float:
    """Seconds until a dock is there and drawn."""
    start = time.perf_counter()
    dock, _ = viewer.window.add_plugin_dock_widget("napari-fidelity", name)
    wait(0)
    seconds = time.perf_counter() - start
    wait(IDLE)
    viewer.window.remove_dock_widget(dock)
    wait(200)
    return seconds


def corrections(viewer: napari.Viewer) -> list[list[float]]:
    """Seconds between the ticks of each of several runs."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
    wait(IDLE)

    def run(loop: QEventLoop) -> None:
        widget.start()
        widget.run.finished.connect(lambda _: QTimer.singleShot(500, loop.quit))

    found = []
    for _ in range(RUNS):
        found.append(gaps(run))
        tidy(viewer)
    return found


def tidy(viewer: napari.Viewer) -> None:
    """Hide what was added: many layers take long to draw."""
    for layer in viewer.layers[2:]:
        layer.visible = False
    wait(300)


def layer_added(viewer: napari.Viewer) -> Callable[[QEventLoop], None]:
    def add(loop: QEventLoop) -> None:
        image = 255 * np.random.default_rng(0).random((256, 256, 3), np.float32)
        viewer.add_image(image, rgb=True, contrast_limits=(0, 255))
        QTimer.singleShot(1000, loop.quit)

    return add


def gaps(act: Callable[[QEventLoop], None]) -> list[float]:
    """Seconds between the ticks of a timer while something goes on, until it quits the loop."""
    ticks: list[float] = []
    loop, timer = QEventLoop(), QTimer()
    timer.setInterval(5)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    QTimer.singleShot(100, lambda: act(loop))
    loop.exec()
    timer.stop()
    return [b - a for a, b in pairwise(ticks)]


def wait(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main()
