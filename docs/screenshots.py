"""Make the screenshots of the README from real runs: ``python docs/screenshots.py [folder]``.

Needs a screen, a virtual one will do:
``LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a -s "-screen 0 1600x1200x24" python docs/screenshots.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtCore import QEventLoop, QTimer

SAMPLE = "portrait"
SIZE = (1400, 900)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    get_settings().appearance.theme = "dark"
    correct_and_compare(folder)
    reconstruct(folder)
    uncertainty(folder)


def correct_and_compare(folder: Path) -> None:
    viewer = opened()
    _, correct = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
    wait(3000)
    correct.start()
    until(correct.run.finished)
    viewer.reset_view()
    save(viewer, folder / "correct.png")
    correct.compare()
    compare = viewer.window.dock_widgets["Compare (napari-fidelity)"]
    compare.start()
    while compare.bar.running:
        wait(200)
    compare.arrange.split_button.click()
    wait(1500)
    save(viewer, folder / "compare.png")
    viewer.close()


def reconstruct(folder: Path) -> None:
    viewer = opened()
    _, dock = viewer.window.add_plugin_dock_widget("napari-fidelity", "Reconstruct")
    wait(3000)
    dock.start()
    until(dock.run.finished)
    viewer.reset_view()
    save(viewer, folder / "reconstruct.png")
    viewer.close()


def uncertainty(folder: Path) -> None:
    viewer = opened()
    _, correct = viewer.window.add_plugin_dock_widget("napari-fidelity", "Correct")
    wait(3000)
    correct.start()
    until(correct.run.finished)
    _, dock = viewer.window.add_plugin_dock_widget("napari-fidelity", "Uncertainty", tabify=True)
    dock.map.combo.setCurrentIndex(dock.map.combo.findData("dropout"))
    dock.start()
    until(dock.run.finished)
    dock.view.over.click()
    dock.regions.make_labels()
    wait(1500)
    viewer.reset_view()
    save(viewer, folder / "uncertainty.png")
    viewer.close()


def opened() -> napari.Viewer:
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-fidelity", SAMPLE)
    return viewer


def save(viewer: napari.Viewer, path: Path) -> None:
    wait(800)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def until(signal: Any) -> None:
    loop = QEventLoop()
    signal.connect(lambda *_: QTimer.singleShot(600, loop.quit))
    loop.exec()


def wait(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main()
