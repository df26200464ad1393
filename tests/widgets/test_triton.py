"""The first optimiser of a session must not end napari."""

from __future__ import annotations

import subprocess
import sys

from napari_fidelity.widgets import _triton

SCRIPT = """
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_fidelity.widgets._worker import Job, News

viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros((8, 8)))

def work():
    import torch
    yield News("note")
    network = torch.nn.Conv2d(1, 1, 3)
    torch.optim.Adam(network.parameters())  # imports triton where it can
    return "alive"

job = Job(work, name="Making an optimiser")
job.ended.connect(lambda outcome: print(outcome.value, outcome.error, flush=True))
job.start()
while job.state != "ended":
    QApplication.processEvents()
viewer.close()
"""


def test_an_optimiser_made_while_mesa_draws_does_not_crash_napari() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "alive None" in done.stdout


def test_triton_is_kept_out_only_where_it_would_crash(monkeypatch, tmp_path) -> None:
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp /usr/lib/libGL.so.1\n")
    monkeypatch.setattr(_triton, "_MAPS", maps)
    monkeypatch.setattr(sys, "platform", "linux")
    _triton.keep_triton_out()
    assert "triton" not in sys.modules
    maps.write_text("7f00-7f01 r-xp /usr/lib/libLLVM-15.so.1\n")
    monkeypatch.setattr(sys, "platform", "darwin")
    _triton.keep_triton_out()
    assert "triton" not in sys.modules
    monkeypatch.setattr(sys, "platform", "linux")
    _triton.keep_triton_out()
    assert sys.modules["triton"] is None
    del sys.modules["triton"]
    monkeypatch.setattr(_triton, "_MAPS", tmp_path / "none")
    _triton.keep_triton_out()
    assert "triton" not in sys.modules
