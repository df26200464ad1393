"""The memory a method needs is known before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.methods import Apply, FineTune, Project, _plan
from napari_fidelity.methods._memory import footprint_of, kept_for_backward, network_memory
from napari_fidelity.methods.last_layer import MAX_ROWS, Pass
from napari_fidelity.operators import Downsample

if TYPE_CHECKING:
    from conftest import MakeNetwork

CPU = torch.device("cpu")


def layers(n: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, 4, 3, padding=1))


def test_what_is_kept_is_counted_once() -> None:
    model, y = layers(), torch.rand(1, 1, 32, 32)
    weights = 4 * sum(p.numel() for p in model.parameters() if p.ndim > 1)
    activations = 4 * 32 * 32 * (1 + 4)  # the input, and the ReLU's output, which the second layer keeps too
    result, kept = kept_for_backward(lambda z: Pass(model(z)), y)
    assert sum(kept) == pytest.approx(weights + activations, abs=256)
    assert not result.image.requires_grad


def test_footprint() -> None:
    found = footprint_of(layers(8), 1)
    assert found is not None
    # weights are no part of what grows with the image
    assert (found.kept, found.largest, found.image) == (4 * (1 + 8), 4 * 8, 4 * 4)
    assert (found.features, found.unknowns) == (4 * 8, 9 * 8 + 1 + 4)
    assert found.closed_form(10 * MAX_ROWS) - found.closed_form(9 * MAX_ROWS) == 2 * 4 * 8 * MAX_ROWS
    halved = footprint_of(layers(8), 1, bfloat16=True)
    assert halved is not None
    assert halved.kept < found.kept
    assert halved.features == found.features


def test_networks_of_every_kind(network: MakeNetwork) -> None:
    shape = (1, 1, 100, 200)
    assert footprint_of(None, 1) is None
    assert network_memory(None, shape) == 10 * 4 * 20000
    assert network_memory(lambda y: y.tile(1, 1, 2, 2), shape) == 10 * 4 * 4 * 20000
    picky = nn.Linear(200, 200)
    assert network_memory(picky, shape) == network_memory(None, shape)
    training = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)).train()
    before = {name: value.clone() for name, value in training.state_dict().items()}
    assert network_memory(training, shape) > 0
    assert training.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())
    assert all(p.grad is None for p in training.parameters())


def test_what_costs_memory(network: MakeNetwork) -> None:
    model = network(n_feats=16, n_blocks=2)

    def needs(method: Any, *shape: int) -> int:
        return method.memory(shape or (1, 1, 512, 512), model, CPU)

    exact = FineTune(precision="float32")
    assert needs(Apply()) == needs(Project()) < needs(FineTune(parameters="last")) < needs(FineTune()) < 3e9
    assert needs(FineTune(iterations=0)) == needs(FineTune(parameters="last"))
    assert needs(exact.replace(precision="bfloat16")) < needs(exact)
    assert needs(exact.replace(last_layer="descend")) < needs(exact)
    snapshots = needs(exact.replace(snapshots=5)) - needs(exact)
    assert snapshots == pytest.approx(5 * 2 * 4 * 1024**2, rel=1e-6)
    assert needs(exact.replace(snapshots=64)) - needs(exact) == pytest.approx(12 / 5 * snapshots, rel=1e-6)
    assert needs(Apply(), 3, 1, 512, 512) == pytest.approx(3 * needs(Apply()), rel=1e-6)
    assert needs(exact, 1, 1, 1024, 1024) > 3 * needs(exact)
    assert needs(exact.replace(), 1, 1, 8, 8) < 10e6


def test_too_large_an_image_is_refused_with_the_numbers(
    network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_plan, "free_memory", lambda device: 10**6)
    monkeypatch.setattr(_plan, "SMALL", 32**2)
    y = torch.rand(1, 1, 64, 64)
    with pytest.raises(MemoryNeededError, match=r"64 × 64 .* GB .*0\.0 GB free.*parameters: last"):
        next(FineTune().steps(y, Downsample(scale=2), network()))
    next(FineTune(parameters="last", iterations=1).steps(y, Downsample(scale=2), network()))


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "SMALL", 0)
    model = nn.Conv2d(1, 1, 3, padding=1)
    for size in (64, 30, 3):
        shape = (1, 1, size, size)
        _plan.check(_plan.plan_finetuning(FineTune(), shape, model, CPU), shape, CPU)
