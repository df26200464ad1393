"""Weights under the names of other programs: our networks do with them what those programs do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.io import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Weights = dict[str, torch.Tensor]

WIDTH, GROWTH = 6, 4


def conv(w: Weights, name: str, z: torch.Tensor) -> torch.Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(z, kernel, w.get(f"{name}.bias"), padding=kernel.shape[-1] // 2)


def filled(layers: dict[str, tuple[int, ...]], *, bias: bool = True) -> Weights:
    rng = torch.Generator().manual_seed(0)
    weights = {f"{name}.weight": 0.3 * torch.randn(shape, generator=rng) for name, shape in layers.items()}
    biases = {f"{name}.bias": 0.1 * torch.randn(shape[0], generator=rng) for name, shape in layers.items()}
    return weights | (biases if bias else {})


# -- RDN-pytorch ------------------------------------------------------------------------------------------------


def rdn_weights() -> Weights:
    f = WIDTH
    layers = {"sfe1": (f, 3, 3, 3), "sfe2": (f, f, 3, 3), "gff.0": (f, 2 * f, 1, 1), "gff.1": (f, f, 3, 3)}
    for block in (0, 1):
        layers |= {f"rdbs.{block}.layers.{i}.conv": (f, f + i * f, 3, 3) for i in range(3)}
        layers[f"rdbs.{block}.lff"] = (f, 4 * f, 1, 1)
    return filled({**layers, "upscale.0": (4 * f, f, 3, 3), "upscale.2": (4 * f, f, 3, 3), "output": (3, f, 3, 3)})


def rdn(w: Weights, x: torch.Tensor) -> torch.Tensor:
    shallow = conv(w, "sfe1", x)
    z, made = conv(w, "sfe2", shallow), []
    for block in (0, 1):
        known = z
        for i in range(3):
            known = torch.cat([known, conv(w, f"rdbs.{block}.layers.{i}.conv", known).relu()], 1)
        z = z + conv(w, f"rdbs.{block}.lff", known)
        made.append(z)
    z = conv(w, "gff.1", conv(w, "gff.0", torch.cat(made, 1))) + shallow
    for stage in ("upscale.0", "upscale.2"):
        z = F.pixel_shuffle(conv(w, stage, z), 2)
    return conv(w, "output", z)


# -- ESRGAN and its descendants ---------------------------------------------------------------------------------

NEW = ("body.{}.rdb{}.conv{}", "conv_body", "conv_up1", "conv_up2", "conv_hr")
OLD = ("RRDB_trunk.{}.RDB{}.conv{}", "trunk_conv", "upconv1", "upconv2", "HRconv")


def esrgan_weights(names: tuple[str, ...], stages: int = 2, folded: int = 1) -> Weights:
    f, dense, trunk, *ups, refine = WIDTH, *names
    layers = {"conv_first": (f, 3 * folded, 3, 3), trunk: (f, f, 3, 3), refine: (f, f, 3, 3)}
    layers |= dict.fromkeys(ups[:stages], (f, f, 3, 3)) | {"conv_last": (3, f, 3, 3)}
    for block in (0, 1):
        for rdb in (1, 2, 3):
            widths = [*(GROWTH,) * 4, f]
            layers |= {dense.format(block, rdb, i + 1): (n, f + i * GROWTH, 3, 3) for i, n in enumerate(widths)}
    return filled(layers)


def esrgan(w: Weights, x: torch.Tensor, names: tuple[str, ...], stages: int = 2) -> torch.Tensor:
    dense, trunk, *ups, refine = names
    first = z = conv(w, "conv_first", x)
    for block in (0, 1):
        entered = z
        for rdb in (1, 2, 3):
            known = z
            for i in range(1, 5):
                known = torch.cat([known, F.leaky_relu(conv(w, dense.format(block, rdb, i), known), 0.2)], 1)
            z = z + 0.2 * conv(w, dense.format(block, rdb, 5), known)
        z = entered + 0.2 * z
    z = first + conv(w, trunk, z)
    for up in ups[:stages]:
        z = F.leaky_relu(conv(w, up, F.interpolate(z, scale_factor=2, mode="nearest")), 0.2)
    return conv(w, "conv_last", F.leaky_relu(conv(w, refine, z), 0.2))


# -- DnCNN-PyTorch ----------------------------------------------------------------------------------------------


def dncnn_weights() -> Weights:
    rng = torch.Generator().manual_seed(1)
    layers = {"dncnn.0": (WIDTH, 1, 3, 3), "dncnn.2": (WIDTH, WIDTH, 3, 3), "dncnn.5": (1, WIDTH, 3, 3)}
    norm = {f"dncnn.3.{p}": torch.rand(WIDTH, generator=rng) for p in ("weight", "bias", "running_mean")}
    return filled(layers, bias=False) | norm | {"dncnn.3.running_var": 0.5 + torch.rand(WIDTH, generator=rng)}


def dncnn(w: Weights, x: torch.Tensor) -> torch.Tensor:
    z = conv(w, "dncnn.2", conv(w, "dncnn.0", x).relu())
    norm = [w[f"dncnn.3.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
    return x - conv(w, "dncnn.5", F.batch_norm(z, *norm).relu())


@pytest.mark.parametrize(
    ("weights", "program", "architecture", "scale"),
    [
        pytest.param(rdn_weights(), rdn, "RDN", 4, id="RDN-pytorch"),
        pytest.param(esrgan_weights(NEW), lambda w, x: esrgan(w, x, NEW), "RRDN", 4, id="Real-ESRGAN"),
        pytest.param(esrgan_weights(OLD), lambda w, x: esrgan(w, x, OLD), "RRDN", 4, id="ESRGAN"),
        pytest.param(esrgan_weights(OLD, 1), lambda w, x: esrgan(w, x, OLD, 1), "RRDN", 2, id="BSRGAN ×2"),
        pytest.param(dncnn_weights(), dncnn, "DnCNN", 1, id="DnCNN-PyTorch"),
        pytest.param(
            dncnn_weights() | {"dncnn.3.num_batches_tracked": torch.tensor(5)},
            dncnn,
            "DnCNN",
            1,
            id="with a count",
        ),
    ],
)
@torch.no_grad()
def test_does_what_the_program_does(
    weights: Weights, program: Callable[..., torch.Tensor], architecture: str, scale: int, tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "net.pth")
    net = load_model(tmp_path / "net.pth")
    assert (net.architecture, net.scale) == (architecture, scale)
    x = torch.rand(1, net.n_channels, 6, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(net(x), program(weights, x))


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(esrgan_weights(NEW, folded=4), id="pixels folded into channels"),
        pytest.param(esrgan_weights(NEW) | filled({"body.0.rdb1.conv1x1": (4, 6, 1, 1)}), id="ESRGAN+"),
    ],
)
def test_variants_are_not_taken_for_what_they_are_not(weights: Weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(ArchitectureError, match=r"none of the known|do not fit"):
        load_model(tmp_path / "net.pth")


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    weights = rdn_weights()
    del weights["gff.1.weight"]
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(ArchitectureError, match=r"body_end\.weight"):
        load_model(tmp_path / "net.pth")
