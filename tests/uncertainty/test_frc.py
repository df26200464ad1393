"""The restored half against the raw other half."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import OperatorError, OptionError, ShapeError
from napari_fidelity.core.step import Result, Step
from napari_fidelity.methods import Apply
from napari_fidelity.operators import Downsample, GaussianBlur, GaussianNoise, Identity, PoissonNoise, Radon
from napari_fidelity.uncertainty.frc import _split_pixels, restored_frc

SIGMA = 0.05


class Smooth(torch.nn.Module):
    """A denoiser, with something of its own added."""

    def __init__(self, width=1.0, invented=None):
        super().__init__()
        self.width, self.invented = width, invented

    def forward(self, y):
        smooth = torch.from_numpy(gaussian_filter(y.numpy(), (0, 0, self.width, self.width)))
        return smooth if self.invented is None else smooth + self.invented


@pytest.fixture
def scene():
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).numpy()
    return torch.from_numpy(0.5 + 2 * gaussian_filter(noise, (0, 0, 1.5, 1.5)))


@pytest.fixture
def y(scene):
    return scene + SIGMA * torch.randn(scene.shape, generator=torch.Generator().manual_seed(1))


def test_a_good_restoration_reaches_what_the_halves_hold(y):
    found = restored_frc(
        y, Identity(), Smooth(0.8), method=Apply(), noise=GaussianNoise(sigma=SIGMA), pixel_size=50, unit="nm"
    )
    assert found.split == "noise" and found.restored.unit == "nm"
    assert 150 < found.raw_resolution < 400
    assert found.restored_resolution == pytest.approx(found.raw_resolution, rel=0.35)


def test_a_perfect_restoration_has_the_root_of_the_raw_curve_and_its_resolution(y, scene):
    found = restored_frc(y, Identity(), lambda half: scene, method=Apply(), noise=GaussianNoise(sigma=SIGMA))
    steep = (found.raw.correlation > 0.25) & (found.raw.correlation < 0.9)
    assert steep.sum() > 3
    root = found.raw.correlation[steep] ** 0.5
    assert found.restored.correlation[steep] == pytest.approx(root, abs=0.12)
    assert found.restored_resolution == pytest.approx(found.raw_resolution, rel=0.1)


def test_what_the_network_invents_does_not_raise_the_curve(y):
    invented = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    known = {"method": Apply(), "noise": GaussianNoise(sigma=SIGMA)}
    honest = restored_frc(y, Identity(), Smooth(), **known)
    lying = restored_frc(y, Identity(), Smooth(1.0, 0.3 * invented), **known)
    assert lying.restored_resolution > 1.2 * honest.restored_resolution
    assert abs(lying.restored.correlation[-8:].mean()) < 0.15


def test_without_a_noise_model_every_second_pixel_is_held_out(y):
    found = restored_frc(y, Identity(), Smooth(), method=Apply())
    assert found.split == "pixels" and found.restored.pixel_size == 2
    # a network that passes on what it was shown knows nothing more than the interpolated half
    passed_on = restored_frc(y, Identity(), torch.nn.Identity(), method=Apply())
    assert passed_on.restored.correlation == pytest.approx(passed_on.raw.correlation)
    assert passed_on.restored.correlation[0] > 0.9


def test_the_method_never_sees_the_other_pixels(y):
    seen = []

    class Spy:
        def steps(self, shown, operator, model, **known):
            seen.append((shown, known["weights"]))
            yield Step(0, 1, 0.0, {}, lambda: shown)
            return Result(shown, (), "", 0.0)

    changed = y.clone()
    changed[..., 3, 4] += 100  # of the other colour
    for data in (y, changed):
        restored_frc(data, Identity(), method=Spy())
    assert torch.equal(seen[0][0], seen[1][0]) and torch.equal(seen[0][1], seen[1][1])
    assert seen[0][1].mean() == 0.5


def test_photons_are_split_one_by_one(scene):
    counts = torch.poisson(40 * scene.clamp_min(0), generator=torch.Generator().manual_seed(0))
    shown = []

    class Spy:
        def steps(self, half, operator, model, **known):
            shown.append((half, known["noise"]))
            yield Step(0, 1, 0.0, {}, lambda: half)
            return Result(half, (), "", 0.0)

    restored_frc(counts, Identity(), method=Spy(), noise=PoissonNoise(gain=1.0))
    half, noise = shown[0]
    assert torch.equal(half % 2, torch.zeros_like(half)) and noise.gain == 2


def test_scale_blur_colour_masks_and_reasons(y):
    operator = Downsample(scale=2) @ GaussianBlur(sigma=1.0)
    colour = y.repeat(1, 3, 1, 1)
    weights = torch.ones(1, 1, 64, 64)
    weights[..., 10:20, 10:20] = 0
    asked = []

    def on_step(step):
        asked.append(step)
        return "enough"

    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    found = restored_frc(
        colour, operator, up, method=Apply(), weights=weights, noise=GaussianNoise(sigma=SIGMA), on_step=on_step
    )
    assert found.image.shape == (1, 3, 128, 128) and asked
    assert math.isfinite(found.restored_resolution)


def test_what_cannot_be_split_is_refused_by_name(y):
    with pytest.raises(OperatorError, match="picture"):
        restored_frc(y, Radon(angles=10), torch.nn.Identity(), method=Apply())
    with pytest.raises(OptionError, match="noise"):
        restored_frc(y, Identity(), torch.nn.Identity(), method=Apply(), split="noise")
    with pytest.raises(ShapeError):
        restored_frc(y[..., :1, :1], Identity(), torch.nn.Identity(), method=Apply())


def test_what_was_not_observed_of_one_half_is_not_filled_in_from_the_other(y):
    weights = torch.ones_like(y)
    weights[..., 3, 4] = 0  # of the second half
    changed = y.clone()
    changed[..., 3, 3] += 100  # beside it, of the first
    one, other = (_split_pixels(data, weights, None).second[..., 3, 4] for data in (y, changed))
    assert torch.equal(one, other)
