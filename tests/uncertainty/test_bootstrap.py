"""The equivariant bootstrap."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.step import Result, drain
from napari_fidelity.denoisers import TV
from napari_fidelity.methods import RED, ZSSR, Apply, FineTune, Project
from napari_fidelity.operators import (
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    PoissonNoise,
    Radon,
    random_mask,
    sampling_mask,
)
from napari_fidelity.uncertainty.bootstrap import Bootstrap
from napari_fidelity.uncertainty.conformal import Pair, calibrate
from napari_fidelity.uncertainty.shift import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable

FAST_RED = RED(denoiser=TV(), iterations=2, views=1, project=False)


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))[None, None]


def run(method: Bootstrap, *args: Any, **kwargs: Any) -> Result[torch.Tensor]:
    return drain(method.steps(*args, **kwargs))


def enlarge(y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(y, scale_factor=2, mode="bilinear")


def nothing(y: torch.Tensor) -> torch.Tensor:
    return y


# -- what it says ---------------------------------------------------------------------------------------------


def test_noise_alone() -> None:
    """Of the identity, the error is the noise: its level is the map, and there is no bias."""
    y = torch.full((1, 1, 24, 24), 0.5)
    options = Bootstrap(of=Apply(), samples=200, transforms="none")
    result = run(options, y, Identity(), nothing, noise=GaussianNoise(sigma=0.1))
    assert result.maps["std"].mean() == pytest.approx(0.1, rel=0.02)
    assert result.maps["bias"].abs().mean() < 0.01
    assert torch.allclose(result.maps["mean"], y + result.maps["bias"])


def test_photon_noise_is_stronger_where_it_is_bright() -> None:
    y = torch.linspace(0.1, 1, 24).expand(1, 1, 24, 24).contiguous()
    options = Bootstrap(of=Apply(), samples=100, transforms="flips")
    std = run(options, y, Identity(), nothing, noise=PoissonNoise(gain=0.01)).image
    expected = (0.01 * y).sqrt()
    assert torch.corrcoef(torch.stack([std.flatten(), expected.flatten()]))[0, 1] > 0.95
    assert std.mean() == pytest.approx(float(expected.mean()), rel=0.05)


def test_noise_of_unknown_level_is_estimated(scene: Any) -> None:
    y = GaussianNoise(sigma=0.05).sample(tensor(scene(48, 48)), torch.Generator().manual_seed(0))
    std = run(Bootstrap(of=Apply(), samples=20, transforms="none"), y, Identity(), nothing).image
    assert std.mean() == pytest.approx(0.05, rel=0.3)


def test_without_transforms_it_knows_nothing_of_the_null_space(scene: Any) -> None:
    """A deep network's detail between the pixels is consistent with itself; moved, it is not."""
    operator = Downsample(scale=2)
    y = operator.A(tensor(scene(32, 32)))
    known: dict[str, Any] = {"noise": GaussianNoise(sigma=1e-4)}
    still = run(Bootstrap(of=Project(), samples=12, transforms="none"), y, operator, enlarge, **known).image
    moved = run(Bootstrap(of=Project(), samples=12, transforms="shifts"), y, operator, enlarge, **known).image
    assert float(moved.mean()) > 3 * float(still.mean())


def test_the_map_grows_where_the_errors_are(scene: Any) -> None:
    truth = tensor(scene(48, 48))
    truth[..., :, 24:] = truth.mean()  # a part that is easy
    operator = Downsample(scale=4)
    y = operator.A(truth)

    def model(y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=4, mode="bilinear")

    std = run(Bootstrap(of=Project(), samples=20), y, operator, model).image
    assert float(std[..., 4:-4, 4:18].mean()) > 5 * float(std[..., 4:-4, 30:-4].mean())


