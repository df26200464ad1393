"""Large images in tiles: the same as at once, whatever the network, the operator and the sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.device import limit_memory
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply, FineTune, Project, _plan, last_layer
from napari_fidelity.methods._examples import Crops
from napari_fidelity.methods._finetuning import Run
from napari_fidelity.methods._margin import measured_margin
from napari_fidelity.methods._tiles import Tiles, in_tiles
from napari_fidelity.methods.last_layer import Pass
from napari_fidelity.networks.enhancenet import EnhanceNet
from napari_fidelity.operators import Blur, Compose, Downsample, GaussianBlur, Identity, Mask
from napari_fidelity.operators.noise import PoissonNoise

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result

TILED = 24
EXACT = FineTune(iterations=3, precision="float32")
SEAM = 1e-3  # of the range: what is asked for
BLURRED = Compose(operators=(GaussianBlur(sigma=0.8), Downsample(scale=2)))


def enhancenet() -> EnhanceNet:
    torch.manual_seed(0)
    return EnhanceNet(n_channels=1, n_feats=8, n_blocks=1, factors=(2,)).eval()


def masked(x: np.ndarray[Any, Any]) -> Compose:
    seen = (np.random.default_rng(1).random(x.shape) < 0.8).astype(np.float32)
    return Compose(operators=(Downsample(scale=2), Mask(mask=seen)))


def tuned(method: FineTune, y: torch.Tensor, operator: Any, model: Any, **known: Any) -> Result[torch.Tensor]:
    return drain(method.steps(y, operator, model, **known))


@pytest.fixture
def y(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene(75, 61))[None, None]


# -- the same as at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["edsr", "enhancenet"])
@pytest.mark.parametrize("operator", ["downsample", "blurred", "masked"])
def test_tiled_is_untiled(model: str, operator: str, y: torch.Tensor, network: MakeNetwork) -> None:
    made = network(n_blocks=2) if model == "edsr" else enhancenet()
    A = {"downsample": Downsample(scale=2), "blurred": BLURRED, "masked": masked(y[0, 0].numpy())}[operator]
    whole = tuned(EXACT, y, A, made)
    tiled = tuned(EXACT.replace(tile=TILED), y, A, made)
    assert tiled.provenance["tile"] == TILED
    assert not tiled.provenance["blended"]
    assert whole.provenance == {}
    assert (whole.image - tiled.image).abs().max() < SEAM / 10
    losses = [[record.loss for record in result.history] for result in (whole, tiled)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[1][-1] != losses[1][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"last_layer": "descend"},
        {"views": 1, "average": False, "tv": 1e-3, "proximity": 1.0},
        {"mask": "edges"},
        {"pairs": 0.0},
        {"parameters": "low_rank"},
        {"parameters": "last"},
        {"optimizer": "sgd", "learning_rate": 0.01},
    ],
    ids=str,
)
def test_every_option(changes: dict[str, Any], y: torch.Tensor, network: MakeNetwork) -> None:
    method = EXACT.replace(**changes)
    images = [tuned(m, y, Downsample(scale=2), network()).image for m in (method, method.replace(tile=TILED))]
    assert (images[0] - images[1]).abs().max() < SEAM / 10


@pytest.mark.parametrize(
    "known", [{"weights": 0.3}, {"noise": PoissonNoise(gain=0.001)}], ids=["weights", "noise"]
)
def test_noise_and_unobserved_pixels(known: dict[str, Any], y: torch.Tensor, network: MakeNetwork) -> None:
    if "weights" in known:
        known = {"weights": (torch.rand(y.shape, generator=torch.Generator().manual_seed(0)) > 0.3).float()}
    methods = EXACT, EXACT.replace(tile=TILED)
    images = [tuned(method, y, Downsample(scale=2), network(), **known).image for method in methods]
    assert (images[0] - images[1]).abs().max() < SEAM / 10


def test_batches_and_kernels_that_do_not_separate(scene: Scene, network: MakeNetwork) -> None:
    y = torch.from_numpy(scene(2, 40, 70))[:, None]
    kernel = np.random.default_rng(0).random((5, 4))
    for border in ("reflect", "zero"):
        A = Compose(operators=(Blur(kernel=kernel, border=border), Downsample(scale=2)))
        images = [tuned(m, y, A, network()).image for m in (EXACT, EXACT.replace(tile=32))]
        assert (images[0] - images[1]).abs().max() < SEAM / 10


def test_windows_are_the_same_in_tiles(y: torch.Tensor, network: MakeNetwork, monkeypatch: Any) -> None:
    monkeypatch.setattr(last_layer, "MAX_ROWS", 3000)  # fewer than there are pixels
    images = [tuned(m, y, BLURRED, network()).image for m in (EXACT, EXACT.replace(tile=TILED))]
    assert (images[0] - images[1]).abs().max() < SEAM / 10
    monkeypatch.setattr(last_layer, "MAX_ROWS", 2**17)
    everything = tuned(EXACT, y, BLURRED, network()).image
    assert 0 < (images[0] - everything).abs().mean() < 0.02


def gradients(method: FineTune, y: torch.Tensor, network: MakeNetwork, index: int = 1) -> torch.Tensor:
    run = Run(method, y, BLURRED, network(n_blocks=4), noise=None, stop=None, weights=None, rng=0)
    run.objective.move(run._parameters())
    run.objective.descend(index, run.objective.evaluate(index, descends=True))
    return torch.cat([p.grad.flatten() for p in run.objective.parameters if p.grad is not None])


def test_gradients_are_those_of_the_whole_loss(y: torch.Tensor, network: MakeNetwork) -> None:
    whole, tiled, checkpointed = (
        gradients(method, y, network)
        for method in (EXACT, EXACT.replace(tile=TILED), EXACT.replace(checkpointing="on"))
    )
    assert (tiled - whole).norm() < 1e-3 * whole.norm()
    assert torch.equal(checkpointed, whole)


# -- steps from crops -------------------------------------------------------------------------------------------


def test_crops_go_through_all_tiles_before_any_comes_again() -> None:
    tiles = list(Tiles(16, 4).over((75, 61)))
    steps = [Crops(0.25, step, seed=3).of(tiles) for step in range(4)]
    assert sorted(tiles.index(tile) for step in steps for tile in step) == list(range(20))
    assert steps[0] != tiles[:5]
    assert Crops(0.25, 4, seed=3).of(tiles) == steps[0] != Crops(0.25, 0, seed=4).of(tiles)
    assert len(Crops(1e-3, 0, seed=3).of(tiles)) == 1
    assert sorted(map(tiles.index, Crops(7.0, 1, seed=3).of(tiles))) == list(range(20))


def test_the_gradient_of_crops_is_that_of_all_in_the_mean(y: torch.Tensor, network: MakeNetwork) -> None:
    method = EXACT.replace(views=1, tile=TILED)
    wanted, found = (
        gradients(method, y, network),
        [gradients(method.replace(crops=3), y, network, k) for k in range(4)],
    )
    assert not torch.allclose(found[0], found[1])  # 12 tiles, 3 at a time
    torch.testing.assert_close(torch.stack(found).mean(dim=0), wanted, rtol=1e-3, atol=1e-6)


def test_crops_are_drawn_by_the_seed_and_make_other_steps(y: torch.Tensor, network: MakeNetwork) -> None:
    method = EXACT.replace(tile=TILED, crops=1, learning_rate=1e-3)
    first, again, other = (tuned(method, y, Downsample(scale=2), network(), rng=seed).image for seed in (0, 0, 1))
    whole = tuned(method.replace(crops=None), y, Downsample(scale=2), network()).image
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, whole)
    assert (first - whole).abs().mean() < 0.01


def test_without_tiles_there_is_nothing_to_choose(y: torch.Tensor, network: MakeNetwork) -> None:
    images = [tuned(EXACT.replace(crops=crops), y, Downsample(scale=2), network()).image for crops in (1, None)]
    assert torch.equal(*images)


def test_twice_the_same_bits(y: torch.Tensor, network: MakeNetwork) -> None:
    one, two = (tuned(EXACT.replace(tile=TILED), y, BLURRED, network()).image for _ in range(2))
    assert torch.equal(one, two)


def test_the_tuned_network_runs_in_tiles_too(y: torch.Tensor, network: MakeNetwork) -> None:
    result = tuned(EXACT.replace(tile=TILED, average=False, project=False), y, Downsample(scale=2), network())
    with torch.no_grad():
        torch.testing.assert_close(result.network(y), result.image)
    assert result.network.tiling.tiles.side == TILED


# -- methods that run the network once --------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Apply(), Project()], ids=lambda method: method.kind)
def test_one_run(method: Any, y: torch.Tensor, network: MakeNetwork) -> None:
    model, A = network(n_blocks=3), Downsample(scale=2)
    whole, tiled = (drain(m.steps(y, A, model)) for m in (method, method.replace(tile=TILED)))
    assert 0 <= (whole.image - tiled.image).abs().max() < SEAM / 10
    assert tiled.provenance["tile"] == TILED


# -- tiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("shape", [(75, 61), (16, 200), (9, 7), (64, 64)])
def test_tiles_make_up_the_image(shape: tuple[int, int], blend: bool) -> None:
    y = torch.rand(2, 3, *shape)
    tiles = Tiles(24, 10, blend)
    enlarged = in_tiles(lambda z: z.repeat_interleave(2, 2).repeat_interleave(2, 3), y, tiles)
    torch.testing.assert_close(enlarged, y.repeat_interleave(2, 2).repeat_interleave(2, 3))
    for tile in tiles.over(shape):
        assert all(start % 8 == 0 and stop <= n for (start, stop), n in zip(tile.seen, shape, strict=True))


def test_margin_is_where_a_border_is_seen_no_more(y: torch.Tensor, network: MakeNetwork) -> None:
    model = network(n_blocks=2)  # seven convolutions of 3 × 3, the last of them at half the pixel size
    margin = measured_margin(lambda z: Pass(model(z)), y, 8)
    assert margin is not None
    assert 1 <= margin <= 1.25 * 7 + 1
    assert measured_margin(lambda z: Pass(z), y, 8) == 0
    assert measured_margin(lambda z: Pass(z - z.mean()), y, 8) is None


class Excited(nn.Module):
    """A network that looks at the whole image: squeeze and excitation, and attention over all pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        h = self.first(y) * torch.sigmoid(self.first(y).mean(dim=(2, 3), keepdim=True))
        small = nn.functional.adaptive_avg_pool2d(h, 4).flatten(2)
        attended = (torch.softmax(small.transpose(1, 2) @ small, -1) @ small.transpose(1, 2)).mean(1)
        return y + 0.1 * self.second(h + attended[:, :, None, None])


