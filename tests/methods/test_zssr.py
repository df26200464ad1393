"""Zero-shot super-resolution: what it learns from, what it makes of it, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from napari_fidelity.core.errors import OperatorError, OptionError, ShapeError
from napari_fidelity.core.step import Result, drain
from napari_fidelity.methods import ZSSR, _zssr_run
from napari_fidelity.methods._start import starting_image
from napari_fidelity.methods._zssr_gallery import Gallery, _planned
from napari_fidelity.methods._zssr_pairs import Making, Source
from napari_fidelity.methods._zssr_run import Run
from napari_fidelity.methods._zssr_sizes import factors_of, sizes_on_the_way
from napari_fidelity.methods._zssr_training import Training
from napari_fidelity.methods._zssr_warped import Warped
from napari_fidelity.methods.views import VIEWS, to_view
from napari_fidelity.networks.zero_shot import ZeroShotNetwork, folded, unfolded
from napari_fidelity.operators import (
    Blur,
    Compose,
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    MotionBlur,
    PoissonNoise,
    Radon,
    random_mask,
    resize,
    sampling_mask,
)
from napari_fidelity.operators._foreign import ForeignOperator
from napari_fidelity.stopping import Budget, HeldOut

HALF = Downsample(scale=2)
BLURRED = Compose(operators=(GaussianBlur(sigma=1.6), HALF))


def star(size: int = 96, channels: int = 1, spokes: int = 9) -> torch.Tensor:
    """Return a star of bright and dark sectors: the same at every scale."""
    i, j = torch.meshgrid(*(torch.arange(size) + 0.5 - 0.4 * size,) * 2, indexing="ij")
    x = 0.5 + 0.4 * torch.tanh(8 * torch.sin(spokes * torch.atan2(i, j)))
    return torch.stack([x * (1 - 0.15 * c) for c in range(channels)])[None]


def db(x: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * float(torch.log10((x - truth).square().mean()))


def zssr(**changes: Any) -> ZSSR:
    network = {"width": 16, "depth": 3, "precision": "float32"}
    return ZSSR(**{**network, "iterations": 3, "updates": 4, "batch": 2, "crop": 16, **changes})


def published(case: Any = "ideal", **changes: Any) -> ZSSR:
    small = {"width": 8, "depth": 3, "iterations": 3, "updates": 4, "crop": 24}
    return ZSSR.shocher2018(case, **{**small, **changes})


def run(method: ZSSR, *args: Any, **kwargs: Any) -> Result[torch.Tensor]:
    return drain(method.steps(*args, **kwargs))


LEARNED = zssr(width=32, depth=4, iterations=10, updates=10, crop=32)


# -- what it is for -----------------------------------------------------------------------------------------------


def test_a_pattern_that_is_the_same_at_every_scale() -> None:
    x = star()
    y = HALF.A(x)
    result = run(LEARNED, y, HALF)
    assert db(result.image, x) > db(starting_image("classical", y, HALF), x) + 1
    assert db(result.image, x) > db(resize(y, x.shape[2:]), x) + 2.5
    assert result.history[-1].loss < 0.9 * result.history[0].loss
    assert result.history[-1].scores["reconstruction"] > result.history[0].scores["reconstruction"] + 1


def test_published_settings_learn_the_same() -> None:
    x = star()
    y = HALF.A(x)
    method = published(width=32, depth=4, crop=32, iterations=5, updates=30, schedule="cosine")
    assert db(run(method, y, HALF).image, x) > db(resize(y, x.shape[2:]), x) + 1


def test_a_kernel_that_is_given_is_used() -> None:
    x = star()
    y = BLURRED.A(x)
    given, ignored = (db(run(LEARNED, y, operator).image, x) for operator in (BLURRED, HALF))
    assert given > ignored + 2


def test_noise_that_is_given_is_removed() -> None:
    x, noise = star(), GaussianNoise(sigma=0.1)
    y = noise.sample(HALF.A(x), torch.Generator().manual_seed(0))
    told, untold = (db(run(LEARNED, y, HALF, noise=given).image, x) for given in (noise, None))
    assert told > untold + 1


@pytest.mark.parametrize(
    ("operator", "channels", "shape"),
    [
        (HALF, 3, (33, 40)),
        (Downsample(scale=3), 1, (50, 61)),
        (Downsample(scale=1.5), 2, (41, 40)),
        (Downsample(scale=(1, 2)), 1, (20, 47)),
        (BLURRED, 2, (40, 44)),
        (Compose(operators=(MotionBlur(length=5, angle=30), HALF)), 1, (40, 44)),
        (Compose(operators=(GaussianBlur(sigma=1, border="valid"), HALF)), 1, (48, 50)),
        (Compose(operators=(HALF, Mask(mask=random_mask((20, 22), 0.8, 0)))), 1, (40, 44)),
        (Compose(operators=(Identity(), HALF)), 1, (40, 44)),
        (Downsample(scale=4), 1, (65, 66)),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
@pytest.mark.parametrize("make", [zssr, published], ids=["default", "published"])
def test_every_operator_that_downsamples(make: Any, operator: Any, channels: int, shape: tuple[int, int]) -> None:
    x = torch.nn.functional.interpolate(star(64, channels), shape, mode="bilinear", align_corners=False)
    y = operator.A(x)
    result = run(make(), y, operator)
    assert result.image.shape == (1, channels, *operator.image_shape(y.shape[2:]))
    sizes = 2 if operator in (Downsample(scale=3), Downsample(scale=4)) and make is zssr else 1
    assert len(result.history) == 3 * sizes
    assert torch.isfinite(result.image).all()
    unexplained = (operator.A(result.image) - y)[..., 2:-2, 2:-2]
    # back-projection does not know that a border is missing
    share = 0.05 if make is zssr else 0.2
    assert float(unexplained.square().mean()) < share * float(y.var())


class Foreign:
    """Means of 2 × 2 pixels, as another library may have it: two functions and no shapes."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4


