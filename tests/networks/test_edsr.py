"""EDSR: shapes, arithmetic of the start, detection from weights, scale surgery."""

from __future__ import annotations

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError, ModelError, ShapeError
from napari_fidelity.networks import registry
from napari_fidelity.networks.edsr import EDSR

SMALL = {"n_feats": 6, "n_blocks": 2}


def network(**config: object) -> EDSR:
    torch.manual_seed(0)
    return EDSR(**{**SMALL, **config})  # type: ignore[arg-type]


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 7)])
def test_any_size_and_channel_count(n_channels: int, scale: int, size: tuple[int, int]) -> None:
    output = network(n_channels=n_channels, scale=scale)(torch.rand(2, n_channels, *size))
    assert output.shape == (2, n_channels, scale * size[0], scale * size[1])


@pytest.mark.parametrize(
    "bad", [{"scale": 5}, {"n_feats": 0}, {"n_channels": 0}, {"mean": (0.5,)}, {"mean": 1}, {"res_scale": None}]
)
def test_impossible_settings_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError):
        network(**bad)


@pytest.mark.parametrize(("shape", "error"), [((1, 1, 8, 8), ArchitectureError), ((3, 8, 8), ShapeError)])
def test_wrong_input_is_named(shape: tuple[int, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        network()(torch.rand(shape))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_detected_again_from_its_weights(scale: int, n_channels: int) -> None:
    original = network(scale=scale, n_channels=n_channels)
    weights = original.state_dict()
    assert EDSR.detect(weights)
    again = EDSR(**EDSR.infer_config(weights))
    again.load_state_dict(weights)
    x = torch.rand(1, n_channels, 6, 5)
    assert torch.equal(again(x), original(x))


def test_config_rebuilds_everything() -> None:
    original = network(res_scale=0.1, mean=(0.1, 0.2, 0.3), scale=3)
    assert EDSR(**original.config()).config() == original.config()


def test_other_weights_are_not_edsr() -> None:
    assert not EDSR.detect({"head.weight": torch.zeros(3), "tail.weight": torch.zeros(3)})
    weights = network(scale=4).state_dict()
    weights["upsampler.1.0.weight"] = torch.zeros(9 * 6, 6, 3, 3)
    with pytest.raises(ArchitectureError, match="factors"):
        EDSR.infer_config(weights)


def test_ends_with_a_plain_convolution() -> None:
    net = network()
    assert net.last_layer is net.tail
    kept: list[torch.Tensor] = []
    net.last_layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    assert torch.equal(net(torch.rand(1, 3, 4, 4)), kept[0])


def test_surgery_drops_the_second_sub_pixel_module() -> None:
    four = network(scale=4)
    two = four.to_scale(2)
    x = torch.rand(1, 3, 5, 6)
    features = four.head(x - torch.tensor(four.mean)[:, None, None])
    features = features + four.body_end(four.blocks(features))
    assert torch.equal(two(x), four.tail(four.upsampler[0](features)))
    two.tail.weight.data.zero_()
    assert four.tail.weight.abs().sum() > 0


@pytest.mark.parametrize(("start", "to"), [(4, 3), (2, 4), (3, 2), (4, 5)])
def test_surgery_refuses_untrained_layers(start: int, to: int) -> None:
    with pytest.raises(ModelError, match="untrained"):
        network(scale=start).to_scale(to)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_starts_near_interpolation(scale: int) -> None:
    net = network(scale=scale, n_feats=8).start_as_interpolation(torch.Generator().manual_seed(0))
    flat = torch.full((1, 3, 9, 9), 0.7)
    middle = net(flat)[..., 3 * scale : -3 * scale, 3 * scale : -3 * scale]
    assert (middle - 0.7).abs().max() < 0.15
    for conv in (net.body_end, *(block.conv2 for block in net.blocks)):
        conv.weight.data.zero_()  # type: ignore[union-attr]
    net.tail.weight.data[:, 3:] = 0
    ramp = torch.linspace(0, 1, 9).expand(1, 3, 9, 9)
    middle = net(ramp)[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]
    expected = (torch.arange(9 * scale) + 0.5) / scale - 0.5
    torch.testing.assert_close(middle[0, 0, 0], expected[2 * scale : -2 * scale] / 8, atol=1e-5, rtol=0)


def test_start_needs_features_for_the_channels() -> None:
    with pytest.raises(ArchitectureError, match="features"):
        network(n_feats=2).start_as_interpolation()


def test_registry_knows_it() -> None:
    original = network(scale=2)
    cls, config = registry.detect(original.state_dict())
    assert cls is EDSR
    assert registry.build(EDSR.architecture, original.config()).state_dict().keys() == original.state_dict().keys()
    assert config.items() <= original.config().items()