OPERATORS: dict[str, Callable[[], Any]] = {
    "downsample": lambda: Downsample(scale=2),
    "blur": lambda: GaussianBlur(sigma=1.0),
    "mask": lambda: Mask(mask=random_mask((16, 16), 0.7, 0)),
    "tomography": lambda: Radon(angles=4),
    "fourier": lambda: Fourier(mask=sampling_mask((16, 16), 2), image="complex"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator(name: str, scene: Any) -> None:
    operator, x = OPERATORS[name](), tensor(scene(16, 16))
    x = x.repeat(1, 2, 1, 1) if name == "fourier" else x
    result = run(Bootstrap(of=FAST_RED, samples=3), operator.A(x), operator, noise=GaussianNoise(sigma=0.01))
    assert set(result.maps) == {"std", "bias", "mean"}
    assert all(image.shape == x.shape and torch.isfinite(image).all() for image in result.maps.values())
    assert float(result.image.min()) >= 0 and float(result.image.max()) > 0


def test_super_resolution_learned_from_the_image_alone(scene: Any) -> None:
    operator = Downsample(scale=2)
    y = operator.A(torch.from_numpy(scene(1, 40, 36))[None])
    method = ZSSR(width=4, depth=2, iterations=2, updates=2, crop=8)
    result = drain(Bootstrap(of=method, samples=2).steps(y, operator))
    assert result.image.shape == (1, 1, 40, 36)
    assert float(result.maps["std"].mean()) > 0


def test_frequencies_that_were_not_sampled_have_no_noise() -> None:
    mask = sampling_mask((16, 16), 2)
    shown = []

    class Looks(Apply):
        kind: Any = "apply"

        def steps(self, y: torch.Tensor, operator: Any, model: Any = None, **known: Any) -> Any:
            shown.append(y)
            return super().steps(y, operator, lambda y: operator.A_adjoint(y), **known)

    operator = Fourier(mask=mask, image="complex")
    y = operator.A(torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0)))
    run(Bootstrap.model_construct(of=Looks(), samples=2), y, operator, noise=GaussianNoise(sigma=0.1))
    assert len(shown) == 3 and all(torch.equal((y != 0).any(1)[0], torch.from_numpy(mask > 0)) for y in shown)


def test_volumes_and_other_shapes(scene: Any) -> None:
    for shape in ((8, 12, 10), (1, 1), (1, 9), (7, 5)):
        x = torch.from_numpy(scene(*shape) if min(shape) > 1 else np.full(shape, 0.5, np.float32))[None, None]
        result = run(Bootstrap(of=FAST_RED, samples=2), x, Identity(), noise=GaussianNoise(sigma=0.05))
        assert result.image.shape == x.shape and torch.isfinite(result.image).all()


def test_what_was_not_observed_is_not_shown_to_the_network(scene: Any) -> None:
    """A model that passes on what it sees would have no error where it is shown the answer."""
    x = tensor(scene(24, 24))
    weights = torch.ones_like(x)
    weights[..., 8:16, 8:16] = 0
    options = Bootstrap(of=Apply(), samples=10, transforms="none", image=x[0, 0].numpy())
    std = run(options, x, Identity(), nothing, noise=GaussianNoise(sigma=1e-3), weights=weights).image
    assert float(std[..., 10:14, 10:14].mean()) > 10 * float(std[..., :8, :].mean())


def test_images_to_start_from_move_along() -> None:
    x = tensor(np.random.default_rng(0).random((16, 16)))
    method = RED(denoiser=TV(), iterations=1, views=1, start=x[0, 0].numpy(), output="image", project=False)
    result = run(Bootstrap(of=method, samples=6), x, Identity(), noise=GaussianNoise(sigma=1e-4))
    assert float(result.image.mean()) < 0.02


# -- fine-tuning ----------------------------------------------------------------------------------------------


def test_fast_takes_the_tuned_network(scene: Any, network: Any) -> None:
    operator = Downsample(scale=2)
    y = operator.A(tensor(scene(16, 16)))
    method = FineTune(iterations=1, precision="float32")
    small = network(n_feats=4)
    slow = run(Bootstrap(of=method, samples=2, fast=False), y, operator, small, noise=GaussianNoise(sigma=0.01))
    fast = run(Bootstrap(of=method, samples=2), y, operator, small, noise=GaussianNoise(sigma=0.01))
    assert 0.5 < float(fast.image.mean() / slow.image.mean()) < 2
    made = drain(method.steps(y, operator, small, noise=GaussianNoise(sigma=0.01), rng=0)).image
    given = Bootstrap(of=method, samples=2, image=made[0].numpy())
    again = run(given, y, operator, small, noise=GaussianNoise(sigma=0.01))
    assert torch.allclose(again.image, fast.image, atol=1e-6)


# -- as a method ----------------------------------------------------------------------------------------------


