"""Networks of other origin: any size, one scale, and what a run forth and back tells of them."""

from __future__ import annotations

import copy
import pickle
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_fidelity.core.errors import ArchitectureError, ShapeError
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods.last_layer import first_pass
from napari_fidelity.networks.adapters import for_gray
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.probe import OTHER_NUMBERS, SAME_NUMBERS, examined
from napari_fidelity.networks.sizes import found_sizes
from napari_fidelity.operators import Downsample
from napari_fidelity.uncertainty import Dropout


class Strict(nn.Module):
    """Takes multiples of 8 from 16 on alone, and says which sizes it saw."""

    def __init__(self, channels: int = 3, factor: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, channels, 3, padding=1)
        self.factor, self.seen = factor, []

    def forward(self, y: Tensor) -> Tensor:
        if any(n % 8 or n < 16 for n in y.shape[2:]):
            raise ValueError("wrong size")
        self.seen.append(tuple(y.shape[2:]))
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return y + self.factor * self.last(self.conv(y).relu())


class Other(Strict):
    """Does something else behind the last layer."""

    def __init__(self, then: Any) -> None:
        super().__init__()
        self.then = then

    def forward(self, y: Tensor) -> Tensor:
        return self.then(super().forward(y))


def wrapped(module: nn.Module, channels: int = 3, scale: int = 2, **sizes: Any) -> ForeignNetwork:
    info = ModelInfo("", type(module).__name__, scale, channels, sum(p.numel() for p in module.parameters()))
    sizes = sizes or {"size_multiple": 8, "smallest": 16}
    return ForeignNetwork(module, scale=scale, n_channels=channels, info=info, **sizes)


@pytest.fixture
def network() -> ForeignNetwork:
    torch.manual_seed(0)
    return examined(wrapped(Strict())).eval()


@pytest.mark.parametrize("size", [(1, 1), (3, 29), (16, 16), (33, 29), (40, 17)])
def test_any_size_is_padded_and_cropped(network: ForeignNetwork, size: tuple[int, int]) -> None:
    network.module.seen.clear()
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, 2 * size[0], 2 * size[1])
    (seen,) = network.module.seen
    assert all(n % 8 == 0 and max(16, had) <= n < max(16, had) + 8 for n, had in zip(seen, size, strict=True))
    assert (network.info.size_multiple, network.info.smallest) == (8, 16)


def test_padding_mirrors_and_repeats_beyond(network: ForeignNetwork) -> None:
    y = torch.arange(12.0).reshape(1, 1, 3, 4)
    padded = wrapped(nn.Identity(), 1, 1, smallest=8)._padded(y)[0, 0]
    assert padded[0].tolist() == [0, 1, 2, 3, 2, 1, 0, 0]
    assert padded[:, 0].tolist() == [0, 4, 8, 4, 0, 0, 0, 0]


def test_the_image_stays_as_it_is() -> None:
    class InPlace(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            y *= 255
            return y / 255

    net, y = wrapped(InPlace(), 1, 1, smallest=8), torch.rand(1, 1, 8, 8)
    before = y.clone()
    assert torch.allclose(net(y), before)
    assert torch.equal(y, before)


def test_square_images() -> None:
    square = wrapped(nn.Identity(), 1, 1, size_multiple=4, square=True)
    assert square.padded_size(5, 17) == (20, 20)
    assert square(torch.rand(1, 1, 5, 17)).shape == (1, 1, 5, 17)


def test_what_does_not_fit_is_named(network: ForeignNetwork) -> None:
    with pytest.raises(ArchitectureError, match=r"Strict network works on images of 3 channels.*1 channel"):
        network(torch.rand(1, 1, 16, 16))
    with pytest.raises(ShapeError):
        network(torch.rand(3, 16, 16))
    with pytest.raises(ArchitectureError, match=r"makes no image of 3 channels, ×4.*\(1, 3, 32, 32\)"):
        wrapped(Strict(), scale=4)(torch.rand(1, 3, 16, 16))
    with pytest.raises(ArchitectureError, match="for ×2, asked for ×3"):
        network.to_scale(3)
    twin = network.to_scale(2)
    assert twin.last_layer is not network.last_layer
    assert twin.last_layer is twin.module.last


def test_the_probe_leaves_everything_as_it_was() -> None:
    torch.manual_seed(0)
    net = wrapped(Strict()).train()
    net.module.conv.weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    examined(net)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert all(p.grad is None and p.is_contiguous() for p in net.parameters())


def without_gradients(x: Tensor) -> Tensor:
    return x.detach()


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError("no way back\nand more lines")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda x: x, ""),
        (without_gradients, "cut off from its weights: by no_grad, detach or NumPy inside, or"),
        (lambda x: (x > 0).float(), "cut off from its weights: .* by comparisons"),
        (lambda x: torch.from_numpy(x.detach().numpy()), "cut off from its weights: .* NumPy"),
        (lambda x: (255 * x).to(torch.int32), r"makes whole numbers \(int32\)"),
        (_Fails.apply, "backward pass fails: no way back"),
        (lambda x: (x * 0).sqrt() + x, "gradients .* not finite"),
        (lambda x: x * 0, "no gradient reaches"),
    ],
)
def test_why_a_network_cannot_learn(then: Any, reason: str) -> None:
    torch.manual_seed(0)
    net = examined(wrapped(Other(then)))
    assert bool(net.info.untrainable) == bool(reason)
    assert re.search(reason, net.info.untrainable)
    y = torch.rand(1, 3, 9, 11)
    if not reason:
        return
    with pytest.raises(ArchitectureError, match=r"Other cannot be fine-tuned .*projection and maps still work"):
        next(FineTune().steps(y, Downsample(scale=2), net))
    for method in (Apply(), Project()):
        assert next(method.steps(y, Downsample(scale=2), net)).estimate().isfinite().all()