def test_an_operator_of_another_library() -> None:
    x = star(48)
    y = Foreign().A(x)
    result = run(zssr(), y, Foreign())
    assert result.image.shape == x.shape
    assert db(result.image, x) > db(resize(y, x.shape[2:]), x)


def test_a_batch_is_learned_from_together() -> None:
    x = torch.cat([star(48), 1 - star(48)])
    assert run(zssr(), HALF.A(x), HALF).image.shape == x.shape
    assert run(published(), HALF.A(x), HALF).image.shape == x.shape


# -- the run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [zssr, published], ids=["default", "published"])
def test_same_seed_same_bits(make: Any) -> None:
    y = HALF.A(star(48))
    first, again, other = (run(make(), y, HALF, rng=seed).image for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_stopped_by_the_user_it_returns_what_it_showed() -> None:
    y = HALF.A(star(48))
    steps = zssr(iterations=50).steps(y, HALF)
    shown = [next(steps).estimate() for _ in range(2)]
    shown.append(steps.send(None).estimate())  # type: ignore[arg-type]
    with pytest.raises(StopIteration) as end:
        steps.send("enough")
    result = end.value.value
    assert (result.stop_reason, len(result.history)) == ("enough", 3)
    assert torch.equal(result.image, shown[-1])
    assert not torch.equal(shown[0], shown[1])


def test_a_chosen_iteration_and_snapshots() -> None:
    y = HALF.A(star(48))
    whole = run(zssr(snapshots=8), y, HALF)
    assert sorted(whole.snapshots) == [0, 1, 2]
    chosen = run(zssr(iteration=1), y, HALF)
    assert torch.equal(chosen.image, whole.snapshots[1])
    assert torch.equal(run(zssr(), y, HALF, stop=Budget(iterations=1)).image, chosen.image)
    assert torch.equal(run(zssr(iteration=2), y, HALF).image, whole.image)
    with pytest.raises(OptionError, match="beyond the 3 iterations there can be"):
        zssr(iteration=3, gradual="none")
    with pytest.raises(OptionError, match=r"no iteration 5 .*3 iterations.*from 0 to 2"):
        run(zssr(iteration=5), y, HALF)


def test_scores() -> None:
    y = HALF.A(star(48))
    result = run(zssr(), y, HALF, noise=GaussianNoise(sigma=0.02))
    scores = result.history[-1].scores
    assert {"lr_psnr", "discrepancy", "reconstruction", "change"} <= scores.keys()
    assert result.stop_reason == "all 12 gradient steps are done"
    assert scores["discrepancy"] == pytest.approx(10 ** (-scores["lr_psnr"] / 10) / 0.02**2, rel=1e-4)


def test_steps_are_counted_over_all_sizes() -> None:
    quarter = Downsample(scale=4)
    result = run(zssr(iterations=1, gradual="doubling"), quarter.A(star(96)), quarter)
    assert result.stop_reason == "all 8 gradient steps are done"


def test_unobserved_pixels_say_nothing() -> None:
    y = HALF.A(star(64))
    weights = torch.ones_like(y)
    weights[..., 4:7, 20:24] = 0
    other = torch.where(weights > 0, y, torch.rand(y.shape, generator=torch.Generator().manual_seed(0)))
    for make in (zssr, published):
        first, second = (run(make(), z, HALF, weights=weights).image for z in (y, other))
        assert torch.equal(first, second)


def test_held_out_pixels_choose_the_iteration() -> None:
    y = HALF.A(star(64))
    result = run(zssr(iterations=6), y, HALF, stop=HeldOut(fraction=0.1, patience=2))
    held_out = [record.scores["held_out"] for record in result.history]
    assert all(value > 0 for value in held_out)


def test_strips_make_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    y = HALF.A(star(96))
    whole = run(zssr(), y, HALF).image
    monkeypatch.setattr(_zssr_run, "STRIP", 300)
    assert torch.allclose(run(zssr(), y, HALF).image, whole, atol=1e-5)


def test_the_average_over_views_is_used_at_the_end() -> None:
    y = HALF.A(star(48))
    eight, one = (run(zssr(views=views), y, HALF) for views in (8, 1))
    assert not torch.equal(eight.image, one.image)
    assert [record.loss for record in eight.history] == [record.loss for record in one.history]


# -- what it refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operator",
    [
        Identity(),
        GaussianBlur(sigma=1),
        Mask(mask=random_mask((32, 32), 0.5, 0)),
        Radon(angles=12),
        Fourier(mask=sampling_mask((32, 32), acceleration=2, rng=0), image="real"),
    ],
    ids=lambda operator: operator.kind,
)
def test_what_does_not_downsample(operator: Any) -> None:
    y = operator.A(star(32))
    with pytest.raises(OperatorError, match=r"does not reduce it.*gaussian_blur:sigma=1.6 \+ downsample.*RED"):
        next(zssr().steps(y, operator))