def test_steps_passes_and_reasons(scene: Any) -> None:
    y = tensor(scene(16, 16))
    known: dict[str, Any] = {"noise": GaussianNoise(sigma=0.05)}
    options = Bootstrap(of=Apply(), samples=5)
    steps = list(options.steps(y, Identity(), nothing, **known))
    passes = [step for step in steps if step.scores]
    assert [step.index for step in passes] == list(range(5)) and all(step.total == 5 for step in steps)
    result = run(options, y, Identity(), nothing, **known)
    assert [record.index for record in result.history] == list(range(5))
    assert set(STATISTICS) | {"mean_std"} == set(result.history[-1].scores)
    early = drain(
        options.steps(y, Identity(), nothing, **known),
        lambda step: "enough" if step.index == 2 and step.scores else None,
    )
    assert early.stop_reason == "enough" and len(early.history) == 3
    assert torch.equal(early.image, passes[2].estimate())
    assert torch.equal(result.image, passes[4].estimate())


def test_a_reason_before_the_first_sample_leaves_an_empty_map(scene: Any) -> None:
    y = tensor(scene(16, 16))
    result = drain(Bootstrap(of=FAST_RED, samples=3).steps(y, Identity()), lambda step: "enough")
    assert "empty" in result.stop_reason and bool(torch.isnan(result.image).all())
    assert len(result.history) == 1


def test_the_same_seed_gives_the_same_map(scene: Any) -> None:
    y = tensor(scene(16, 16))
    options = Bootstrap(of=FAST_RED, samples=3)
    maps = [run(options, y, Identity(), rng=seed).image for seed in (1, 1, 2)]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])
    state = torch.get_rng_state()
    run(options, y, Identity())
    assert torch.equal(state, torch.get_rng_state())


def test_memory_does_not_grow_with_the_samples() -> None:
    """So many tensors of the image's size there are while it runs, whatever the number of samples."""
    y = torch.rand(1, 1, 17, 23, generator=torch.Generator().manual_seed(0))
    alive = []

    def count(step: Any) -> None:
        if step.scores:
            gc.collect()
            alive.append(sum(type(one) is torch.Tensor and one.shape == y.shape for one in gc.get_objects()))

    gc.collect()
    gc.freeze()  # what there was before need not be looked through again and again
    try:
        drain(Bootstrap(of=Apply(), samples=9).steps(y, Identity(), nothing), count)
    finally:
        gc.unfreeze()
    assert len(alive) == 9 and len(set(alive[1:])) == 1


def test_a_pixel_in_no_sample_takes_what_is_around_it(scene: Any) -> None:
    y = tensor(scene(16, 16))
    options = Bootstrap(of=Apply(), samples=1, transforms="shifts")
    std = run(options, y, Identity(), nothing, noise=GaussianNoise(sigma=0.1)).image
    assert float((std == 0).float().mean()) < 0.01


def test_a_calibrated_bootstrap_has_intervals(scene: Any) -> None:
    noise = GaussianNoise(sigma=0.05)
    options = Bootstrap(of=Apply(), samples=12, transforms="none")
    pairs, truths, measured = [], [], []
    for seed in range(14):
        truth = tensor(scene(24, 24, seed=seed))
        y = noise.sample(truth, torch.Generator().manual_seed(seed))
        result = run(options, y, Identity(), nothing, noise=noise, rng=seed)
        pairs.append(Pair(y.numpy(), result.image.numpy(), truth.numpy(), result.history[-1].scores))
        truths.append(truth)
        measured.append(y)
    calibration = calibrate(pairs[:12], options, operator=Identity())
    calibrated = options.replace(calibration=calibration, level=0.8)
    result = run(calibrated, measured[12], Identity(), nothing, noise=noise)
    assert set(result.maps) == {"std", "bias", "mean", "lower", "upper"}
    inside = (truths[12] >= result.maps["lower"]) & (truths[12] <= result.maps["upper"])
    assert 0.75 < float(inside.float().mean()) < 0.95
    scores = result.history[-1].scores
    assert scores["guaranteed"] == 1 and scores["shift_p"] > 0.01 and "80 %" in result.stop_reason
    other = run(calibrated, 0.2 * measured[12], Identity(), nothing, noise=noise)
    assert other.history[-1].scores["guaranteed"] == 0 and "guarantee void" in other.stop_reason
    with pytest.raises(OptionError, match="another 'samples'"):
        Bootstrap(of=Apply(), samples=13, transforms="none", calibration=calibration)


def test_it_is_made_from_plain_values() -> None:
    for fast, kind in itertools.product((False, True), ("auto", "flips")):
        made = Bootstrap(of=FAST_RED, samples=7, fast=fast, transforms=kind)
        assert Bootstrap.parse(made.to_plain()) == made
    with pytest.raises(OptionError):
        Bootstrap(samples=0)
