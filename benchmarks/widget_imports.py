"""Time that importing the docks' modules adds to what napari has loaded: ``python benchmarks/widget_imports.py``.

Each module is imported in processes of its own, after napari, Qt, magicgui, superqt, numpy and pydantic; the table
has the fastest of five. Importing them loads no torch: that is a test (``tests/packaging``), the time is not.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from _common import markdown, parse, publish, verdicts

import napari_fidelity.widgets

LOADED = "import napari, qtpy.QtWidgets, magicgui.widgets, superqt, numpy, pydantic"
TIMED = """
import time
started = time.process_time()
import {modules}
print(time.process_time() - started)
"""
REPEATS = 5
LIMIT = 0.15  # seconds


def main() -> None:
    args = parse(__doc__)
    package = napari_fidelity.widgets
    names = [module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    seconds = {name: fastest(name) for name in names}
    everything = fastest(", ".join(names))
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:10]
    rows = [[name.rpartition(".")[2], f"{1000 * time:.0f}"] for name, time in slowest]
    table = markdown(["module", "ms"], [["all together", f"{1000 * everything:.0f}"], *rows])
    check = verdicts([(f"every module, and all together, in less than {LIMIT} s", everything < LIMIT)])
    text = f"The ten slowest of {len(names)}; processor time, fastest of {REPEATS}."
    publish(args.out / "widget_imports.md", "Importing the docks", [text, table, check])
    raise SystemExit(everything >= LIMIT)


def fastest(modules: str) -> float:
    command = [sys.executable, "-c", LOADED + TIMED.format(modules=modules)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(REPEATS)]
    return min(float(run.stdout) for run in runs)


if __name__ == "__main__":
    main()
