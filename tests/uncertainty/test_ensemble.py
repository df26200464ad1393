"""Ensembles over seeds, views and networks: what their members are, and what cannot be one."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import FidelityError, OptionError
from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import NLM
from napari_fidelity.io import load_model, save_model
from napari_fidelity.methods import DIP, RED, ZSSR, Apply, FineTune, Project
from napari_fidelity.methods.views import VIEWS, from_view, to_view
from napari_fidelity.networks.untrained import Skip
from napari_fidelity.operators import Downsample, GaussianBlur, Identity, Mask, Radon
from napari_fidelity.pipeline import assess
from napari_fidelity.stopping import Budget
from napari_fidelity.uncertainty import _files
from napari_fidelity.uncertainty._files import MemberFiles
from napari_fidelity.uncertainty._members import commuting_views, loaders
from napari_fidelity.uncertainty.ensemble import Ensemble

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result

A = Downsample(scale=2)
SMALL = DIP(network=Skip(width=8, scales=2), iterations=4, hold_out=0, precision="float32")
STILL = RED(denoiser=NLM(), iterations=2)


def run(options: Ensemble, y: torch.Tensor, model: Any = None, **settings: Any) -> Result[torch.Tensor]:
    return drain(options.steps(y, settings.pop("operator", A), model, **settings))


@pytest.fixture
def y(scene: Scene) -> torch.Tensor:
    return A.A(torch.from_numpy(scene(1, 32, 24))[None])


@pytest.fixture
def model(network: MakeNetwork) -> nn.Module:
    return network()


def test_super_resolutions_from_several_seeds(scene: Scene) -> None:
    y = A.A(torch.from_numpy(scene(1, 40, 36))[None])
    method = ZSSR(width=4, depth=2, iterations=2, updates=2, crop=8)
    result = run(Ensemble(of=method, members=3), y)
    members = [drain(method.steps(y, A, rng=seed)).image for seed in (0,)]
    assert result.maps["std"].shape == members[0].shape
    assert float(result.maps["std"].mean()) > 0


def std_of(images: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(images).std(dim=0)


# -- what the members differ in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Ensemble(), "views"),
        (Ensemble(of=DIP()), "seeds"),
        (Ensemble(of=ZSSR()), "seeds"),
        (Ensemble(of=RED()), "views"),
        (Ensemble(models=("edsr-s-x2",)), "models"),
        (Ensemble(of=DIP(), of_what="views"), "views"),
    ],
)
def test_auto(options: Ensemble, expected: str) -> None:
    assert options.differs_in == expected
    assert Ensemble.parse(options.to_plain()) == options


@pytest.mark.parametrize(
    "wrong", [{"of_what": "models"}, {"of_what": "seeds", "models": ("a",)}, {"members": 1}, {"of_what": "luck"}]
)
def test_options_that_contradict_each_other(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Ensemble(**wrong)


# -- views -------------------------------------------------------------------------------------------------------


def test_network_over_views(y: torch.Tensor, model: nn.Module) -> None:
    result = run(Ensemble(of=Apply()), y, model)
    with torch.no_grad():
        images = [from_view(model(to_view(y, view)), view) for view in VIEWS]
    torch.testing.assert_close(result.image, std_of(images), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(result.maps["mean"], torch.stack(images).mean(dim=0))
    assert list(result.maps) == ["std", "mean"] and len(result.history) == 8
    assert result.stop_reason == "all 8 views are done"


def test_a_network_needs_no_symmetry_of_the_operator(scene: Scene, model: nn.Module) -> None:
    operator = Mask(mask=np.random.default_rng(0).random((32, 24)) > 0.3) @ Identity()
    y = operator.A(torch.from_numpy(scene(1, 32, 24))[None])
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    assert bool(run(Ensemble(of=Apply(), members=2), y, network, operator=operator).image.any())


def test_projected_views_agree_with_the_data(y: torch.Tensor, model: nn.Module) -> None:
    with torch.no_grad():
        model.tail.weight.add_(
            0.05 * torch.randn(model.tail.weight.shape, generator=torch.Generator().manual_seed(0))
        )
    plain, projected = (run(Ensemble(of=of), y, model) for of in (Apply(), Project(ridge=0)))
    assert float(projected.image.mean()) < float(plain.image.mean())
    torch.testing.assert_close(A.A(projected.maps["mean"]), y, rtol=1e-3, atol=1e-4)


def test_the_tuned_network_over_views(y: torch.Tensor, model: nn.Module) -> None:
    tune = FineTune(iterations=2, project=False, precision="float32")
    result = run(Ensemble(of=tune, members=4), y, model)
    tuned = drain(tune.steps(y, A, model)).network
    with torch.no_grad():
        images = [from_view(tuned.image(to_view(y, view)), view) for view in VIEWS[:4]]
    torch.testing.assert_close(result.image, std_of(images), rtol=1e-3, atol=1e-6)
    assert len(result.history) == 4


def test_a_method_over_views(y: torch.Tensor) -> None:
    result = run(Ensemble(of=SMALL, of_what="views", members=3), y)
    assert result.image.shape == (1, 1, 32, 24) and bool(result.image.any())
    assert len(result.history) == 3


def test_images_among_the_options_turn_along(y: torch.Tensor) -> None:
    start = np.zeros((32, 24), np.float32)
    start[:8] = 1
    still = RED(denoiser=NLM(), iterations=1, start=start)
    result = run(Ensemble(of=still, of_what="views", members=4), y)
    # NLM looks at no direction, so that all views agree but for the order in which it goes along the border
    assert float(result.image.max()) < 0.05


@pytest.mark.parametrize(
    ("operator", "shape", "expected"),
    [
        (Downsample(scale=2), (1, 1, 8, 6), 8),
        (Downsample(scale=(2, 3)), (1, 1, 8, 6), 4),
        (GaussianBlur(sigma=1.0), (1, 1, 9, 9), 8),
        (Mask(mask=np.arange(54).reshape(9, 6) % 5 > 0), (1, 1, 9, 6), 1),
    ],
    ids=["downsample", "unequal axes", "blur", "mask"],
)
def test_in_which_views_an_operator_is_the_same(operator: Any, shape: tuple[int, ...], expected: int) -> None:
    views = commuting_views(operator, torch.zeros(shape))
    assert len(views) == expected and views[0] == 0


def test_no_view_commutes(scene: Scene) -> None:
    operator = Radon(angles=(0.0, 30.0, 75.0))
    y = operator.A(torch.from_numpy(scene(1, 24, 24))[None])
    with pytest.raises(OptionError, match="commutes with no flip"):
        run(Ensemble(of=STILL), y, operator=operator)


# -- seeds -------------------------------------------------------------------------------------------------------


def test_seeds(y: torch.Tensor) -> None:
    options = Ensemble(of=SMALL, members=3)
    result = run(options, y, rng=5)
    assert bool(result.image.any()) and len(result.history) == 3
    torch.testing.assert_close(run(options, y, rng=torch.Generator().manual_seed(5)).image, result.image)
    assert not torch.equal(run(options, y, rng=6).image, result.image)


def test_the_first_member_is_the_method_itself(y: torch.Tensor) -> None:
    pair = run(Ensemble(of=SMALL, members=2), y, rng=5).maps["mean"]
    alone = drain(SMALL.steps(y, A, rng=5)).image
    other = drain(SMALL.steps(y, A, rng=5 + 15_485_863)).image
    torch.testing.assert_close(pair, (alone + other) / 2)


def test_seeds_of_a_method_without_chance(y: torch.Tensor) -> None:
    with pytest.raises(OptionError, match="same image whatever the seed"):
        run(Ensemble(of=STILL, of_what="seeds"), y)


# -- networks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(network: MakeNetwork, tmp_path: Path) -> list[str]:
    paths = []
    for number, channels in enumerate((1, 1, 3)):
        model = network(channels)
        with torch.no_grad():
            model.tail.weight.mul_(1 + 0.1 * number)
        paths.append(str(tmp_path / f"{number}.safetensors"))
        save_model(model, paths[-1])
    return paths


def test_networks_from_files(y: torch.Tensor, files: list[str]) -> None:
    result = run(Ensemble(of=Apply(), models=tuple(files[:2])), y)
    with torch.no_grad():
        images = [load_model(file)(y) for file in files[:2]]
    torch.testing.assert_close(result.image, std_of(images), rtol=1e-3, atol=1e-6)


def test_gray_and_colour_networks_together(scene: Scene, files: list[str]) -> None:
    colours = A.A(torch.from_numpy(scene(3, 24, 24))[None])
    for y in (colours, colours[:, :1]):
        result = run(Ensemble(of=Apply(), models=tuple(files)), y)
        assert result.image.shape == (1, y.shape[1], 24, 24) and len(result.history) == 3


def test_the_model_itself_is_a_member_once(y: torch.Tensor, files: list[str]) -> None:
    own = load_model(files[0])
    assert len(run(Ensemble(of=Apply(), models=(files[1],)), y, own).history) == 2
    assert len(run(Ensemble(of=Apply(), models=tuple(files[:2])), y, own).history) == 2
    with pytest.raises(OptionError, match="at least two different networks"):
        run(Ensemble(of=Apply(), models=(files[0],)), y, own)


def test_networks_that_are_not_there(y: torch.Tensor, files: list[str]) -> None:
    with pytest.raises(FidelityError, match="There is no model"):
        run(Ensemble(of=Apply(), models=(files[0], "nowhere.safetensors")), y)
    with pytest.raises(OptionError, match="takes no network"):
        run(Ensemble(of=SMALL, models=tuple(files[:2])), y)


@pytest.mark.parametrize("of", [Apply(), FineTune(iterations=1, views=1, precision="float32")])
def test_each_network_is_loaded_once_and_held_no_longer_than_the_run(
    of: Any, y: torch.Tensor, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _counted(monkeypatch)
    result = run(Ensemble(of=of, models=(*files[:2], files[0])), y)
    assert len(result.history) == 2 and len(held) == 2
    gc.collect()
    assert not any(one() for one in held)


def test_each_network_is_loaded_once_whatever_the_blocks(
    scene: Scene, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _counted(monkeypatch)
    kept: list[Any] = []
    stack = Image(scene(3, 16, 16), "ZYX")
    options = Ensemble(of=Apply(), models=tuple(files[:2]))
    result = assess(map=options, measurement=stack, operator=A, on_step=kept.append)
    assert result.provenance["blocks"] == 3 and len(held) == 2
    gc.collect()
    assert not any(one() for one in held)
    assess(map=options, measurement=stack, operator=A)
    assert len(held) == 4  # a file may have changed since


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Return a list to which every network of an ensemble is added that is loaded."""
    held: list[weakref.ref[Any]] = []

    def load(name: str, **settings: Any) -> Any:
        network = load_model(name, **settings)
        held.append(weakref.ref(network))
        return network

    monkeypatch.setattr(_files, "load_model", load)
    return held


