"""The examples run as they stand, as scripts and as files that a command imports."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_fidelity as nf
from napari_fidelity.cli import main

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

pytestmark = pytest.mark.usefixtures("nothing_registered")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    nf.write_image(np.random.default_rng(0).integers(0, 255, (16, 20), dtype=np.uint8), "in.tif")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_scripts(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    before, after = (
        float(number) for number in re.findall(r"([\d.]+) dB from the truth", capsys.readouterr().out)
    )
    assert after > before + 0.3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_command_lines(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^    napari-fidelity (.*)$", path.read_text(encoding="utf-8"), re.M)
    assert lines
    for line in lines:
        words = line.replace("lowres.tif", "in.tif").replace(f"examples/{path.name}", str(path)).split()
        assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out
