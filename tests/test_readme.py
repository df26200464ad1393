"""The README's commands and code blocks run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_fidelity as nf
from napari_fidelity.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[:24, :24]
    gradient = np.stack([5 * rows, 5 * columns, 3 * (rows + columns)], axis=-1)
    texture = np.random.default_rng(0).integers(0, 60, (24, 24, 3))
    nf.write_image((gradient + texture).astype(np.uint8), "lowres.tif")
    return tmp_path


def test_the_python_blocks_run_one_after_the_other(folder: Path) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    corrected = nf.read_image(folder / "corrected.tif")
    assert corrected.shape == (96, 96, 3)
    assert "napari-fidelity" in corrected.metadata


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_python_blocks_of_the_docs_run(page: Path, folder: Path) -> None:
    for block in blocks("python", page.read_text(encoding="utf-8")):
        exec(compile(block, page.name, "exec"), {})


def test_the_command_lines_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        line for block in blocks("console") for line in block.splitlines() if line.startswith("napari-fidelity ")
    ]
    assert len(lines) >= 6
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    capsys.readouterr()
    again, first = (nf.read_image(folder / name).data for name in ("again.tif", "corrected16.tif"))
    assert np.allclose(
        again.clip(0, 255), first, atol=0.5
    )  # the one is float32, the other was rounded and cut off


def test_every_option_the_readme_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("correct", "reconstruct", "uncertainty"):
        main([command, "--help"])
    text = capsys.readouterr().out
    for option in set(re.findall(r"`(--[a-z-]+)", README)) - {"--operator"}:
        assert option in text, option