class Told(nn.Module):
    """A network that is told the image formation model, and so its scale."""

    takes_operator = True
    scale = 1


@pytest.mark.parametrize(
    ("own", "scale", "expected"), [(None, 0, 2), (None, 1, 1), (Told(), 0, 2), (Told(), 2, 2), (abs, 1, 1)]
)
def test_to_which_scale_the_others_are_adapted(own: Any, scale: int, expected: int, files: list[str]) -> None:
    other: Any = loaders(own, files[:1], MemberFiles(), scale)[-1]()
    assert other.scale == expected


def test_the_scale_of_the_network_of_the_run_goes_before(network: MakeNetwork, files: list[str]) -> None:
    other: Any = loaders(network(scale=1), files[:1], MemberFiles(), 2)[-1]()
    assert other.scale == 1


def test_memory_counts_the_networks_that_are_held_at_once(files: list[str]) -> None:
    of, shape, device = Apply(), (1, 1, 512, 512), torch.device("cpu")
    options = Ensemble(of=of, models=tuple(files[:2]))
    own = load_model(files[0])
    weights = sum(p.nbytes for p in own.parameters())
    one = Ensemble(of=of).memory(shape, own, device)
    assert options.memory(shape, own, device) == one + 3 * weights
    assert options.memory(shape, None, device) == one + 2 * weights
    many = options.replace(models=tuple(files[:2]) * 3)
    assert many.memory(shape, own, device) == one + 3 * weights


