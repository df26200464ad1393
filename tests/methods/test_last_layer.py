"""The closed form against a dense ridge regression whose design matrix is found by changing weights one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.errors import ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import FineTune, last_layer
from napari_fidelity.methods._plan import Plan
from napari_fidelity.methods._runner import Runner
from napari_fidelity.methods.last_layer import Change, Regression, first_pass, run_network
from napari_fidelity.networks.adapters import GrayThroughRGB, InRange
from napari_fidelity.networks.drunet import DRUNet
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


class Padding(nn.Module):
    """A ×2 network that pads its input to a multiple of 8, on some sides, and ends in a convolution."""

    def __init__(self, *, before: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = before
        self.last = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        height, width = y.shape[2:]
        more = -width % 8, -height % 8
        sides = (more[0], 0, more[1], 0) if self.before else (0, more[0], 0, more[1])
        z = nn.functional.interpolate(
            nn.functional.pad(y, sides, mode="replicate"), scale_factor=2, mode="bicubic"
        )
        z = self.last(torch.cat([z, z.square()], dim=1)) + z
        return z[..., 2 * sides[2] :, 2 * sides[0] :][..., : 2 * height, : 2 * width]


@pytest.mark.parametrize("shape", [(40, 40), (40, 48), (33, 29), (72, 21), (32, 32)])
@pytest.mark.parametrize("tile", [None, 24])
def test_networks_that_pad(shape: tuple[int, int], tile: int | None, scene: Scene) -> None:
    A, y = Downsample(scale=2), torch.from_numpy(scene(*shape))[None, None]
    method = FineTune(iterations=2, precision="float32", tile=tile)
    solved, moved = (
        drain(m.steps(y, A, Padding())) for m in (method, method.replace(last_layer="descend", average=False))
    )
    assert solved.history[0].loss < 0.5 * moved.history[0].loss  # there is a closed form at every size


def test_the_last_rows_of_a_padded_image_are_those_of_the_changed_layer(scene: Scene) -> None:
    y, network = torch.from_numpy(scene(19, 13))[None, None], Padding()
    with torch.no_grad():
        run = first_pass(network, y)
        assert run.features is not None
        assert run.features.shape[2:] == (48, 32) != run.image.shape[2:]
        more = torch.randn(network.last.weight.shape, generator=torch.Generator().manual_seed(0))
        change = Change(more, torch.tensor([0.1]), torch.zeros(1, 1))
        changed = run.changed(change)
        network.last.weight += more
        network.last.bias += 0.1
        torch.testing.assert_close(changed, network(y), rtol=1e-4, atol=1e-5)
        part, (rows, columns) = run.around(((30, 38), (20, 26)), (2, 2))
        inner = part.changed(change)[..., rows[0] : rows[1], columns[0] : columns[1]]
        torch.testing.assert_close(inner, changed[..., 30:38, 20:26])


def found_layer(network: nn.Module, y: torch.Tensor) -> nn.Conv2d | None:
    return Runner(network, y, Plan(None), margin=None, precision="float32").first_pass(y).layer


def test_adapters_and_noise_levels_do_not_hide_it(scene: Scene) -> None:
    y = torch.from_numpy(scene(40, 40))[None, None]
    torch.manual_seed(0)
    gray, rgb = (DRUNet(channels, (4, 4, 4, 4), 1) for channels in (1, 3))
    for network in (gray, GrayThroughRGB(rgb), InRange(Padding(), -1, 1)):
        assert found_layer(network, y) is not None


@pytest.mark.parametrize("error", [ShapeError("too small"), KeyError("too small")])
def test_a_trial_that_fails_says_nothing(error: Exception, scene: Scene) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if min(y.shape[2:]) < 32:
                raise error
            found: torch.Tensor = self.last(y)
            return found

    network = Large()
    assert found_layer(network, torch.from_numpy(scene(40, 40))[None, None]) is network.last


def test_no_closed_form_where_features_lie_elsewhere(scene: Scene) -> None:
    y = torch.from_numpy(scene(40, 40))[None, None]
    for before in (False, True):
        network = Padding(before=before)
        assert (found_layer(network, y) is None) == before
        assert (found_layer(network, torch.zeros_like(y)) is None) == before  # whatever the image shows
        result = drain(FineTune(iterations=2).steps(y, Downsample(scale=2), network))
        assert bool(result.image.isfinite().all())
