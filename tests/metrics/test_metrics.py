from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_fidelity.core.errors import ModelFileError, NonFiniteError, OptionError, ShapeError
from napari_fidelity.core.step import Record
from napari_fidelity.metrics import (
    Row,
    compare,
    data_range_of,
    lpips,
    lpips_available,
    lr_psnr,
    noise_left,
    psnr,
    psnr_per_channel,
    residual,
    residual_image,
    rgb_to_y,
    ssim,
    to_csv,
)

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
RGB = RNG.random((24, 30, 3))
NOISY = RGB + RNG.normal(0, 0.05, RGB.shape)


class Halved:
    """Leaves out every other pixel and halves the rest."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, ::2, ::2] / 2


def test_psnr_is_what_the_formula_says():
    assert psnr([[0, 0]], [[0, 255]], data_range=255) == pytest.approx(20 * math.log10(math.sqrt(2)))
    assert psnr(np.full((4, 4), 0.6), np.full((4, 4), 0.5), data_range=1) == pytest.approx(20)
    expected = peak_signal_noise_ratio(RGB, NOISY, data_range=1)
    assert psnr(NOISY, RGB, data_range=1) == pytest.approx(expected)


def test_psnr_of_equal_images_is_infinite():
    assert psnr(RGB, RGB, data_range=1) == math.inf


def test_unsigned_integers_do_not_wrap_around():
    assert psnr(np.array([[0]], np.uint8), np.array([[255]], np.uint8), data_range=255) == 0


@settings(deadline=None)
@given(st.floats(1e-3, 1e5))
def test_psnr_does_not_depend_on_the_units(factor: float):
    expected = psnr(NOISY, RGB, data_range=1, channels="y")
    assert psnr(NOISY * factor, RGB * factor, data_range=factor, channels="y") == pytest.approx(expected)


def test_luma_is_that_of_matlab():
    # rgb2ycbcr of the primaries, black and white on [0, 255], before rounding
    colours = 255 * np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]]])
    np.testing.assert_allclose(rgb_to_y(colours, data_range=255)[0], [81.481, 144.553, 40.966, 16, 235])
    np.testing.assert_allclose(rgb_to_y(colours / 255, data_range=1)[0, -1], 235 / 255)
    with pytest.raises(ShapeError, match=r"\(H, W, 3\)"):
        rgb_to_y(np.zeros((3, 4)), data_range=1)


def test_channels():
    y = psnr(rgb_to_y(NOISY, data_range=1), rgb_to_y(RGB, data_range=1), data_range=1)
    assert psnr(NOISY, RGB, data_range=1, channels="y") == pytest.approx(y)
    gray = [image @ [0.299, 0.587, 0.114] for image in (NOISY, RGB)]
    assert psnr(NOISY, RGB, data_range=1, channels="gray") == pytest.approx(psnr(*gray, data_range=1))
    each = psnr_per_channel(NOISY, RGB, data_range=1)
    assert each == pytest.approx([psnr(NOISY[..., i], RGB[..., i], data_range=1) for i in range(3)])
    assert psnr(NOISY, RGB, data_range=1, channels="each") == pytest.approx(np.mean(each))
    one = NOISY[..., 0], RGB[..., 0]
    for channels in ("rgb", "y", "gray", "each"):  # a gray image is its own luma
        assert psnr(*one, data_range=1, channels=channels) == pytest.approx(each[0])
    assert psnr(one[0][..., None], one[1][..., None], data_range=1, channels="y") == pytest.approx(each[0])


def test_cropping_and_rounding():
    expected = psnr(NOISY[3:-3, 3:-3], RGB[3:-3, 3:-3], data_range=1)
    assert psnr(NOISY, RGB, data_range=1, crop=3) == expected
    eight = [np.rint(np.clip(image, 0, 1) * 255) for image in (NOISY, RGB)]
    assert psnr(NOISY, RGB, data_range=1, rounded=True) == pytest.approx(psnr(*eight, data_range=255))
    assert psnr(RGB + 1e-4, np.rint(RGB * 255) / 255, data_range=1, rounded=True) > 50


@pytest.mark.parametrize(
    ("error", "message", "a", "b", "options"),
    [
        (ShapeError, r"differ in shape.*\(4, 5\) and \(5, 4\)", np.zeros((4, 5)), np.zeros((5, 4)), {}),
        (ShapeError, r"\(H, W\) or \(H, W, C\)", np.zeros(4), np.zeros(4), {}),
        (ShapeError, "leaves nothing", np.zeros((4, 5)), np.zeros((4, 5)), {"crop": 2}),
        (ShapeError, "2 channels", np.zeros((4, 5, 2)), np.zeros((4, 5, 2)), {"channels": "y"}),
        (OptionError, "channels must be", np.zeros((4, 5)), np.zeros((4, 5)), {"channels": "Y"}),
        (OptionError, "channels must be", np.zeros((4, 5, 3)), np.zeros((4, 5, 3)), {"channels": "lab"}),
        (OptionError, "crop", np.zeros((4, 5)), np.zeros((4, 5)), {"crop": -1}),
        (OptionError, "data_range", np.zeros((4, 5)), np.zeros((4, 5)), {"data_range": 0}),
        (NonFiniteError, "1 others", np.array([[np.nan, 1]]), np.ones((1, 2)), {}),
    ],
)
def test_what_cannot_be_scored_is_refused(error, message, a, b, options):
    with pytest.raises(error, match=message):
        psnr(a, b, **{"data_range": 1, **options})


def test_ssim_is_that_of_scikit_image_with_the_parameters_of_the_paper():
    how = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim(NOISY, RGB, data_range=1) == pytest.approx(
        structural_similarity(NOISY, RGB, channel_axis=-1, **how)
    )
    y = [rgb_to_y(image, data_range=1) for image in (NOISY, RGB)]
    assert ssim(NOISY, RGB, data_range=1, channels="y") == pytest.approx(structural_similarity(*y, **how))
    assert ssim(RGB, RGB, data_range=1) == pytest.approx(1)
    assert ssim(RGB[:11, :11], RGB[:11, :11], data_range=1) == pytest.approx(1)
    with pytest.raises(ShapeError, match=r"at least 11 × 11 pixels.*\(10, 30, 3\)"):
        ssim(RGB[:10], RGB[:10], data_range=1)


def test_the_residual_is_in_the_units_of_the_measurement():
    image = RNG.random((6, 7, 3)) * 1000
    measurement = image[::2, ::2] / 2 + 3
    assert residual(image, measurement, Halved()) == pytest.approx(3)
    assert lr_psnr(image, measurement, Halved(), data_range=300) == pytest.approx(40)
    assert lr_psnr(image, image[::2, ::2] / 2, Halved(), data_range=300) == math.inf
    assert residual(image[..., 0], measurement[..., 0], Halved()) == pytest.approx(3)
    with pytest.raises(ShapeError, match="differ in shape"):
        residual(image, measurement[1:], Halved())
    with pytest.raises(ShapeError, match="2 spatial axes"):
        residual(np.zeros(5), measurement, Halved())
    with pytest.raises(NonFiniteError):
        residual(image * np.nan, measurement, Halved())
    with pytest.raises(OptionError):
        lr_psnr(image, measurement, Halved(), data_range=-1)


def test_the_residual_image_is_what_is_left_of_the_measurement():
    image, measurement = np.full((6, 8, 3), 10.0), np.full((3, 4, 3), 3.0)
    left = residual_image(image, measurement, Halved())
    assert left.shape == measurement.shape
    assert np.sqrt(np.mean(left**2)) == pytest.approx(residual(image, measurement, Halved()))
    assert residual_image(image[..., 0], measurement[..., 0], Halved()) == pytest.approx(left[..., 0])


def test_the_residual_of_volumes_and_of_torch_modules():
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.tensor(2.0))

        def A(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.float32
            return self.gain * x

    volume = np.ones((3, 4, 5))
    assert residual(volume, 2 * volume + 1, Module(), spatial_dims=3) == pytest.approx(1)


def test_the_table_has_a_row_for_each_image():
    measurement = RGB[::2, ::2] / 2
    rows = compare(
        {"itself": RGB, "noisy": NOISY},
        RGB,
        data_range=1,
        channels="each",
        measurement=measurement,
        operator=Halved(),
    )
    assert [row.name for row in rows] == ["itself", "noisy"]
    assert rows[0].psnr == rows[0].lr_psnr == math.inf
    assert rows[0].ssim == pytest.approx(1)
    assert rows[1].psnr == pytest.approx(psnr(NOISY, RGB, data_range=1, channels="each"))
    assert rows[1].residual == pytest.approx(residual(NOISY, measurement, Halved()))
    assert rows[1].lr_psnr == pytest.approx(lr_psnr(NOISY, measurement, Halved(), data_range=1))
    assert math.isnan(rows[1].lpips)
    plain = json.loads(json.dumps(rows[0].to_plain(), allow_nan=False))
    assert plain["psnr"] == "infinity"
    assert "lpips" not in plain


def test_a_number_that_cannot_be_had_is_nan_with_a_note():
    (row,) = compare({"small": NOISY[:5, :5]}, RGB[:5, :5], data_range=1, perceptual=True)
    assert row.psnr > 0
    assert math.isnan(row.ssim)
    assert math.isnan(row.lpips)
    assert row.notes[0].startswith("ssim: SSIM needs at least 11")
    assert row.notes[1].startswith("lpips: LPIPS needs at least 32")
    assert row.to_plain()["notes"] == list(row.notes)
    (row,) = compare({"a": RGB}, None, data_range=1, measurement=RGB[::2, ::2] / 2, operator=Halved())
    assert math.isnan(row.psnr)
    assert row.residual == 0
    assert Row("empty").to_plain() == {"name": "empty"}
    with pytest.raises(ShapeError):
        compare({"a": RGB}, RGB[1:], data_range=1)
    with pytest.raises(OptionError, match="both"):
        compare({"a": RGB}, RGB, data_range=1, operator=Halved())


needs_lpips = pytest.mark.skipif(
    importlib.util.find_spec("lpips") is None, reason="the extra 'metrics' is missing"
)


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A file with AlexNet's layout and random weights: not LPIPS, but the same way through the code."""
    torch.manual_seed(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {f"features.{i}.weight": 0.05 * torch.randn(n, m, k, k) for i, (n, m, k) in shapes.items()}
    state |= {f"features.{i}.bias": torch.zeros(n) for i, (n, _, _) in shapes.items()}
    torch.save(state, tmp_path / "alexnet.pth")
    return tmp_path / "alexnet.pth"


@needs_lpips
@pytest.mark.filterwarnings("ignore")  # of the libraries at import
def test_lpips_with_a_backbone_from_a_file(backbone: Path, monkeypatch: pytest.MonkeyPatch):
    image, other = RNG.random((40, 48, 3)), RNG.random((40, 48, 3))
    assert lpips_available(backbone) == (True, "")
    assert lpips(image, image, backbone=backbone) == 0
    distance = lpips(image, other, backbone=backbone)
    assert distance > 0
    assert lpips(255 * image, 255 * other, data_range=255, backbone=backbone) == pytest.approx(distance, rel=1e-4)
    monkeypatch.setenv("NAPARI_FIDELITY_LPIPS_BACKBONE", str(backbone))
    assert lpips(image, other) == distance
    gray = lpips(image[..., 0], other[..., 0])
    assert gray == pytest.approx(lpips(*(np.repeat(a[..., :1], 3, axis=-1) for a in (image, other))))


@needs_lpips
@pytest.mark.filterwarnings("ignore")
def test_lpips_never_downloads_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("tried to download")

    monkeypatch.delenv("NAPARI_FIDELITY_LPIPS_BACKBONE", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", forbidden)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    available, reason = lpips_available()
    assert not available
    assert "nothing is downloaded unasked" in reason
    assert "alexnet-owt-7be5be79.pth" in reason
    with pytest.raises(ModelFileError, match="not on this machine"):
        lpips(np.zeros((40, 40)), np.zeros((40, 40)))
    (tmp_path / "wrong.pth").write_bytes(b"no weights")
    with pytest.raises(ModelFileError, match="does not hold"):
        lpips(np.zeros((40, 40)), np.zeros((40, 40)), backbone=tmp_path / "wrong.pth")


def test_a_broken_library_is_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    available, reason = lpips_available()
    assert not available
    assert "napari-fidelity[metrics]" in reason


def test_lpips_refuses_what_it_cannot_see():
    with pytest.raises(ShapeError, match="at least 32"):
        lpips(np.zeros((31, 40)), np.zeros((31, 40)))
    with pytest.raises(ShapeError, match="gray or RGB"):
        lpips(np.zeros((40, 40, 2)), np.zeros((40, 40, 2)))
    with pytest.raises(ShapeError, match="differ in shape"):
        lpips(np.zeros((40, 40)), np.zeros((41, 40)))
    with pytest.raises(NonFiniteError):
        lpips(np.full((40, 40), np.nan), np.zeros((40, 40)))
    with pytest.raises(OptionError):
        lpips(np.zeros((40, 40)), np.zeros((40, 40)), data_range=0)


def test_importing_loads_no_torch():
    code = (
        "import sys, napari_fidelity.metrics, napari_fidelity.io.images\n"
        "assert not {'torch', 'torchvision', 'lpips', 'skimage', 'qtpy', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_data_range_follows_from_the_type_or_the_values():
    assert data_range_of(np.zeros((2, 2), np.uint8)) == 255
    assert data_range_of(np.array([100, 4095], np.uint16)) == 3995
    assert data_range_of(np.array([0.2, 1.0])) == 1
    assert data_range_of(np.array([-3.0, 7.0])) == 10
    assert data_range_of(np.array([7.0, 7.0])) == 1


def test_the_table_as_text_has_every_number_and_no_notes():
    rows = [Row("a, b", psnr=30.5, notes=("why",)), Row("c", ssim=0.5)]
    lines = to_csv(rows).splitlines()
    assert lines[0] == "name,psnr,ssim,residual,lr_psnr,lpips,flicker,flicker_ratio"
    assert lines[1] == '"a, b",30.5,nan,nan,nan,nan,nan,nan'
    assert to_csv(rows, "\t").splitlines()[2] == "c\tnan\t0.5" + 5 * "\tnan"


# -- what a run left over ----------------------------------------------------------------------------------------


def test_the_noise_left_is_that_at_the_end_of_each_slice() -> None:
    ratios = [(0, 5.0), (0, 0.2), (1, 9.0), (1, 0.6)]
    history = [Record(0, 1.0, 0.0, {"discrepancy": ratio}, block) for block, ratio in ratios]
    assert noise_left(history) == "The residual has 0.40 of the noise's variance; 1 is to be expected."
    assert noise_left([]) == noise_left([Record(0, 1.0, 0.0, {"lr_psnr": 40.0})]) == ""