def test_a_foreign_operator_is_called_by_its_name() -> None:
    operator: Any = ForeignOperator("mine", Identity())
    with pytest.raises(OperatorError, match=r"does not reduce it.*found: mine"):
        next(zssr().steps(star(32), operator))


@pytest.mark.parametrize(("shape", "scale"), [((15, 40), 2), ((40, 12), 3), ((20, 20), 6.5)])
def test_too_small(shape: tuple[int, int], scale: float) -> None:
    for make in (zssr, published):
        with pytest.raises(ShapeError, match=r"too small to learn from.*at least 16 pixels.*RED"):
            next(make().steps(torch.rand(1, 1, *shape), Downsample(scale=scale)))
    assert run(zssr(), torch.rand(1, 1, 16, 16), Downsample(scale=4)).image.shape == (1, 1, 64, 64)


def test_a_kernel_larger_than_the_measurement() -> None:
    kernel = torch.ones(31, 31)
    operator = Compose(operators=(Blur(kernel=kernel.numpy()), HALF))
    with pytest.raises(OperatorError, match=r"kernel.*larger than the measurement"):
        next(zssr().steps(torch.rand(1, 1, 24, 24), operator))


def test_gradual_is_for_downsampling_alone() -> None:
    with pytest.raises(OptionError, match="a blur belongs to one size"):
        next(zssr(gradual="published").steps(torch.rand(1, 1, 24, 24), BLURRED))


# -- the published settings ---------------------------------------------------------------------------------------


def test_published_settings() -> None:
    method = ZSSR.shocher2018()
    assert (method.width, method.depth, method.crop, method.learning_rate) == (64, 8, 128, 0.001)
    assert (method.iterations * method.updates, method.combine, method.back_projections) == (3000, "median", 10)
    assert (ZSSR.shocher2018("kernel").back_projections, ZSSR.shocher2018("kernel").turns) == (2, False)
    assert (ZSSR.shocher2018("real").noise_level, ZSSR.shocher2018("real").correction) == (0.0125, "none")
    assert ZSSR.shocher2018(gradual="published", iterations=5).replace(gradual="none", iterations=60) == method


@pytest.mark.parametrize("case", ["ideal", "kernel", "real"])
def test_published_cases_run(case: Any) -> None:
    x = star(64)
    image = run(published(case), HALF.A(x), HALF).image
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert db(image, x) > 8


