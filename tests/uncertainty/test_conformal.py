"""Calibration: the coverage that is stated, what it is stated for, and when it is not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import NonFiniteError, OptionError, OutputError, RecipeError, ShapeError
from napari_fidelity.core.options import Options
from napari_fidelity.denoisers import TV
from napari_fidelity.methods import RED, Apply, Project
from napari_fidelity.networks.adapters import GrayThroughRGB
from napari_fidelity.operators import Downsample, GaussianNoise, Identity, Mask
from napari_fidelity.uncertainty._made_for import settings_of
from napari_fidelity.uncertainty.conformal import Calibration, Pair, calibrate, intervals
from napari_fidelity.uncertainty.deviation import Confidence, DeviationMap
from napari_fidelity.uncertainty.shift import Verdict, compare, spectral_slope, statistics_of, with_std

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Plain(DeviationMap):
    """A map that is never run."""

    kind: str = "plain"

    def steps(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def pair(seed: int, factor: float = 2.0, size: int = 48, **statistics: float) -> Pair:
    """Return an image whose map understates its errors by a factor that differs a little from image to image."""
    rng = np.random.default_rng(seed)
    std = np.exp(rng.normal(size=(size, size)) * 0.5)
    estimate = rng.normal(size=std.shape)
    error = factor * np.exp(0.15 * rng.normal()) * std * rng.normal(size=std.shape)
    return Pair(estimate, std, estimate + error, statistics or {"slope": 2 + 0.1 * rng.normal()})


def coverage(calibration: Calibration, one: Pair, level: float) -> float:
    lower, upper = intervals(one.estimate, one.std, calibration, level)
    return float(((one.truth >= lower) & (one.truth <= upper)).mean())


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate([pair(seed) for seed in range(30)], Plain())


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_new_images_are_covered_as_stated(calibration: Calibration, level: float) -> None:
    covered = [coverage(calibration, pair(1000 + seed), level) for seed in range(60)]
    assert level - 0.015 < np.mean(covered) < level + 2 / 31
    assert abs(float(np.mean(calibration.cross_fit(level))) - float(np.mean(covered))) < 0.03
    assert calibration.guaranteed(level)


def test_the_correction_is_what_the_theorem_asks_for() -> None:
    """With shares r_i outside: (Σ r_i + 1) / (n + 1) ≤ 1 − level, and no smaller factor does it."""
    pairs = [pair(seed) for seed in range(19)]
    calibration = calibrate(pairs, Plain())
    factor = calibration.factor(0.9)

    def missed(factor: float) -> float:
        ratios = [
            np.abs(p.estimate - p.truth) / np.maximum(p.std, 0.05 * np.sqrt((p.std**2).mean())) for p in pairs
        ]
        return (sum(float((ratio > factor).mean()) for ratio in ratios) + 1) / 20

    assert missed(factor) <= 0.1 < missed(factor * 0.97)
    uncorrected = calibrate(pairs * 50, Plain()).factor(0.9)
    assert uncorrected < factor


def test_on_average_over_many_calibrations() -> None:
    """The theorem itself: the mean coverage over draws of calibration and new image is at least the level."""
    rng = np.random.default_rng(0)
    pool = [pair(seed, size=16) for seed in range(200)]
    covered = []
    for _ in range(150):
        chosen = rng.permutation(200)[:13]
        calibration = calibrate([pool[i] for i in chosen[:12]], Plain())
        covered.append(coverage(calibration, pool[chosen[12]], 0.8))
    assert 0.8 <= np.mean(covered) < 0.8 + 2 / 13


def test_too_few_images_guarantee_nothing() -> None:
    few = calibrate([pair(seed) for seed in range(4)], Plain())
    assert not few.guaranteed(0.9) and few.guaranteed(0.8)
    assert np.mean([coverage(few, pair(seed), 0.9) for seed in range(4)]) == pytest.approx(0.9, abs=0.01)
    verdict = few.verdict(0.9, {"slope": 2.0})
    assert not verdict.holds and "at least 9" in verdict.words and verdict.words.startswith("guarantee void")
    one = calibrate([pair(0)], Plain())
    assert math.isnan(one.cross_fit(0.5)[0])
    assert coverage(one, pair(0), 0.6) == pytest.approx(0.6, abs=0.01)


def test_higher_levels_have_wider_intervals(calibration: Calibration) -> None:
    factors = [calibration.factor(level) for level in (0.1, 0.5, 0.9, 0.96)]
    assert factors == sorted(factors) and factors[0] > 0
    for wrong in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(OptionError, match="between 0 and 1"):
            calibration.factor(wrong)


def test_tensors_have_the_intervals_of_arrays(calibration: Calibration) -> None:
    one = pair(5)
    arrays = intervals(one.estimate, one.std, calibration)
    tensors = intervals(torch.from_numpy(one.estimate), torch.from_numpy(one.std), calibration)
    for a, b in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-6)


def test_a_pixel_without_any_spread_has_an_interval_too(calibration: Calibration) -> None:
    std = np.ones((4, 4))
    std[0, 0] = 0
    lower, upper = intervals(np.zeros((4, 4)), std, calibration)
    assert 0 < upper[0, 0] - lower[0, 0] < upper[1, 1] - lower[1, 1]
    flat = calibrate([Pair(np.zeros((4, 4)), np.zeros((4, 4)), np.ones((4, 4)), {})], Plain())
    assert math.isfinite(flat.factor(0.5))


def test_what_is_not_like_the_calibration_images_is_told(calibration: Calibration) -> None:
    assert calibration.shift({"slope": 2.05}).p_value > 0.2
    far = calibration.shift({"slope": 0.5})
    assert far.void and "slope" in far.words
    verdict = calibration.verdict(0.9, {"slope": 0.5})
    assert not verdict.holds and "guarantee void" in verdict.words and "slope" in verdict.words
    assert calibration.verdict(0.9, {"slope": 2.05}).holds


def test_false_alarms_are_as_rare_as_stated() -> None:
    rng = np.random.default_rng(1)
    names = ("residual_to_noise", "noise_to_contrast", "std_to_contrast")
    alarms = 0
    for _ in range(300):
        numbers = np.exp(rng.normal(size=(3, 7)) * 0.4)
        usual = {name: tuple(row[:6]) for name, row in zip(names, numbers, strict=True)}
        alarms += compare(usual, {name: row[6] for name, row in zip(names, numbers, strict=True)}).void
    assert alarms <= 9  # 3 are to be expected


def test_too_few_images_to_tell() -> None:
    two = calibrate([pair(seed) for seed in range(2)], Plain())
    shift = two.shift({"slope": 50.0})
    assert math.isnan(shift.p_value) and not shift.void
    assert math.isnan(two.shift({}).p_value)
    verdict = two.verdict(0.5, {"slope": 2.0})  # as many as the level needs
    assert two.guaranteed(0.5) and not verdict.holds
    assert "not tested whether the image is like" in verdict.words and "at least 3" in verdict.words


def test_likeness_that_cannot_be_tested_is_told(calibration: Calibration) -> None:
    mute = calibration.replace(statistics={})  # a file without them
    other = calibration.replace(statistics={"std_to_contrast": (0.1,) * calibration.count})
    for one, found in (
        (mute, {"slope": 2.0}),
        (other, {"slope": 2.0}),
        (calibration, {}),
        (calibration, {"slope": math.nan}),
    ):
        verdict = one.verdict(0.9, found)
        assert not verdict.holds and math.isnan(verdict.shift.p_value)
        assert "not tested whether the image is like" in verdict.words and "nothing is known" in verdict.words


def test_a_number_that_is_none_does_not_hide_the_others() -> None:
    usual = {"std_to_contrast": (0.1, 0.1, 0.1, 0.1), "slope": (2.0, 2.1, 1.9, 2.0)}
    assert compare(usual, {"std_to_contrast": math.nan, "slope": 9.0}).void


def test_another_recipe_voids_the_guarantee(network: Any) -> None:
    model = network()
    pairs = [pair(seed) for seed in range(12)]
    calibration = calibrate(pairs, Plain(), operator=Downsample(scale=2), model="0" * 64)

    def verdict(operator: Any, model: Any = None) -> Verdict:
        return calibration.verdict(0.9, {"slope": 2.0}, calibration.differences(operator, model))

    assert verdict(Downsample(scale=2)).holds
    assert "formation model" in verdict(Downsample(scale=4)).words
    model.info = type("Info", (), {"sha256": "1" * 64})()
    for seen in (model, GrayThroughRGB(model)):
        assert "another network" in verdict(Downsample(scale=2), seen).words
    nameless = network()  # from code, without a file: nothing tells that it is the same
    assert "another network" in verdict(Downsample(scale=2), nameless).words


@pytest.mark.parametrize("named", [False, True])
def test_passes_do_not_put_large_arrays_into_text(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the judged image and the start nor, from pass to pass, the operator's mask."""
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    operator = Mask(mask=np.ones((16, 16)))
    of = RED(denoiser=TV(), start=np.zeros((16, 16)))
    calibration = calibrate([pair(seed) for seed in range(3)], Plain(of=of), operator=operator if named else None)
    map = Plain(of=of, calibration=calibration, image=x[0, 0].numpy())
    encoded: list[object] = []
    plain = Options.to_plain

    def to_plain(self: Options) -> dict[str, Any]:
        parts = (self, getattr(self, "of", None))
        arrays = [value for part in parts if part is not None for value in vars(part).values()]
        encoded.extend(value for value in arrays if isinstance(value, np.ndarray))
        return plain(self)

    monkeypatch.setattr(Options, "to_plain", to_plain)
    confidence = Confidence(map, x, x, operator, None, noise=GaussianNoise(sigma=0.1))
    for _ in range(3):
        confidence.scores(0.1 * torch.ones_like(x))
    assert len(encoded) == named


