"""RDN, RRDN, SRResNet and DnCNN as published: sizes, arithmetic, scale surgery, the start of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from napari_fidelity.networks.base import RestorationNetwork

SMALL = {
    "RDN": {"n_feats": 6, "n_blocks": 2, "n_layers": 2, "growth": 3},
    "SRResNet": {"n_feats": 6, "n_blocks": 1},
    "RRDN": {"n_feats": 6, "n_blocks": 1, "growth": 3},
}


def network(name: str, **config: object) -> RestorationNetwork:
    torch.manual_seed(0)
    return networks.build(name, {**SMALL[name], **config}).eval()


@pytest.mark.parametrize(
    ("name", "config", "count"),
    [
        # the papers, and those that compare with them, round: RDN 22.1 and 22.3 million, RRDN 16.7, SRResNet 1.5
        ("RDN", {"scale": 2}, 22_123_395),
        ("RDN", {"scale": 4}, 22_271_107),
        ("RRDN", {}, 16_697_987),
        ("SRResNet", {}, 1_549_462),
        # DnCNN-S and CDnCNN-B, convolutions with biases; and the latter's published file without normalisation
        ("DnCNN", {}, 557_057),
        ("DnCNN", {"n_channels": 3, "n_layers": 20}, 670_531),
        ("DnCNN", {"n_channels": 3, "n_layers": 20, "batch_norm": False}, 668_227),
        # no published count: five frames of 64 features, 15 blocks
        ("VSR", {}, 1_118_275),
    ],
)
def test_the_defaults_are_as_large_as_published(name: str, config: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        net = networks.build(name, config)
    assert sum(weight.numel() for weight in net.parameters()) == count


@torch.no_grad()
def test_rdn_by_hand() -> None:
    net, x = network("RDN", scale=3), torch.rand(1, 3, 4, 5)
    w = net.state_dict()

    def conv(name: str, z: torch.Tensor) -> torch.Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(z, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    shallow = conv("shallow1", x)
    z, made = conv("shallow2", shallow), []
    for block in ("blocks.0", "blocks.1"):
        one = conv(f"{block}.layers.0", z).relu()
        two = conv(f"{block}.layers.1", torch.cat([z, one], 1)).relu()
        z = z + conv(f"{block}.fuse", torch.cat([z, one, two], 1))
        made.append(z)
    z = shallow + conv("body_end", conv("fusion", torch.cat(made, 1)))
    torch.testing.assert_close(net(x), conv("tail", F.pixel_shuffle(conv("upsampler.0.0", z), 3)))


@torch.no_grad()
def test_dncnn_takes_off_what_it_predicts() -> None:
    net = networks.build("DnCNN", {"n_feats": 4, "n_layers": 3}).eval()
    x, w = torch.rand(1, 1, 5, 5), net.state_dict()
    z = F.conv2d(x, w["model.0.weight"], w["model.0.bias"], padding=1).relu()
    z = F.conv2d(z, w["model.2.weight"], w["model.2.bias"], padding=1) / (1 + 1e-5) ** 0.5
    noise = F.conv2d(z.relu(), w["model.5.weight"], w["model.5.bias"], padding=1)
    torch.testing.assert_close(net(x), x - noise)


@pytest.mark.parametrize("name", ["RDN", "SRResNet"])
@torch.no_grad()
def test_surgery_drops_the_second_sub_pixel_module(name: str) -> None:
    four = network(name, scale=4)
    two = four.to_scale(2)
    four.upsampler[1] = torch.nn.Identity()  # type: ignore[operator,index]
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(two(x), four(x))
    assert (two.scale, two.info.scale, two.training) == (2, 2, False)


@torch.no_grad()
def test_surgery_drops_the_second_interpolation_alone() -> None:
    four, x = network("RRDN"), torch.rand(1, 3, 5, 6)
    two, three = four.to_scale(2), four.to_scale(3)
    assert three(x).shape == (1, 3, 15, 18)
    assert (two.config()["factors"], three.config()["factors"]) == ([2, 1], [3, 1])
    four.upsampler.factors = (2, 1)  # type: ignore[union-attr]
    assert torch.equal(two(x), four(x))


@pytest.mark.parametrize(
    ("name", "config", "scale"),
    [
        ("RDN", {"scale": 4}, 3),
        ("RDN", {"scale": 2}, 4),
        ("SRResNet", {"scale": 3}, 2),
        ("RRDN", {"factors": [2]}, 4),
        ("RRDN", {"factors": [2, 2]}, 8),
    ],
)
def test_surgery_refuses_untrained_layers(name: str, config: dict[str, object], scale: int) -> None:
    with pytest.raises(ArchitectureError, match=r"never trained|untrained"):
        network(name, **config).to_scale(scale)


def test_dncnn_has_one_scale() -> None:
    with pytest.raises(ArchitectureError, match="another scale"):
        networks.build("DnCNN", {"n_feats": 4, "n_layers": 3}).to_scale(2)


@pytest.mark.parametrize(
    ("name", "config", "scale"),
    [
        *(("RDN", {"scale": scale}, scale) for scale in (1, 2, 3, 4)),
        *(("SRResNet", {"scale": scale}, scale) for scale in (2, 4)),
        ("RRDN", {"factors": []}, 1),
        ("RRDN", {"factors": [2, 2]}, 4),
    ],
)
@torch.no_grad()
def test_what_passes_through_at_the_start_is_interpolated(
    name: str, config: dict[str, object], scale: int
) -> None:
    net = network(name, **config).start_as_interpolation(torch.Generator().manual_seed(0))
    weights = net.state_dict()
    for layer in ("body_end", "trunk_end"):
        if f"{layer}.weight" in weights:
            weights[f"{layer}.weight"].zero_()
    weights["tail.weight"][:, 3:] = 0
    ramp = torch.linspace(0, 1, 13).expand(1, 3, 13, 13)
    middle = net(ramp)[0, 0, 6 * scale, 5 * scale : -5 * scale]
    expected = ((torch.arange(13 * scale) + 0.5) / scale - 0.5) / 12
    torch.testing.assert_close(middle, expected[5 * scale : -5 * scale], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(SMALL))
def test_the_start_needs_features_for_the_channels(name: str) -> None:
    with pytest.raises(ArchitectureError, match="features"):
        network(name, n_feats=2).start_as_interpolation()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("RDN", {"scale": 5}),
        ("RDN", {"growth": 0}),
        ("RDN", {"n_layers": 2.0}),
        ("RRDN", {"factors": "22"}),
        ("RRDN", {"factors": (4, 4, 4)}),
        ("RRDN", {"n_blocks": 0}),
        ("SRResNet", {"scale": 6}),
        ("SRResNet", {"n_feats": True}),
        ("DnCNN", {"n_layers": 2}),
        ("DnCNN", {"batch_norm": 1}),
        ("VSR", {"frames": 4}),
        ("VSR", {"scale": 0}),
    ],
)
def test_impossible_settings_are_named(name: str, bad: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError, match=f"{name}.*"):
        networks.build(name, bad)


def test_networks_that_number_their_layers_alike_are_no_dncnn() -> None:
    plain = networks.build("DnCNN", {"n_feats": 4, "n_layers": 9, "batch_norm": False}).state_dict()
    detect = networks.architecture("DnCNN").detect
    assert detect(plain)
    # IRCNN: seven dilated convolutions
    assert not detect({k: v for k, v in plain.items() if int(k.split(".")[1]) < 14})
    # FDnCNN: the noise level is one more channel of the input
    assert not detect(plain | {"model.0.weight": torch.zeros(4, 2, 3, 3)})
    # ESRGAN's old names
    assert not detect(plain | {"model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(4, 4, 3, 3)})
    assert not detect(plain | {"model.4.weight": torch.zeros(4, 4, 5, 5)})


@pytest.mark.parametrize(
    ("name", "missing"), [("RDN", "blocks.0.layers.0.weight"), ("RRDN", "blocks.0.dense.0.layers.0.weight")]
)
def test_a_missing_block_is_named(name: str, missing: str) -> None:
    weights = network(name).state_dict()
    del weights[missing]
    with pytest.raises(ArchitectureError, match="missing"):
        networks.detect(weights)
