"""The closed form against a dense ridge regression whose design matrix is found by changing weights one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune, last_layer
from napari_fidelity.methods.last_layer import Change, Regression, first_pass, run_network
from napari_fidelity.operators import Downsample, GaussianBlur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conftest import MakeNetwork, Scene
    from napari_fidelity.networks.edsr import EDSR

A = Downsample(scale=2) @ GaussianBlur(sigma=0.7)
RIDGE = 0.02


@pytest.fixture
def model(network: MakeNetwork) -> EDSR:
    return network(n_channels=2, n_feats=4)


@pytest.fixture
def y(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene(2, 14, 13))[None]


@torch.no_grad()
def columns(model: EDSR, y: torch.Tensor, output: int) -> NDArray[np.float64]:
    """Return ``A`` of what each unknown of one output channel changes in it: (pixels, unknowns)."""
    plain = model(y)
    found = []
    for parameter in (model.tail.weight, model.tail.bias):
        flat = parameter[output].reshape(-1)
        for i in range(flat.numel()):
            kept = flat[i].clone()
            flat[i] += 1
            found.append(A.A(model(y) - plain)[:, output])
            flat[i] = kept
    found += [A.A(plain)[:, channel] for channel in range(plain.shape[1])]
    return torch.stack([column.reshape(-1) for column in found], 1).double().numpy()


def dense(model: EDSR, y: torch.Tensor, seen: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    with torch.no_grad():
        residual = (y - A.A(model(y))).double().numpy()[0]
    solutions = []
    for output in range(2):
        matrix, wanted = columns(model, y, output)[seen], residual[output].reshape(-1)[seen]
        gram = matrix.T @ matrix + RIDGE * np.eye(matrix.shape[1])
        solutions.append(np.linalg.solve(gram, matrix.T @ wanted))
    return solutions


def solve(model: EDSR, y: torch.Tensor, weights: torch.Tensor | None = None) -> Change:
    with torch.no_grad():
        run = run_network(model, model.tail, y)
        regression = Regression(run)
        regression.add(run, y, A.A, weights=weights)
        return regression.solve(RIDGE)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_dense_ridge_regression(masked: bool, model: EDSR, y: torch.Tensor) -> None:
    weights = torch.ones(14, 13)
    weights[3:8, 2:9] = 1 - masked
    change = solve(model, y, weights if masked else None)
    for output, wanted in enumerate(dense(model, y, weights.reshape(-1).numpy() > 0)):
        found = [change.kernel[output].reshape(-1), change.bias[output : output + 1], change.colour[output]]
        np.testing.assert_allclose(torch.cat(found).numpy(), wanted, atol=2e-3 * np.abs(wanted).max())


def test_changed_image_is_that_of_a_changed_layer(model: EDSR, y: torch.Tensor) -> None:
    change = solve(model, y)
    with torch.no_grad():
        run = run_network(model, model.tail, y)
        found = run.changed(Change(change.kernel, change.bias, torch.zeros(2, 2)))
        model.tail.weight += change.kernel
        model.tail.bias += change.bias
        torch.testing.assert_close(found, model(y), atol=1e-5, rtol=0)


def test_the_first_step_of_fine_tuning_is_the_closed_form(model: EDSR, y: torch.Tensor) -> None:
    method = FineTune(
        parameters="last", views=1, pairs=0, ridge=RIDGE, project=False, reads="measurement", precision="float32"
    )
    result = drain(method.steps(y, A, model))
    with torch.no_grad():
        wanted = run_network(model, model.tail, y).changed(solve(model, y))
    torch.testing.assert_close(result.image, wanted, atol=1e-5, rtol=0)
    assert (len(result.history), result.stop_reason) == (1, "the last layer is solved")


def test_chunks_change_nothing(model: EDSR, y: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = solve(model, y)
    monkeypatch.setattr(last_layer, "_CHUNK_BYTES", 1)
    torch.testing.assert_close(solve(model, y).kernel, whole.kernel, atol=1e-5, rtol=1e-4)


def test_subset_of_the_rows(model: EDSR, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.from_numpy(scene(2, 40, 40))[None]
    with torch.no_grad():
        run, whole = run_network(model, model.tail, y), solve(model, y)
        monkeypatch.setattr(last_layer, "MAX_ROWS", 800)
        part = solve(model, y)
        before, full, half = ((A.A(run.changed(c)) - y).norm() for c in (None, whole, part))
    assert not torch.equal(part.kernel, whole.kernel)
    assert full < half < full + 0.1 * (before - full)
    weights = torch.ones(40, 40)
    weights[:20] = 0
    rows, share = last_layer._chosen_rows(torch.zeros_like(y), weights)
    assert (rows.numel(), share) == (800, 1.0)
    rows, share = last_layer._chosen_rows(torch.zeros_like(y), None)
    assert (rows.numel(), share, len(rows.unique())) == (800, 0.5, 800)


# -- which layer -------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.never_runs = nn.Conv2d(4, 1, 3, padding=1)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        self.shared = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(y)) + y


class Twice(Net):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.shared(self.shared(y))


class Strided(Net):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(super().forward(y), scale_factor=2.0)


@pytest.mark.parametrize(("make", "found"), [(Net, "second"), (Twice, None), (Strided, None)])
def test_find(make: type[Net], found: str | None) -> None:
    model = make()
    layer = first_pass(model, torch.rand(1, 1, 8, 8)).layer
    assert layer is (None if found is None else getattr(model, found))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_go_when_the_network_fails() -> None:
    model = Net()
    with pytest.raises(Exception, match="cannot be applied"):
        run_network(model, model.second, torch.rand(1, 2, 8, 8))
    assert not model.second._forward_pre_hooks