def test_a_calibration_knows_its_settings_without_images() -> None:
    x = np.zeros((4, 4))
    with_images = Plain(of=RED(denoiser=TV(), start=x), image=x, level=0.7)
    plain = settings_of(with_images)
    assert set(plain) == {"kind", "of"} and "start" not in plain["of"]
    assert settings_of(Plain(of=RED(denoiser=TV())))["of"]["start"] == RED().start


def test_another_map_is_refused(calibration: Calibration) -> None:
    made = Plain(calibration=calibration, level=0.8, image=np.zeros((3, 3)))
    assert made.calibration == calibration
    other = calibrate([pair(0)], Plain(), operator=None).replace(map={"kind": "bootstrap"})
    with pytest.raises(OptionError, match="belongs to another map"):
        Plain(calibration=other)


def test_the_method_may_be_filled_in_later() -> None:
    """A recipe fills it in: only what was given can be another one."""
    calibration = calibrate([pair(0)], Plain(of=Project()))
    made = Plain(calibration=calibration)
    assert made.replace(of=Project()).calibration == calibration
    with pytest.raises(OptionError, match="another 'of'"):
        made.replace(of=Apply())


def test_it_can_be_saved_and_read(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.read(path) == calibration
    assert Plain.parse(Plain(calibration=calibration).to_plain()) == Plain(calibration=calibration)
    with pytest.raises(OutputError, match="exists"):
        calibration.save(path)
    calibration.save(path, overwrite=True)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"map": {}, "factors": [[1, 2]]}', '{"map": {}, "factors": [[NaN]]}', "\x00"]
)
def test_files_that_hold_none_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(RecipeError, match="cannot be read"):
        Calibration.read(path)
    path.write_text(text)
    with pytest.raises(RecipeError, match="cannot be read"):
        Calibration.read(path)