def test_why_one_that_returns_its_input_cannot_learn() -> None:
    class Unused(Strict):
        def forward(self, y: Tensor) -> Tensor:
            return y * 0.5

    reason = examined(wrapped(Unused(), scale=1)).info.untrainable
    assert reason == "no gradient reaches its weights: its output does not depend on them, or they are detached"


def test_the_trials_leave_nothing_in_a_network() -> None:
    class Keeps(Strict):
        def forward(self, y: Tensor) -> Tensor:
            self.last_output = super().forward(y)
            return self.last_output

    net = examined(wrapped(Keeps()))
    assert not hasattr(net.module, "last_output")
    assert copy.deepcopy(net).last_layer_name == "last"


@pytest.mark.parametrize(
    ("then", "found"),
    [
        (lambda x: x * float("nan"), "3072 values NaN, of 3072"),
        (lambda x: x / 0, "3072 values infinite, of 3072"),
        (lambda x: x + 1j, "complex64"),
        (
            lambda x: torch.cat([x[..., 1:] / 0, x[..., :1] * float("nan")], -1),
            "96 values NaN and 2976 values inf",
        ),
    ],
)
def test_a_network_that_makes_no_numbers_is_refused(then: Any, found: str) -> None:
    with pytest.raises(
        ArchitectureError, match=rf"Other network makes (no finite image of|complex) .*found: {found}"
    ):
        examined(wrapped(Other(then)))


def test_a_network_that_cannot_be_run_is_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"cannot be run on an image of 20 × 20 pixels.*wrong size"):
        examined(wrapped(Strict(), size_multiple=1, smallest=20))


def test_other_methods_take_one_that_cannot_learn() -> None:
    torch.manual_seed(0)
    net = examined(wrapped(Other(without_gradients)))
    steps = Dropout(of=Project(), passes=2, p=0.1).steps(torch.rand(1, 3, 9, 11), Downsample(scale=2), net)
    assert [step.estimate().isfinite().all().item() for step in steps][-1]


@pytest.mark.parametrize(
    ("module", "verified"),
    [
        (Strict(), True),
        (Strict(factor=-1), False),  # as DnCNN: what the layer makes is taken away
        (Strict(factor=0.2), False),
        (Other(torch.sigmoid), False),
        (Other(lambda x: x * x), False),
    ],
)
def test_the_last_layer_is_verified(module: nn.Module, verified: bool) -> None:
    net = examined(wrapped(module)).eval()
    assert (net.last_layer is module.last) == verified
    assert (first_pass(net, torch.rand(1, 3, 16, 24)).layer is not None) == verified
    # at other sizes, which are padded, too: what is cut off lies at the end
    assert (first_pass(net, torch.rand(1, 3, 17, 24)).layer is not None) == verified


def test_networks_whose_layout_matters_keep_it() -> None:
    class Flat(Strict):
        def forward(self, y: Tensor) -> Tensor:
            return super().forward(y.view(len(y), -1).view(y.shape))

    net = examined(wrapped(Flat()))
    assert (net.takes_channels_last, net.info.untrainable) == (False, "")
    assert examined(wrapped(Strict())).takes_channels_last
    steps = FineTune(iterations=1).steps(torch.rand(1, 3, 17, 16), Downsample(scale=2), net)
    assert len(list(steps)) == 2


