"""Networks that are told the operator, through every method, map and estimate of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity import Image, assess, restore
from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods._memory import footprint_of
from napari_fidelity.methods.apply import tiling_for
from napari_fidelity.networks.adapters import for_operator
from napari_fidelity.operators import Downsample, GaussianBlur, GaussianNoise, Identity, Mask
from napari_fidelity.pipeline import Recipe
from napari_fidelity.pipeline._blocks import BlockRun
from napari_fidelity.pipeline.memory import memory_needed
from napari_fidelity.uncertainty import Bootstrap, Dropout, Ensemble, NullSpace

if TYPE_CHECKING:
    from conftest import Scene
    from napari_fidelity.operators import Operator

pytest.importorskip("deepinv", reason="deepinv is an extra")

SEEN = (np.random.default_rng(1).random((24, 28)) > 0.4).astype(np.float32)
OPERATORS = {
    "identity": Identity(),
    "blur": GaussianBlur(sigma=1.0),
    "mask": Mask(mask=SEEN),
    "downsample": Downsample(scale=2),
    "both": Downsample(scale=2) @ GaussianBlur(sigma=0.8),
}


class Unrolled(nn.Module):
    """Two steps of a convolutional correction and of the data, with learned weights."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.gamma = nn.Parameter(torch.full((2,), 2.0))
        self.seen: list[tuple[tuple[int, ...], float]] = []

    def forward(self, y: torch.Tensor, physics: Any) -> torch.Tensor:
        self.seen.append((tuple(y.shape), float(physics.noise_model.sigma)))
        x = physics.A_dagger(y)
        for conv, gamma in zip(self.conv, self.gamma, strict=True):
            x = physics.prox_l2(x + 0.1 * conv(x), y, gamma)
        return x


def network(channels: int = 1) -> Unrolled:
    torch.manual_seed(0)
    return Unrolled(channels)


def measured(operator: Operator, scene: Scene, *shape: int) -> np.ndarray[Any, Any]:
    x = torch.from_numpy(scene(*shape))[None, None]
    return operator.A(x)[0, 0].numpy()


METHODS = [Apply(), Project(), FineTune(iterations=2, precision="float32")]


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_every_method_runs_it(kind: str, method: Any, scene: Scene) -> None:
    operator = OPERATORS[kind]
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = restore(
        measured(operator, scene, 24, 28), operator=operator, method=method, model=model,
        noise=GaussianNoise(sigma=0.01), device="cpu",
    )  # fmt: skip
    assert result.image.data.shape == (24, 28)
    assert np.isfinite(result.image.data).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training  # as it was given


def test_apply_is_the_network_on_the_scaled_measurement(scene: Scene) -> None:
    operator, model = Downsample(scale=2), network()
    y = measured(operator, scene, 24, 28)
    result = restore(y, operator=operator, method=Apply(), model=model, device="cpu", scaling="none")
    with torch.no_grad():
        wanted = for_operator(model, operator)(torch.from_numpy(y)[None, None])
    assert np.allclose(result.image.data, wanted[0, 0].numpy(), atol=1e-6)


def test_the_recipe_s_noise_is_told_in_the_scaled_range(scene: Scene) -> None:
    """Of each slice, where the scaling differs from slice to slice."""
    stack = np.stack([1000 * scene(12, 14), 4000 * scene(12, 14, seed=1)]).astype(np.float32)
    model = network().eval()  # in training mode, a copy would run
    restore(
        Image.from_array(stack, axes="ZYX"), operator=Identity(), method=Apply(), model=model, device="cpu",
        noise=GaussianNoise(sigma=10.0), scaling="minmax", scope="slice",
    )  # fmt: skip
    extents = [np.ptp(plane) for plane in stack]
    assert [level for _, level in model.seen] == pytest.approx([10 / extent for extent in extents], rel=1e-5)


def test_fine_tuning_moves_all_of_it_and_shows_it_the_coarser_copy(scene: Scene) -> None:
    operator, model = Downsample(scale=2), network()
    method = FineTune(iterations=2, precision="float32", learning_rate=1e-2, project=False)
    y = measured(operator, scene, 48, 48)
    images = [
        restore(y, operator=operator, method=m, model=model, device="cpu", scaling="none").image.data
        for m in (method, method.replace(iterations=0, views=1))
    ]
    assert np.abs(images[0] - images[1]).max() > 1e-3
    from napari_fidelity.methods._finetuning import Run

    tensor = torch.from_numpy(y)[None, None]
    bound = for_operator(model, operator)
    run = Run(method, tensor, operator, bound, noise=None, stop=None, weights=None, rng=0)
    assert run.last is None  # its last convolution is followed by the data
    assert len(run.views) == 8
    list(run.steps())
    assert {shape[2:] for shape, _ in run.network.network.seen} == {(24, 24), (12, 12)}
    moved = [not torch.equal(a, b) for a, b in zip(run.network.parameters(), bound.parameters(), strict=True)]
    assert all(moved)


