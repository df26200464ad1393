"""The command ``estimate-psf``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fidelity.cli import main
from napari_fidelity.cli.estimate_psf import sharpest_plane
from napari_fidelity.core.arrays import Image
from napari_fidelity.io import read_image, write_image

if TYPE_CHECKING:
    from pathlib import Path

SIGMA = 1.5


@pytest.fixture(scope="module")
def beads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of two planes, the second one in focus, with pixels of 65 nm."""
    scene = np.zeros((2, 96, 96))
    scene[:, 12:90:18, 12:90:18] = 1
    planes = np.stack([gaussian_filter(plane, sigma) for plane, sigma in zip(scene, (4, SIGMA), strict=True)])
    planes = 1000 * planes / planes.max() + 4 * np.random.default_rng(0).standard_normal(planes.shape)
    path: Path = tmp_path_factory.mktemp("beads") / "beads.tif"
    size = {"Z": 0.2, "Y": 0.065, "X": 0.065}
    write_image(Image(planes.astype(np.float32), "ZYX", pixel_size=size, unit="µm"), path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["estimate-psf", *map(str, words)])
    return code, capsys.readouterr().out


def test_width_operator_and_noise_are_printed(beads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, beads)
    assert code == 0
    assert "Sharpest plane: Z = 1." in said and "spots" in said
    assert "nm" in said and "--operator 'gaussian_blur:sigma=1." in said and "--noise gaussian:sigma=" in said


def test_the_kernel_is_written_on_the_fine_grid_and_named(
    beads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "psf.tif"
    code, said = run(capsys, beads, target, "--scale", 2, "--kind", "free", "--json")
    found: Any = json.loads(said)
    assert code == 0 and found["operator"] == f"blur:kernel={target} + downsample:scale=2"
    kernel = read_image(target)
    assert kernel.data.sum() == pytest.approx(1, rel=1e-4) and kernel.data.dtype == np.float32
    assert kernel.pixel_size["X"] == pytest.approx(0.0325, rel=1e-3)
    assert main(["estimate-psf", str(beads), str(target)]) == 1  # it exists


def test_numbers_as_json(beads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, beads, "--json")
    found: Any = json.loads(said)
    assert code == 0 and found["plane"] == {"Z": 1} and found["source"] == "spots"
    assert found["fwhm_nm"] == pytest.approx([65 * 2.355 * SIGMA] * 2, rel=0.05)
    assert found["noise"]["gaussian"] == pytest.approx(4, rel=0.2)


def test_an_aperture_from_the_file_s_pixel_size(beads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, beads, "--kind", "airy", "--wavelength", 520, "--json")
    found: Any = json.loads(said)
    assert code == 0 and found["operator"].startswith("airy_blur:wavelength=520")
    assert found["parameters"]["numerical_aperture"] == pytest.approx(0.21 * 520 / (SIGMA * 65), rel=0.1)


def test_a_flat_image_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flat.tif"
    write_image(np.ones((64, 64), np.uint8), path)
    assert main(["estimate-psf", str(path)]) == 1
    assert "flat" in capsys.readouterr().err


def test_the_sharpest_plane_may_be_anywhere() -> None:
    rng = np.random.default_rng(0)
    data = np.stack([[np.zeros((16, 16)), np.ones((16, 16))], [rng.random((16, 16)), np.zeros((16, 16))]])
    plane, where = sharpest_plane(Image(data, "TZYX"))
    assert where == {"T": 1, "Z": 0} and np.array_equal(plane, data[1, 0])
    colour, where = sharpest_plane(Image(rng.random((8, 9, 3)), "YXS"))
    assert colour.shape == (8, 9, 3) and where == {}