def test_gray_images_through_rgb_and_a_way_back(network: ForeignNetwork) -> None:
    assert for_gray(network)(torch.rand(5, 1, 9, 8)).shape == (5, 1, 18, 16)
    with pytest.raises(ArchitectureError, match="4 channels"):
        for_gray(wrapped(Strict(4), channels=4))


def test_noise_level_is_handed_on() -> None:
    class Level(nn.Module):
        takes_noise_level = True

        def forward(self, y: Tensor, sigma: Any = None) -> Tensor:
            return y * 0 + (0.0 if sigma is None else sigma)

    net = wrapped(Level(), 1, 1, smallest=8)
    assert net.takes_noise_level
    assert float(net(torch.rand(1, 1, 3, 3), 0.25).max()) == 0.25


class Draws(nn.Module):
    """Adds noise of torch, or of a source of its own."""

    def __init__(self, own: torch.Generator | None = None) -> None:
        super().__init__()
        self.own = own

    def forward(self, y: Tensor) -> Tensor:
        return y + torch.rand(y.shape, generator=self.own)


def test_random_networks_draw_the_same_each_time(caplog: pytest.LogCaptureFixture) -> None:
    net, y = examined(wrapped(Draws(), 1, 1, smallest=8)), torch.rand(2, 1, 9, 11)
    assert net.info.random_numbers == SAME_NUMBERS
    assert torch.equal(net(y), net(y))
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    net(y)
    assert torch.equal(torch.rand(2), wanted)
    assert not caplog.records
    assert examined(wrapped(Strict())).info.random_numbers == ""


class DrawsTwice(nn.Module):
    """Draws, and some time later again."""

    def forward(self, y: Tensor) -> Tensor:
        first = torch.rand(y.shape)
        time.sleep(0.02)
        return y + first + torch.rand(y.shape)


def test_random_networks_draw_the_same_in_several_threads() -> None:
    net, y = examined(wrapped(DrawsTwice(), 1, 1, smallest=8)), torch.rand(1, 1, 8, 8)
    assert net.info.random_numbers == SAME_NUMBERS
    wanted, together = net(y), threading.Barrier(3)

    def run(_: int) -> Tensor:
        together.wait()
        made: Tensor = net(y)
        return made

    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(3) as threads:
        assert all(torch.equal(made, wanted) for made in threads.map(run, range(3)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_random_network_inside_another_one() -> None:
    inner = examined(wrapped(Draws(), 1, 1, smallest=8))
    outer, y = wrapped(inner, 1, 1, smallest=8), torch.rand(1, 1, 8, 8)
    outer.same_numbers = True
    assert torch.equal(outer(y), inner(y))


def test_results_that_do_not_replay_are_said(caplog: pytest.LogCaptureFixture) -> None:
    net = examined(wrapped(Draws(torch.Generator().manual_seed(0)), 1, 1, smallest=8))
    assert net.info.random_numbers == OTHER_NUMBERS
    assert "Draws network does not make the same of an image twice" in caplog.text


def test_batches_that_a_network_does_not_take_run_one_by_one() -> None:
    class Single(Strict):
        def forward(self, y: Tensor) -> Tensor:
            assert len(y) == 1
            return super().forward(y)

    class Mixing(Strict):
        def forward(self, y: Tensor) -> Tensor:
            return super().forward(y - y.mean(dim=0, keepdim=True))

    assert not examined(wrapped(Strict())).one_by_one
    for module in (Single(), Mixing()):
        net = examined(wrapped(module))
        assert net.one_by_one
        y = torch.rand(3, 3, 9, 8)
        torch.testing.assert_close(net(y), torch.cat([net(one[None]) for one in y]))


def test_sizes_are_found_by_trials() -> None:
    assert found_sizes(Strict()) == (3, 2, 8, 16)
    assert found_sizes(Strict(1)) == (1, 2, 8, 16)
    assert found_sizes(nn.Conv2d(3, 3, 3, padding=1)) == (3, 1, 1, 1)
    assert found_sizes(nn.Conv2d(2, 2, 3, padding=1)) is None
    assert found_sizes(nn.AvgPool2d(2)) is None


def test_they_can_be_sent_elsewhere(network: ForeignNetwork) -> None:
    again = pickle.loads(pickle.dumps(wrapped(nn.Conv2d(1, 1, 3, padding=1), 1, 1, smallest=1)))
    assert again(torch.rand(1, 1, 3, 4)).shape == (1, 1, 3, 4)