def test_the_six_sizes_of_the_gradual_way() -> None:
    way = [(1, 1.5), (1.5, 1), (1.5, 1.5), (1.5, 2), (2, 1.5), (2, 2)]
    assert sizes_on_the_way((2, 2)) == way
    assert sizes_on_the_way((1, 2)) == [(1, 1.5), (1, 2)]


def test_the_factors_of_larger_scales() -> None:
    for scale, factors in {2: [2], 3: [2, 1.5], 4: [2, 2], 5: [2, 2, 1.25], 6: [2, 2, 1.5], 64: [2] * 6}.items():
        assert factors_of((scale, scale)) == factors
    assert factors_of((63, 63)) == [*[2] * 5, 63 / 32]
    assert factors_of((2.5, 2.5)) == factors_of((2, 4)) == []


@pytest.mark.parametrize("scale", [3, 4])
def test_larger_scales_by_doubling(scale: int) -> None:
    x = star(96)
    operator = Downsample(scale=scale)
    y = operator.A(x)
    result = run(LEARNED.replace(iterations=6), y, operator)
    assert len(result.history) == 12
    assert db(result.image, x) > db(starting_image("classical", y, operator), x) + 0.3


def test_a_doubled_image_is_a_father_as_large_as_what_it_is_measured_from() -> None:
    y = Downsample(scale=4).A(star(96))
    method = published(gradual="doubling", iterations=1, updates=1)
    one = Run(method, y, Downsample(scale=4), noise=None, stop=None, weights=None, rng=0)
    drain(one.steps())
    assert isinstance(one.training.pairs, Warped)
    assert [source.size for source in one.training.pairs.sources] == [1.0]


@pytest.mark.parametrize("make", [zssr, published], ids=["default", "published"])
def test_gradually(make: Any) -> None:
    x = star(48)
    y = HALF.A(x)
    steps = make(gradual="published", iterations=2, snapshots=3).steps(y, HALF)
    seen = []
    result = drain(steps, lambda step: seen.append(step.estimate().shape))
    assert seen == [x.shape] * 12
    assert result.image.shape == x.shape
    assert db(result.image, x) > db(resize(y, x.shape[2:]), x) - 0.5


def test_a_size_with_other_blocks_begins_with_a_network_of_its_own() -> None:
    y = HALF.A(star(48))
    method = zssr(gradual="published", iterations=1, updates=1)
    one = Run(method, y, HALF, noise=None, stop=None, weights=None, rng=0)
    sizes = []
    drain(one.steps(), lambda _: sizes.append((one.training.network, one.training.pairs.fold, one.views)))
    networks, blocks, views = zip(*sizes, strict=True)
    assert [network.fold for network in networks] == list(blocks) == [(1, 2), (2, 1), *[(2, 2)] * 4]
    assert all(network is networks[2] for network in networks[3:])  # what was learned goes on where it fits
    # turned by a quarter, an image that is stretched is another one
    assert [len(each) for each in views] == [4, 4, 8, 4, 4, 8]


def training(**changes: Any) -> Training:
    method = published(schedule="plateau", updates=50, iterations=60, **changes)
    y = HALF.A(star(48))
    return Training(Making(method, HALF, None, (2.0, 2.0)), [Source(y)], VIEWS, torch.Generator().manual_seed(0))


def test_the_learning_rate_falls_at_plateaus_and_the_third_is_the_end() -> None:
    falling, resting = training(), training()
    noise = torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    for index in range(60):
        for one, error in ((falling, 1 - 0.01 * index + 1e-4 * noise[index]), (resting, 1 + 0.1 * noise[index])):
            one.taken += 50
            one.judge(error)
    assert falling.rate == 0.001
    assert not falling.ended
    assert resting.rate == pytest.approx(1e-6)
    assert "came to rest after" in resting.ended
    assert 3 * 256 < resting.changed <= 2000


# -- fathers and sons ---------------------------------------------------------------------------------------------


def making(operator: Any = HALF, scale: tuple[float, float] = (2.0, 2.0), **changes: Any) -> Making:
    return Making(zssr(**changes), operator, None, scale)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_sons_are_made_by_the_operator() -> None:
    y = HALF.A(star(80))
    for operator in (HALF, BLURRED):
        pair = making(operator).pair(y, None, rng())
        assert torch.allclose(pair.base, starting_image("classical", operator.A(y), operator), atol=1e-5)
    gallery = Gallery(making(), [Source(y)], VIEWS, rng())
    assert len(gallery.pairs) == 6 * 4  # sizes and positions on the sampling grid
    assert all(pair.father.shape == pair.base.shape for pair in gallery.pairs)
    assert torch.equal(gallery.pairs[0].father, y)
    drawn = gallery.draw()
    assert drawn.father.shape == drawn.base.shape == (2, 1, 16, 16)