def test_a_mask_is_looked_at_in_one_view(scene: Scene) -> None:
    from napari_fidelity.methods._finetuning import Run

    mask = Mask(mask=SEEN)
    y = torch.from_numpy(measured(mask, scene, 24, 28))[None, None]
    run = Run(
        FineTune(iterations=1, precision="float32"), y, mask, for_operator(network(), mask),
        noise=None, stop=None, weights=None, rng=0,
    )  # fmt: skip
    assert list(run.views) == [0]
    plain = Run(
        FineTune(iterations=1, precision="float32"), y, mask, nn.Conv2d(1, 1, 3, padding=1),
        noise=None, stop=None, weights=None, rng=0,
    )  # fmt: skip
    assert len(plain.views) == 8


def test_it_is_shown_the_measurement_also_behind_a_blur(scene: Scene) -> None:
    """A plain network for downsampling would be shown the downsampled image of its own output."""
    from napari_fidelity.methods._finetuning import Run

    operator = OPERATORS["both"]
    y = torch.from_numpy(measured(operator, scene, 24, 28))[None, None]
    bound = for_operator(network(), operator)
    run = Run(FineTune(iterations=0), y, operator, bound, noise=None, stop=None, weights=None, rng=0)
    assert run.shown is y


@pytest.mark.parametrize(
    "map",
    [
        Bootstrap(samples=2, of=Apply()),
        Bootstrap(samples=2, of=FineTune(iterations=1, precision="float32")),
        Ensemble(members=2, of=Apply()),
        Dropout(passes=2, of=Apply(), p=0.1),
        NullSpace(of=Apply()),
    ],
    ids=["bootstrap", "fast bootstrap", "ensemble", "dropout", "null space"],
)
def test_maps(map: Any, scene: Scene) -> None:
    operator = Downsample(scale=2)
    y = measured(operator, scene, 24, 28)
    result = assess(
        None, map, measurement=y, operator=operator, model=network(), noise=GaussianNoise(sigma=0.01), device="cpu"
    )
    assert result.image.data.shape == (24, 28)
    assert np.isfinite(result.image.data).all()


def test_no_views_of_a_network_that_would_be_told_another_mask(scene: Scene) -> None:
    mask = Mask(mask=SEEN)
    with pytest.raises(OptionError, match="no flip or turn"):
        assess(
            None, Ensemble(members=2, of=Apply()), measurement=measured(mask, scene, 24, 28), operator=mask,
            model=network(), noise=GaussianNoise(sigma=0.01), device="cpu",
        )  # fmt: skip


def test_memory_is_that_of_the_bound_network(scene: Scene) -> None:
    operator = Downsample(scale=2)
    image = Image.from_array(measured(operator, scene, 128, 128))
    recipe = Recipe(operator=operator, method=Apply())
    needed = memory_needed(recipe, image, "cpu", network=network())
    found = footprint_of(for_operator(network(), operator), 1)
    assert found is not None
    assert needed.method == round(found.without_gradients(64 * 64))
    assert footprint_of(for_operator(network(), Mask(mask=SEEN)), 1) is None  # for that one size alone


def test_large_images_behind_a_mask_are_tuned_without_an_estimate(scene: Scene) -> None:
    mask = Mask(mask=(scene(256, 256) > 0.4).astype(np.float32))
    method = FineTune(iterations=1, precision="float32")
    result = restore(scene(256, 256), operator=mask, method=method, model=network(), device="cpu")
    assert result.image.data.shape == (256, 256)


def test_other_operators_are_refused(scene: Scene) -> None:
    class Bare:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x

        A_adjoint = A

    with pytest.raises(OperatorError, match="does not understand this one"):
        restore(scene(8, 8), operator=Bare(), method=Apply(), model=network(), device="cpu")


def test_other_networks_are_not_bound(scene: Scene) -> None:
    recipe = Recipe(operator=Identity(), method=Apply())
    plain = nn.Conv2d(1, 1, 3, padding=1)
    run = BlockRun(recipe, Image.from_array(scene(8, 8)), None, plain, Identity(), torch.device("cpu"))
    assert run.told(None) is plain


def test_it_is_never_run_in_tiles(scene: Scene) -> None:
    bound = for_operator(network(), GaussianBlur(sigma=1.0))  # which does not say by itself that it takes it
    y = torch.from_numpy(scene(48, 56))[None, None]
    assert tiling_for(Apply(tile=16), y, bound).tiles is None
    assert tiling_for(Apply(tile=16), y, nn.Conv2d(1, 1, 3, padding=1)).tiles is not None