# -- how a run of it behaves -------------------------------------------------------------------------------------


def test_an_unfinished_member_is_left_out(y: torch.Tensor) -> None:
    options = Ensemble(of=SMALL, members=4)
    done: list[int] = []

    def stop(step: Any) -> str | None:
        done.append(1) if step.scores else None
        return "enough" if done else None  # after the second member

    result = drain(options.steps(y, A), stop)
    assert result.stop_reason == "enough" and len(result.history) == 2
    torch.testing.assert_close(result.image, run(options.replace(members=2), y).image)


def test_steps_can_be_stopped_while_a_member_runs(y: torch.Tensor) -> None:
    steps = list(Ensemble(of=SMALL, members=2).steps(y, A))
    assert [step.index for step in steps] == [-1] * 4 + [0] * 5 + [1]
    assert not steps[0].estimate().any() and bool(steps[-1].estimate().any())
    result = drain(Ensemble(of=SMALL, members=2).steps(y, A), lambda step: "enough")
    assert bool(result.image.isnan().all()) and "empty" in result.stop_reason


def test_given_weights_turn_along(y: torch.Tensor) -> None:
    weights = torch.ones_like(y)
    weights[..., :4, :] = 0
    result = run(Ensemble(of=SMALL, of_what="views", members=2), y, weights=weights)
    assert bool(result.image.isfinite().all())


def test_the_stopping_rule_is_the_members(y: torch.Tensor) -> None:
    steps = list(Ensemble(of=SMALL, members=2).steps(y, A, stop=Budget(iterations=0)))
    assert len(steps) == 4