def arrays(*shapes: tuple[int, ...], value: float = 0.0) -> list[NDArray[Any]]:
    return [np.full(shape, value) for shape in shapes]


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(OptionError, match="truth is known"):
        calibrate([], Plain())
    with pytest.raises(ShapeError, match="one shape"):
        calibrate([Pair(*arrays((3, 3), (3, 3), (4, 3)), {})], Plain())
    with pytest.raises(ShapeError, match="one shape"):
        calibrate([Pair(*arrays((3, 3), (3, 3)), np.full((3, 3), np.nan), {})], Plain())
    with pytest.raises(NonFiniteError):
        calibrate([Pair(np.full((3, 3), np.nan), *arrays((3, 3), (3, 3)), {})], Plain())


def test_statistics_have_no_unit(scene: Any) -> None:
    x = torch.from_numpy(scene(32, 32))[None, None]
    operator, noise = Downsample(scale=2), GaussianNoise(sigma=0.02)
    y = noise.sample(operator.A(x), torch.Generator().manual_seed(0))
    found = with_std(statistics_of(x, y, operator, noise=noise), x, 0.1 * torch.ones_like(x))
    scaled = statistics_of(4 * x, 4 * y, operator, noise=GaussianNoise(sigma=0.08))
    scaled = with_std(scaled, 4 * x, 0.4 * torch.ones_like(x))
    assert found == pytest.approx(scaled, rel=1e-3)
    assert found["residual_to_noise"] == pytest.approx(1, abs=0.1)


def test_slope_of_spectra() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(1, 1, 64, 64))).float()
    assert abs(spectral_slope(noise)) < 0.15
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    frequency[0, 0] = 1
    pink = torch.from_numpy(np.fft.ifft2(np.fft.fft2(noise[0, 0].numpy()) / frequency).real)[None, None]
    assert spectral_slope(pink) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 9), (1, 1, 3, 4, 5), (2, 1, 16, 16)])
def test_statistics_of_tiny_and_constant_images(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 0.5)
    found = with_std(statistics_of(x, x, Identity()), x, torch.zeros_like(x))
    assert all(math.isfinite(value) for value in found.values())
