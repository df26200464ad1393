"""EnhanceNet: shapes, the TensorFlow 1 skip, detection from weights, scale surgery."""

from __future__ import annotations

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError, ModelFileError, ShapeError
from napari_fidelity.networks.blocks import tf1_bicubic
from napari_fidelity.networks.enhancenet import EnhanceNet


def network(**config: object) -> EnhanceNet:
    torch.manual_seed(0)
    return EnhanceNet(**{"n_feats": 5, "n_blocks": 2, **config}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("factors", [(2, 2), (2, 1), (3, 1), (3,), (1,)])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 7)])
def test_any_size_and_channel_count(n_channels: int, factors: tuple[int, ...], size: tuple[int, int]) -> None:
    net = network(n_channels=n_channels, factors=factors)
    output = net(torch.rand(2, n_channels, *size))
    assert output.shape == (2, n_channels, net.scale * size[0], net.scale * size[1])
    assert torch.isfinite(output).all()


def test_the_default_is_the_published_network() -> None:
    net = EnhanceNet()
    assert (net.info.n_parameters, net.scale, net.n_channels) == (852_867, 4, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_feats": 0},
        {"n_blocks": 10**9},
        {"n_channels": True},
        {"factors": ()},
        {"factors": "22"},
        {"factors": 4},
        {"factors": (2, 0)},
        {"factors": (4, 4, 4)},
        {"mean": (0.5,)},
        {"mean": ("a", "b", "c")},
        {"mean": (0.5, 0.5, float("nan"))},
    ],
)
def test_impossible_settings_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError, match="EnhanceNet"):
        network(**bad)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.rand(1, 1, 8, 8), ArchitectureError, r"3 channels \(found: an image of 1 channel"),
        (torch.rand(3, 8, 8), ShapeError, "N, C, H, W"),
        (torch.rand(1, 3, 0, 8), ShapeError, "empty"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ShapeError, "uint8"),
    ],
)
def test_wrong_input_is_named(x: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network()(x)


def test_the_skip_samples_where_tensorflow_1_did() -> None:
    ramp = torch.arange(8, dtype=torch.float64).expand(1, 1, 5, 8) / 8
    enlarged = tf1_bicubic(ramp, 4)
    assert enlarged.shape == (1, 1, 20, 32)
    # a = -0.75 is not linear in between, but hits the samples, and these lie at multiples of the scale
    assert torch.equal(enlarged[0, 0, 0, ::4], ramp[0, 0, 0])
    # Keys' kernel at 1/2 with a = -0.75: (-3, 19, 19, -3) / 32
    assert float(enlarged[0, 0, 9, 14]) == pytest.approx((-3 * 2 + 19 * 3 + 19 * 4 - 3 * 5) / 32 / 8)
    assert torch.allclose(tf1_bicubic(torch.full((1, 1, 1, 1), 0.7), 3), torch.full((1, 1, 3, 3), 0.7))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_skip_agrees_with_torch_asked_for_the_same_points(scale: int) -> None:
    x = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    y_at, x_at = (2 * (torch.arange(n * scale, dtype=torch.float64) / scale + 0.5) / n - 1 for n in (6, 7))
    grid = torch.stack(torch.meshgrid(y_at, x_at, indexing="ij")[::-1], -1)[None]
    expected = torch.nn.functional.grid_sample(x, grid, "bicubic", "border", align_corners=False)
    assert torch.allclose(tf1_bicubic(x, scale), expected, atol=1e-12)


def test_the_skip_keeps_its_precision_under_autocast() -> None:
    net = network()
    x = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        net.tail.weight.zero_()
        net.tail.bias.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            output = net(x)
    assert torch.equal(output, tf1_bicubic(x, 4))


def test_the_output_is_affine_in_the_last_layer() -> None:
    net = network()
    x = torch.rand(1, 3, 4, 4)
    kept: list[torch.Tensor] = []
    net.last_layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    assert torch.equal(net(x), kept[0] + tf1_bicubic(x, 4))


def test_surgery_to_two_drops_the_second_interpolation_alone() -> None:
    four = network()
    two = four.to_scale(2)
    x = torch.rand(1, 3, 5, 6)
    h = torch.relu(four.head(x - torch.tensor(four.mean)[:, None, None]))
    h = four.blocks(h).repeat_interleave(2, -1).repeat_interleave(2, -2)
    for conv in four.upsampler.values():
        h = torch.relu(conv(h))
    expected = four.tail(torch.relu(four.refine(h))) + tf1_bicubic(x, 2)
    assert torch.allclose(two(x), expected, atol=1e-6)
    assert (two.scale, two.factors, two.info.scale, two.training) == (2, (2, 1), 2, False)


def test_surgery_to_three_is_one_interpolation() -> None:
    three = network().to_scale(3)
    assert three.factors == (3, 1)
    assert three(torch.rand(1, 3, 4, 5)).shape == (1, 3, 12, 15)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_surgery_shares_no_storage(scale: int) -> None:
    four = network()
    own = {p.untyped_storage().data_ptr() for p in four.parameters()}
    other = {p.untyped_storage().data_ptr() for p in four.to_scale(scale).parameters()}
    assert not own & other


def test_surgery_leaves_random_numbers_alone() -> None:
    net = network()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    net.to_scale(2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("factors", "scale"), [((2, 2), 8), ((2, 2), 1), ((2, 1), 4), ((3, 1), 2), ((2, 2), 0)])
def test_other_surgery_is_refused_with_the_reason(factors: tuple[int, ...], scale: int) -> None:
    with pytest.raises(ArchitectureError, match=r"never trained"):
        network(factors=factors).to_scale(scale)


def test_weights_go_in_whole_or_not_at_all() -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    broken = {name: tensor + 1 for name, tensor in before.items()}
    broken["tail.bias"][1] = float("nan")
    with pytest.raises(ModelFileError, match=r"tail\.bias.*1 of 3"):
        net.load_weights(broken)
    with pytest.raises(ArchitectureError, match="missing"):
        net.load_weights({k: v for k, v in before.items() if k != "head.bias"})
    with pytest.raises(ArchitectureError, match="'x' not known"):
        net.load_weights({**before, "x": torch.zeros(1)})
    with pytest.raises(ArchitectureError, match="int64"):
        net.load_weights({**before, "head.bias": torch.zeros(5, dtype=torch.int64)})
    with pytest.raises(ArchitectureError, match="ordinary tensor"):
        net.load_weights({**before, "head.bias": [0.0] * 5})
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
