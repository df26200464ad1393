"""Untrained networks: the function written down from the papers, at every size, from one source of chance."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.networks._enlarged import _Differences
from napari_fidelity.networks.untrained import UNTRAINED, DeepDecoder, Skip, describe, parse_untrained

SIZES = [
    (1, 1),
    (1, 9),
    (2, 3),
    (7, 8),
    (8, 8),
    (33, 20),
    (64, 64),
    (1, 1, 1),
    (4, 9, 17),
    (8, 16, 16),
    (1, 24, 5),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(network: nn.Module, z: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return an image, and the gradients of an uneven sum of it: of the input and of all weights."""
    z = z.clone().requires_grad_()
    image = network(z)
    loss = (image * torch.linspace(-1, 1, image.numel(), dtype=image.dtype).view_as(image)).sum()
    return image.detach(), list(torch.autograd.grad(loss, [z, *network.parameters()]))


def stirred(network: nn.Module) -> nn.Module:
    """Return the network in float64 with weights unlike those it began with, so that none is 0 or 1."""
    network = network.double()
    with torch.no_grad():
        for p in network.parameters():
            p += 0.3 * torch.randn(p.shape, generator=seeded(7), dtype=p.dtype)
    return network


# -- declarations -----------------------------------------------------------------------------------------------


def test_text_and_table() -> None:
    network = parse_untrained("skip:width=64,skip=0")
    assert network == Skip(width=64, skip=0)
    assert parse_untrained(describe(network)) == network
    assert parse_untrained({"kind": "deep_decoder", "scales": 3}) == DeepDecoder(scales=3)
    assert parse_untrained(network) is network
    with pytest.raises(OptionError, match="deep_decoder, skip"):
        parse_untrained("unet")
    with pytest.raises(OptionError, match="width"):
        Skip(width=0)


def test_declarations_load_no_torch() -> None:
    code = "import sys, napari_fidelity.networks.untrained as u; u.Skip(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("declared", UNTRAINED)
def test_impossible_images(declared: Any) -> None:
    for channels, shape in [((3, 3), (8,)), ((3, 3), (8, 0)), ((3, 3), (2, 2, 2, 2)), ((0, 3), (8, 8))]:
        with pytest.raises(ShapeError):
            declared().build(*channels, shape, seeded())
    network = declared(width=4).build(2, 1, (8, 8), seeded())
    with pytest.raises(ShapeError, match="input has shape"):
        network(torch.zeros(1, 3, 8, 8))


def test_fewer_features_for_volumes() -> None:
    assert [Skip().features(ndim) for ndim in (2, 3)] == [64, 32]
    assert Skip(width=7).features(3) == 7


