"""Clean images: procedural, out of the scikit-image wheel, out of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.io import imsave

from napari_fidelity.core.errors import ImageError
from napari_fidelity.training import images, training_set, validation_images
from napari_fidelity.training.synthetic import KINDS, dead_leaves, power_law_noise

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_procedural_images(kind: str, n_channels: int) -> None:
    first, again, other = (KINDS[kind](np.random.default_rng(s), (48, 61), n_channels) for s in (0, 0, 1))
    assert first.shape == (n_channels, 48, 61)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.std() > 0.01
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dead_leaves_have_the_edges_of_natural_images() -> None:
    image = dead_leaves(np.random.default_rng(0), (128, 128), 1)[0]
    gradient = np.diff(image, axis=1).ravel()
    kurtosis = np.mean(gradient**4) / np.mean(gradient**2) ** 2
    assert kurtosis > 6  # 3 for Gaussian noise


def test_power_law_noise_has_its_spectrum() -> None:
    noise = power_law_noise(np.random.default_rng(0), (256, 256), 1.0)
    power = np.abs(np.fft.rfft2(noise)) ** 2
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    low, high = power[(f > 0.02) & (f < 0.04)].mean(), power[(f > 0.2) & (f < 0.4)].mean()
    assert np.log10(low / high) == pytest.approx(2, abs=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    for i in range(2):
        photo = dead_leaves(np.random.default_rng(i), (230, 240)).transpose(1, 2, 0)
        imsave(path / f"{i}.png", (255 * photo).astype(np.uint8), check_contrast=False)
    return path


def test_set_is_reproducible_and_weighted(folder: Path) -> None:
    first, again = (training_set(3, n_synthetic=7, synthetic_size=32, folder=folder) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.images, again.images, strict=True))
    assert len(first.images) == 2 * 2 + 7  # each photograph whole and reduced by 1.4
    assert first.weights.sum() == pytest.approx(1)
    assert first.weights[-7:].sum() == pytest.approx(0.5)
    assert all(i.dtype == np.float32 and i.shape[0] == 3 and 0 <= i.min() <= i.max() <= 1 for i in first.images)


def test_photographs_of_the_wheel_without_what_validation_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr("socket.socket.connect", refuse)
    photos = training_set(n_synthetic=0).images
    assert len(photos) > len((*images.PHOTOS, *images.PLAIN))
    for name, (held, kept) in images._HELD_OUT.items():
        seen = np.zeros(images._read_wheel(name).shape[1:], int)
        seen[held] += 1
        seen[kept] += 1
        assert seen.max() == 1
    # no row of 32 held-out pixels occurs in a photograph
    known = {row.tobytes() for photo in photos for row in _windows(photo[0])}
    assert not any(row.tobytes() in known for image in validation_images() for row in image[0, ::16, :32])


def _windows(plane: np.ndarray) -> np.ndarray:
    view = np.lib.stride_tricks.sliding_window_view(plane[::16], 32, axis=1)
    return np.ascontiguousarray(view[:, ::16].reshape(-1, 32))


def test_shrink_keeps_constants_and_means() -> None:
    assert np.allclose(images.shrink(np.full((3, 40, 33), 0.3, np.float32), 1.4), 0.3, atol=1e-6)
    image = dead_leaves(np.random.default_rng(1), (60, 60))
    small = images.shrink(image, 2.0)
    assert small.shape == (3, 30, 30)
    assert small.mean() == pytest.approx(image.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("shape", "dtype", "top"),
    [((9, 8), "u1", 255), ((9, 8, 3), "u2", 65535), ((9, 8, 4), "u1", 255), ((9, 8, 2), "u1", 255)],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_folder_of_any_kind_of_image(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, top: int, n_channels: int
) -> None:
    array = np.random.default_rng(0).integers(0, top, shape).astype(dtype)
    array[0, 0], array[0, 1] = 0, top  # the whole range, which 16-bit images are scaled by
    imsave(tmp_path / ("a.tif" if dtype == "u2" else "a.png"), array, check_contrast=False)
    (photo,) = training_set(n_channels=n_channels, n_synthetic=0, folder=tmp_path).images
    assert photo.shape == (n_channels, 9, 8)
    colour = array.reshape(9, 8, -1)[..., : 3 if array.ndim == 3 and shape[-1] > 2 else 1] / top
    expected = colour.mean(-1)[None] if n_channels == 1 else np.broadcast_to(colour, (9, 8, 3)).transpose(2, 0, 1)
    assert np.allclose(photo, expected, atol=1e-6)


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image"):
        training_set(folder=tmp_path)
    with pytest.raises(ImageError, match="no image"):
        training_set(folder=tmp_path / "missing")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        training_set(folder=tmp_path)


def test_images_too_small_for_a_patch_are_left_out(folder: Path) -> None:
    data = training_set(n_synthetic=3, synthetic_size=32, folder=folder)
    large = data.at_least(100)
    assert len(large.images) == len(data.images) - 3
    assert large.weights.sum() == pytest.approx(1)
    with pytest.raises(ImageError, match="5000 pixels"):
        data.at_least(5000)
