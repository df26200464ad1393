"""How quick the docks are: ``python benchmarks/docks.py --help``.

Needs a screen, a virtual one will do: ``LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a python benchmarks/docks.py``.

Measured, each several times: the import of every dock module in a process that has napari's own libraries
already; opening each dock; the longest time the GUI thread was blocked during a correction with default settings
on a sample (the largest gap between the ticks of a timer that fires every 5 ms).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop, QTimer

IMPORT = """
import time
import napari, napari.layers, napari.viewer, numpy, pydantic, magicgui.widgets, superqt, qtpy.QtWidgets
start = time.perf_counter()
import napari_fidelity.widgets.correct, napari_fidelity.widgets.compare
seconds = time.perf_counter() - start
import sys
assert "torch" not in sys.modules
print(seconds)
"""
DOCKS = ("Correct", "Compare")


def main() -> None:
    parser = argparse.ArgumentParser(description="How quick the docks are.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sample", default="portrait")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = {"import_seconds": [imported() for _ in range(args.runs)], "open_seconds": {}, "gap_seconds": []}
    viewer = napari.Viewer()
    viewer.open_sample("napari-fidelity", args.sample)
    for name in DOCKS:
        found["open_seconds"][name] = [opened(viewer, name) for _ in range(args.runs)]
    for _ in range(args.runs):
        gap, seconds = corrected(viewer)
        found["gap_seconds"].append(gap)
        found.setdefault("run_seconds", []).append(seconds)
    viewer.close()
    report(found)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def imported() -> float:
    """Seconds to import all dock modules."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def opened(viewer: napari.Viewer, name: str) -> float:
    """Seconds until a dock is there and drawn."""
    start = time.perf_counter()
    dock, _ = viewer.window.add_plugin_dock_widget("napari-fidelity", name)
    napari.Viewer.instances  # noqa: B018 - the viewer is alive
    wait(0)
    seconds = time.perf_counter() - start
    wait(1500)  # what a dock loads in the background is not to disturb the next one
    viewer.window.remove_dock_widget(dock)
    wait(100)
    return seconds


def corrected(viewer: napari.Viewer) -> tuple[float, float]:
    """Run a correction; return the longest gap between two ticks, and the seconds of the run."""
    dock, widget = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
    wait(2500)
    ticks: list[float] = []
    timer = QTimer()
    timer.setInterval(5)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    loop = QEventLoop()
    start = time.perf_counter()
    widget.start()
    widget.run.finished.connect(lambda _: QTimer.singleShot(500, loop.quit))
    loop.exec()
    timer.stop()
    seconds = time.perf_counter() - start
    viewer.window.remove_dock_widget(dock)
    return max(b - a for a, b in pairwise(ticks)), seconds


def wait(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def report(found: dict) -> None:
    rows = [("import of the dock modules", found["import_seconds"])]
    rows += [(f"opening {name}", seconds) for name, seconds in found["open_seconds"].items()]
    rows += [("longest block of the GUI thread during a run", found["gap_seconds"]), ("run", found["run_seconds"])]
    for what, seconds in rows:
        print(f"{what}: median {statistics.median(seconds):.3f} s, largest {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