# -- any size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", UNTRAINED)
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(("bfloat16", "least"), [(False, 1000), (True, 1000), (True, 0)])
def test_every_size(
    declared: Any, shape: tuple[int, ...], bfloat16: bool, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fidelity.networks.skip._LEAST", least)
    network = declared(width=6).build(5, 2, shape, seeded())
    z = torch.rand(2, *network.input_shape, generator=seeded(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        image = network(z)
    assert image.shape == (2, 2, *shape)
    assert image.dtype == torch.float32
    assert 0 <= image.min() and image.max() <= 1
    image.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("declared", UNTRAINED)
def test_weights_come_from_the_generator_alone(declared: Any) -> None:
    def weights(seed: int) -> torch.Tensor:
        network = declared(width=6).build(5, 2, (16, 16), seeded(seed))
        return torch.cat([p.flatten() for p in network.parameters()])

    before = torch.get_rng_state()
    first = weights(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


@pytest.mark.parametrize("declared", UNTRAINED)
def test_without_sigmoid(declared: Any) -> None:
    network = declared(width=6).build(5, 2, (16, 16), seeded())
    z = torch.rand(1, *network.input_shape, generator=seeded(1))
    image = network(z)
    network.sigmoid = False
    torch.testing.assert_close(torch.sigmoid(network(z)), image)


@pytest.mark.parametrize("declared", UNTRAINED)
def test_layout_of_the_input_does_not_matter(declared: Any) -> None:
    network = declared(width=6).build(5, 2, (16, 24), seeded())
    z = torch.rand(1, *network.input_shape, generator=seeded(1))
    torch.testing.assert_close(network(z.contiguous(memory_format=torch.channels_last)), network(z))


@pytest.mark.parametrize("declared", UNTRAINED)
@pytest.mark.parametrize("shape", [(32, 48), (31, 48), (8, 16, 16)], ids=str)
def test_bfloat16_is_close(declared: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fidelity.networks.skip._LEAST", 0)
    network = declared(width=16).build(8, 3, shape, seeded())
    z = torch.rand(1, *network.input_shape, generator=seeded(1))
    image = network(z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(z)
    assert (rounded - image).square().mean().sqrt() < 0.05 * image.std()


# -- as written down from the papers ----------------------------------------------------------------------------


class Plain:
    """The skip network layer by layer with torch's own modules, from the weights of ours."""

    def __init__(self, network: Any, ndim: int) -> None:
        self.network, self.ndim = network, ndim
        self.convolve = F.conv2d if ndim == 2 else F.conv3d

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        for axis in range(2, x.ndim):
            n = x.shape[axis]
            order = [1, *range(n), n - 2] if n > 1 else [0, 0, 0]
            x = x.index_select(axis, torch.tensor(order))
        return x

    def normalise(self, x: torch.Tensor, norm: Any) -> torch.Tensor:
        bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
        return F.batch_norm(x, None, None, norm.weight, bias, training=True)

    def layer(self, x: torch.Tensor, layer: Any, stride: Any = 1) -> torch.Tensor:
        weight = layer.conv.weight
        x = self.convolve(self.pad(x) if weight.shape[-1] == 3 else x, weight, None, stride)
        return F.leaky_relu(self.normalise(x, layer.norm), 0.2)

    def scale(self, x: torch.Tensor, index: int) -> torch.Tensor:
        scale = self.network.scales[index]
        skipped = [] if scale.skip is None else [self.layer(x, scale.skip)]
        stride = tuple(2 if n >= 8 else 1 for n in x.shape[2:])
        deep = self.layer(self.layer(x, scale.halve, stride), scale.deepen)
        if index + 1 < len(self.network.scales):
            deep = self.scale(deep, index + 1)
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        deep = F.interpolate(deep, scale_factor=tuple(map(float, stride)), mode=mode)
        deep = deep[tuple(slice(0, n) for n in (*deep.shape[:2], *x.shape[2:]))]
        joined = self.normalise(torch.cat([*skipped, deep], 1), scale.norm)
        return self.layer(self.layer(joined, scale.join), scale.mix)

    def parameters(self) -> Any:
        return self.network.parameters()

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        x = self.scale(z, 0)
        return torch.sigmoid(self.convolve(x, self.network.last.weight, self.network.last.bias))


@pytest.mark.parametrize("skip", [2, 0])
@pytest.mark.parametrize(
    "shape",
    [(8, 8), (32, 48), (33, 20), (8, 1), (6, 32), (40, 12), (16, 8, 16), (4, 16, 9), (1, 16, 8), (16, 5, 8)],
    ids=str,
)
@pytest.mark.parametrize("least", [0, 10**9], ids=["before enlargement", "enlarged"])
def test_skip_network_is_the_published_one(
    shape: tuple[int, ...], skip: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fidelity.networks.skip._LEAST", least)
    network = stirred(Skip(width=5, scales=3, skip=skip).build(4, 2, shape, seeded()))
    z = torch.rand(2, *network.input_shape, generator=seeded(1), dtype=torch.float64)
    image, found = gradients(network, z)
    expected, right = gradients(Plain(network, len(shape)), z)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-12)
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * (1 + float(b.abs().max())))


def test_number_of_scales() -> None:
    def scales(shape: tuple[int, ...], most: int = 5) -> int:
        return len(Skip(width=2, scales=most).build(1, 1, shape, seeded()).scales)

    assert scales((256, 256)) == scales((256, 4)) == 5
    assert scales((256, 256), 2) == 2
    assert [scales((n, n)) for n in (1, 8, 16, 32)] == [1, 1, 2, 3]


def test_deep_decoder_is_the_published_one() -> None:
    network = stirred(DeepDecoder(width=5, scales=2).build(3, 2, (33, 12), seeded()))
    assert network.input_shape == (3, 9, 6)
    z = torch.rand(1, 3, 9, 6, generator=seeded(1), dtype=torch.float64)
    x = z
    for layer, size in zip(network.layers, [(17, 6), (33, 12), (33, 12)], strict=True):
        x = F.conv2d(x, layer.conv.weight)
        factors = tuple(float(-(-n // m)) for n, m in zip(size, x.shape[2:], strict=True))
        x = F.interpolate(x, scale_factor=factors, mode="bilinear")[..., : size[0], : size[1]].relu()
        x = F.batch_norm(x, None, None, layer.norm.weight, layer.norm.bias, training=True)
    torch.testing.assert_close(network(z), torch.sigmoid(F.conv2d(x, network.last.weight)))


# -- use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", UNTRAINED)
def test_fits_an_image(declared: Any) -> None:
    network = declared(width=16).build(8, 1, (32, 32), seeded())
    z = 0.1 * torch.rand(1, *network.input_shape, generator=seeded(1))
    image = torch.linspace(0.2, 0.8, 32).expand(1, 1, 32, 32).clone()
    image[..., 8:20, 10:24] = 0.9
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = (network(z) - image).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("declared", UNTRAINED)
@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (16, 24, 24)], ids=str)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_memory_is_that_of_the_tensors_kept(declared: Any, shape: tuple[int, ...], bfloat16: bool) -> None:
    declaration = declared(width=32)
    network = declaration.build(32, 1, shape, seeded())
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    z = torch.rand(1, *network.input_shape)
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        image = network(z)
    assert image.requires_grad
    bytes_kept = sum(n for pointer, n in kept.items() if pointer not in weights)
    assert 0.3 < bytes_kept / declaration.memory(shape, bfloat16=bfloat16) < 1.2


def test_variance_of_channels_far_from_zero() -> None:
    x = (1 + 0.01 * torch.randn(1, 4, 40, 48, generator=seeded())).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    found, *_ = _Differences.apply(x, (2, 3))
    expected = F.interpolate(x.double(), scale_factor=2, mode="bilinear").var([0, 2, 3], unbiased=False)
    torch.testing.assert_close(found.double(), expected, rtol=0.03, atol=0)