def test_fathers_are_turned_before_an_operator_that_has_a_direction() -> None:
    operator = Compose(operators=(MotionBlur(length=5, angle=0), HALF))
    y = torch.rand(1, 1, 24, 24, generator=rng())
    gallery = Gallery(making(operator), [Source(y)], [0, 1, 2, 3], rng())
    plan = _planned([Source(y)], (2.0, 2.0), VIEWS, rng())
    assert {view for *_, view in plan} == set(VIEWS)
    assert plan[0][1:] == (1.0, (0, 0), 0)
    for pair in gallery.pairs[:9]:
        base = starting_image("classical", operator.A(pair.father), operator)
        assert torch.allclose(pair.base, base, atol=2e-3)
    for pair, (_, size, (row, column), view) in zip(gallery.pairs, plan, strict=True):
        if size == 1:
            height, width = pair.father.shape[2:]
            assert torch.equal(pair.father, to_view(y, view)[..., row : row + height, column : column + width])


def test_fathers_that_are_not_to_be_turned() -> None:
    y = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).clone()  # brighter from left to right
    scaled = Making(published(turns=False, augmentation="scaled"), HALF, None, (2.0, 2.0))
    for source in (Gallery(making(turns=False), [Source(y)], VIEWS, rng()), Warped(scaled, [Source(y)], rng())):
        for _ in range(20):
            father = source.draw().father
            assert bool((father[..., -1] >= father[..., 0]).all())


def test_mapped_fathers() -> None:
    """Turned ones have the pixels themselves; those mapped affinely are of the same image."""
    y = star(64)
    warped = Warped(Making(published(crop=32), HALF, None, (2.0, 2.0)), [Source(y)], rng())
    values = set(y.flatten().tolist())
    exact = 0
    for _ in range(40):
        father = warped.draw().father
        assert father.shape == (1, 1, 32, 32)
        assert 0.3 < float(father.mean()) < 0.7
        exact += set(father.flatten().tolist()) <= values
    assert 10 < exact < 30


def test_noise_is_added_to_sons_alone() -> None:
    y = HALF.A(star(80)) * 0.5 + 0.25
    noisy = Making(zssr(base="bicubic"), HALF, PoissonNoise(gain=0.01), (2.0, 2.0)).pair(y, None, rng())
    clean = making(base="bicubic").pair(y, None, rng())
    assert torch.equal(noisy.father, clean.father)
    assert 0.02 < float((noisy.base - clean.base).std()) < 0.08
    more = making(base="bicubic", noise_level=0.05).pair(y, None, rng())
    assert 0.02 < float((more.base - clean.base).std()) < 0.06


# -- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [(1, 1), (2, 2), (1, 3), (4, 2)])
def test_blocks_of_pixels_as_channels(fold: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 7, 10)
    z = folded(x, fold)
    assert z.shape[1] == 3 * math.prod(fold)
    assert torch.equal(unfolded(z, fold)[..., :7, :10], x)


def test_the_network_begins_as_its_base() -> None:
    x = torch.rand(1, 2, 9, 12)
    network = ZeroShotNetwork(2, rng(), width=8, depth=4, fold=(2, 2), residual=0.1)
    assert torch.equal(network(x), x)
    as_published = ZeroShotNetwork(2, rng(), width=64, depth=8)
    assert all(layer.bias is None for layer in as_published.layers)
    weights = as_published.layers[3].weight.detach()
    assert float(weights.std()) == pytest.approx(math.sqrt(0.1 / (9 * 64)), rel=0.05)
    assert not torch.equal(as_published(x), x)


# -- memory -------------------------------------------------------------------------------------------------------


def test_memory() -> None:
    cpu = torch.device("cpu")

    def needs(size: int, **changes: Any) -> int:
        return ZSSR(**changes).memory((1, 1, size, size), None, cpu, (1, 1, 2 * size, 2 * size))

    assert 5e6 < needs(128) < needs(512) < needs(2048) < 8e9
    assert needs(512, width=128) > needs(512)
    assert needs(512, grid="fine") > needs(512)
    assert needs(512, snapshots=4) - needs(512) == pytest.approx(1.2 * 4 * 2 * 4 * 1024**2, rel=1e-6)