def test_networks_that_look_at_everything_are_blended(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    y = torch.from_numpy(scene(90, 140))[None, None]
    result = tuned(EXACT.replace(tile=48), y, GaussianBlur(sigma=1.0), Excited().eval())
    assert result.provenance["blended"]
    assert "blended" in caplog.text
    assert torch.isfinite(result.image).all()
    assert (result.image - y).abs().max() < 0.5


def test_what_cannot_be_tiled_is_run_at_once(y: torch.Tensor, network: MakeNetwork) -> None:
    class Told(nn.Module):
        takes_operator = True

        def __init__(self) -> None:
            super().__init__()
            self.inner = network(scale=1)

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return self.inner(y)

    result = tuned(EXACT.replace(tile=TILED), y, Identity(), Told().eval())
    assert result.provenance == {}


def test_an_operator_that_needs_the_whole_moves_all_layers(
    y: torch.Tensor, network: MakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "napari_fidelity")
    A = Compose(operators=(GaussianBlur(sigma=1.0, border="circular"), Downsample(scale=2)))
    result = tuned(EXACT.replace(tile=TILED), y, A, network())
    assert "all layers move by steps" in caplog.text
    assert result.history[-1].loss < result.history[0].loss


# -- memory -------------------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """A network for whose inputs above some size there is no memory."""

    def __init__(self, inner: nn.Module, most: int, *, gradients_only: bool = False) -> None:
        super().__init__()
        self.inner, self.most, self.gradients_only = inner, most, gradients_only
        self.seen: list[int] = []

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        size = max(y.shape[2:])
        if size > self.most and (torch.is_grad_enabled() or not self.gradients_only):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        output: torch.Tensor = self.inner(y)
        return output


@pytest.mark.parametrize("gradients_only", [False, True])
def test_out_of_memory_halves_the_tile(
    gradients_only: bool, y: torch.Tensor, network: MakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    model = Hungry(network(), 66, gradients_only=gradients_only).eval()
    result = tuned(EXACT, y, Downsample(scale=2), model)
    assert result.provenance["tile"] <= 32  # 75 / 2 is 37
    assert "memory ran out" in caplog.text
    assert len(result.history) == 4
    whole = tuned(EXACT, y, Downsample(scale=2), network())
    assert (whole.image - result.image).abs().max() < SEAM
    again = drain(Apply().steps(y, Downsample(scale=2), Hungry(network(), 66).eval()))
    assert again.provenance["tile"] == 32


def test_the_tuned_network_halves_its_tile_too(y: torch.Tensor, network: MakeNetwork) -> None:
    model = Hungry(network(), 200).eval()
    result = tuned(EXACT.replace(average=False, project=False), y, Downsample(scale=2), model)
    result.network.network.most = 66  # the copy that was tuned
    with torch.no_grad():
        torch.testing.assert_close(result.network(y), result.image)
    assert result.network.tiling.tiles.side <= 32


def test_a_margin_is_measured_on_as_much_as_the_network_takes(y: torch.Tensor, network: MakeNetwork) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if max(y.shape[2:]) > 60:
                raise RuntimeError("made for 60 x 60")
            output: torch.Tensor = self.inner(y)
            return output

    whole = drain(Apply().steps(y, Downsample(scale=2), network()))
    tiled = drain(Apply(tile=TILED).steps(y, Downsample(scale=2), Fixed().eval()))
    torch.testing.assert_close(tiled.image, whole.image, rtol=0, atol=SEAM / 10)


def test_below_the_smallest_tile_there_is_an_end(y: torch.Tensor, network: MakeNetwork) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        tuned(EXACT, y, Downsample(scale=2), Hungry(network(), 8).eval())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "SMALL", 0)


@pytest.mark.usefixtures("small")
def test_tiles_follow_the_memory(network: MakeNetwork) -> None:
    model, cpu = network(n_feats=32, n_blocks=8), torch.device("cpu")
    shape, method = (1, 1, 512, 512), FineTune(precision="float32")
    try:
        sides = []
        for limit in (4e9, 1.5e9, 4e8):
            limit_memory(int(limit))
            sides.append(method.settled(shape, model, cpu).tile)
            assert method.memory(shape, model, cpu) <= limit
        assert sides[0] is None
        assert sides[1] is not None
        assert sides[2] is not None
        assert 512 > sides[1] > sides[2] >= 64
        limit_memory(int(9.2e7))
        plans = [
            _plan.plan_finetuning(method.replace(checkpointing=choice), shape, model, cpu)
            for choice in ("off", "auto")
        ]
        assert [(plan.tile, plan.checkpointing) for plan in plans] == [(64, False), (64, True)]
        assert plans[0].needed > plans[1].needed
        limit_memory(2_000_000)
        assert Apply().settled(shape, model, cpu).tile == 64
        assert Project().memory(shape, model, cpu) > 2_000_000
    finally:
        limit_memory(None)


# -- checkpointing ------------------------------------------------------------------------------------------------


class Listed(nn.Module):
    """A foreign network that calls the blocks of a list one by one and ends inside of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            [nn.Conv2d(1, 4, 3, padding=1), *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))]
        )
        self.layers.append(nn.Conv2d(4, 1, 3, padding=1))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        h = y
        for layer in self.layers:
            h = layer(torch.relu(h))
        return y + h


@pytest.mark.parametrize("tile", [None, TILED])
@pytest.mark.parametrize("kind", ["edsr", "listed", "sequence"])
def test_checkpointing_changes_nothing(kind: str, tile: int | None, y: torch.Tensor, network: MakeNetwork) -> None:
    models = {
        "edsr": network(scale=1, n_blocks=4),
        "listed": Listed().eval(),
        "sequence": nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)).eval(),
    }
    method = EXACT.replace(tile=tile)
    results = [
        tuned(m, y, GaussianBlur(sigma=1.0), models[kind]) for m in (method, method.replace(checkpointing="on"))
    ]
    assert torch.equal(results[0].image, results[1].image)
    assert results[1].provenance["checkpointing"]
    assert "forward" not in models[kind].__dict__


def test_checkpointing_keeps_less() -> None:
    from napari_fidelity.methods._memory import footprint_of
    from napari_fidelity.networks.edsr import EDSR

    model = EDSR(n_channels=1, n_feats=16, n_blocks=16, scale=1)
    plain, less = (footprint_of(model, 1, checkpoints=checkpoints) for checkpoints in (False, True))
    assert plain is not None
    assert less is not None
    assert less.kept < 0.6 * plain.kept
