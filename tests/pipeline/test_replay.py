"""What the user or the clock ended, its recipe ends at the same place: the same bits again."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image, restore, run_recipe
from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import NLM, TV
from napari_fidelity.methods import DIP, RED, ZSSR, Apply, DeepRED, FineTune, Project
from napari_fidelity.methods._finetuning import Run
from napari_fidelity.networks import Skip
from napari_fidelity.operators import Downsample
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping import AnyOf, Budget, HeldOut, LRPSNRGain, Settled, WindowedVariance

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeNetwork, Scene
    from napari_fidelity.core.step import Result, Step

A = Downsample(scale=2)
FULL = FineTune(iterations=12, precision="float32")
PUBLISHED = FineTune.lucas2020(learning_rate=0.02, optimizer="adam")  # goes up and down: the best is not the last


def stopped(
    image: Any, model: Any, look: Callable[[Step[Image]], str | None] | None = None, **settings: Any
) -> Result[Image]:
    settings = {"operator": A, "method": FULL, "device": "cpu", "seed": 3, **settings}
    return restore(image, model=model, on_step=look, **settings)


def replayed(result: Result[Image], image: Any, model: Any) -> tuple[Recipe, Result[Image]]:
    text = json.dumps(result.provenance, allow_nan=False)
    recipe = Recipe.from_text(text)
    again = drain(run_recipe(recipe, image, model, device="cpu"))
    # a replay is replayed by the same recipe
    assert Recipe.parse(again.provenance["recipe"]) == recipe
    return recipe, again


def at(index: int, block: int = 0) -> Callable[[Step[Image]], str | None]:
    return lambda step: "enough" if (step.block, step.index) == (block, index) else None


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize(
    ("method", "stop", "rule"),
    [
        (FULL, Settled(change=1e-9), lambda k: Settled(change=1e-9) | Budget(iterations=k)),
        (FULL.replace(average=False), Budget(seconds=999), lambda k: Budget(iterations=k)),
        (FULL, None, lambda k: Budget(iterations=k)),
        (PUBLISHED, Budget(iterations=20), lambda k: Budget(iterations=k)),
        (PUBLISHED, HeldOut(fraction=0.2), lambda k: HeldOut(fraction=0.2) | Budget(iterations=k)),
        (
            FULL,
            HeldOut(fraction=0.3, patience=20) | Budget(seconds=999, iterations=40),
            lambda k: HeldOut(fraction=0.3, patience=20) | Budget(iterations=k),
        ),
    ],
    ids=["settled", "one image", "no rule", "published", "published, held out", "held out"],
)
def test_user_ends_a_run(
    k: int, method: FineTune, stop: Any, rule: Any, network: MakeNetwork, scene: Scene
) -> None:
    image, model = scene(16, 18), network()
    result = stopped(image, model, at(k), method=method, stop=stop)
    assert (result.stop_reason, len(result.history)) == ("enough", k + 1)
    recipe, again = replayed(result, image, model)
    assert np.array_equal(again.image.data, result.image.data)
    assert (recipe.stop, recipe.method, recipe.last_iterations) == (rule(k), method, None)


def test_published_rule_and_a_chosen_iteration(network: MakeNetwork, scene: Scene) -> None:
    image, model = scene(16, 18), network()
    method = FineTune.lucas2020(iteration=20)
    result = stopped(image, model, at(4), method=method, stop=LRPSNRGain())
    recipe, again = replayed(result, image, model)
    assert (recipe.method, recipe.stop) == (method.replace(iteration=4), LRPSNRGain())
    assert np.array_equal(again.image.data, result.image.data)


TINY: dict[str, Any] = {"network": Skip(width=4, scales=2), "iterations": 30, "average": 0.5}
VARIANCE = WindowedVariance(window=2, patience=50)  # chooses an image before the last


@pytest.mark.parametrize("k", [0, 6])
@pytest.mark.parametrize(
    ("method", "stop", "rule"),
    [
        (DIP(**TINY), None, lambda k: DIP().default_stop() | Budget(iterations=k)),
        (DIP(**TINY, runs=2), VARIANCE | Budget(seconds=999), lambda k: VARIANCE | Budget(iterations=k)),
        (DIP(**TINY), HeldOut(fraction=0.2), lambda k: HeldOut(fraction=0.2) | Budget(iterations=k)),
        (RED(denoiser=NLM(), iterations=9), None, lambda k: Budget(iterations=k)),
        (RED(denoiser=TV(), solver="admm", sigma_start=0), Settled(change=1e-9), None),
        (DeepRED(**TINY, denoiser=TV(), every=2), VARIANCE, lambda k: VARIANCE | Budget(iterations=k)),
    ],
    ids=["deep prior", "its variance", "held out", "denoiser", "denoiser, a rule", "both"],
)
def test_user_ends_a_reconstruction(k: int, method: Any, stop: Any, rule: Any, scene: Scene) -> None:
    image = scene(12, 14)
    result = stopped(image, None, at(k), method=method, stop=stop)
    assert (result.stop_reason, len(result.history)) == ("enough", k + 1)
    recipe, again = replayed(result, image, None)
    assert np.array_equal(again.image.data, result.image.data)
    assert recipe.stop == (stop | Budget(iterations=k) if rule is None else rule(k))


SMALL_ZSSR = ZSSR(width=4, depth=2, iterations=20, updates=2, crop=8)


@pytest.mark.parametrize("stop", [None, Settled(change=1e-9)])
def test_user_ends_a_super_resolution(stop: Any, scene: Scene) -> None:
    image = scene(18, 20)
    result = stopped(image, None, at(3), method=SMALL_ZSSR, stop=stop)
    assert (result.stop_reason, len(result.history)) == ("enough", 4)
    _, again = replayed(result, image, None)
    assert np.array_equal(again.image.data, result.image.data)


def test_user_ends_a_stack_of_super_resolutions(scene: Scene) -> None:
    image = Image(scene(3, 18, 20), "ZYX")
    result = stopped(image, None, at(2, block=1), method=SMALL_ZSSR.replace(iterations=4))
    recipe, again = replayed(result, image, None)
    assert np.array_equal(again.image.data, result.image.data, equal_nan=True)
    assert recipe.last_iterations == (3, 2)


def test_user_ends_a_series_of_volumes(scene: Scene) -> None:
    image = Image(scene(3, 2, 12, 14), "TZYX")
    result = stopped(image, None, at(3, block=1), method=DIP(**TINY, iteration=4), spatial="ZYX")
    assert "2 of 3 volumes are done" in result.stop_reason
    recipe, again = replayed(result, image, None)
    assert np.array_equal(again.image.data, result.image.data, equal_nan=True)
    assert (recipe.spatial, recipe.last_iterations) == ("ZYX", (4, 3))


LONG = Settled(change=1e-9)  # never speaks here


@pytest.mark.parametrize(
    ("channels", "method", "stop", "block", "k"),
    [
        ("each", FULL, LONG, 0, 0),
        ("each", FULL, LONG, 1, 9),
        ("each", FULL, HeldOut(fraction=0.2, patience=20), 2, 3),
        ("each", PUBLISHED, LONG | Budget(seconds=999), 1, 4),
        ("each", PUBLISHED, HeldOut(fraction=0.2, patience=2), 1, 2),
        ("each", PUBLISHED.replace(iteration=5), None, 1, 3),
        ("joint", FULL, None, 1, 2),
        ("joint", PUBLISHED, LONG, 2, 2),
    ],
)
def test_user_ends_a_stack(
    channels: Any, method: FineTune, stop: Any, block: int, k: int, network: MakeNetwork, scene: Scene
) -> None:
    data = (3000 * scene(3, 14, 16)).astype(np.uint16)
    image, model = Image(data, "CYX" if channels == "each" else "ZYX"), network()
    ends: dict[int, int] = {}

    def look(step: Step[Image]) -> str | None:
        ends[step.block] = step.index
        # the slices before run on for a while, so that they end for reasons of their own
        return "enough" if step.block == block and step.index >= k else None

    short = method.replace(iterations=max(10, method.iteration or 0)) if method.average else method
    stop = stop if method.average or stop is None else stop | Budget(iterations=7)
    result = stopped(image, model, look, method=short, stop=stop, channels=channels)
    assert "enough" in result.stop_reason or block == 2
    assert len(ends) == result.provenance["blocks_done"] == block + 1
    recipe, again = replayed(result, image, model)
    assert np.array_equal(again.image.data, result.image.data, equal_nan=True)
    assert np.isnan(result.image.data[block + 1 :]).all()
    assert recipe.last_iterations == tuple(ends.values())
    assert ends[block] == k
    parts = recipe.stop.parts() if recipe.stop is not None else ()
    assert not [part for part in parts if isinstance(part, Budget) and part.seconds is not None]
    runs = [[run["iterations"] for run in one.provenance["runs"]] for one in (result, again)]
    assert runs[0] == runs[1] == list(ends.values())


def test_both_reasons_tell_what_is_missing(network: MakeNetwork, scene: Scene) -> None:
    image, model = Image(scene(3, 12, 12), "ZYX"), network()
    result = stopped(image, model, at(2, block=1))
    assert result.stop_reason == "enough; 2 of 3 slices are done, the others are empty"
    _, again = replayed(result, image, model)
    assert (
        again.stop_reason == "ended at iteration 2, as in the recipe; 2 of 3 slices are done, the others are empty"
    )


@pytest.mark.parametrize("shape", [(14, 16), (3, 14, 16)])
@pytest.mark.parametrize("rule", [Budget(seconds=4.5), HeldOut(fraction=0.2) | Budget(seconds=4.5, iterations=50)])
def test_clock_ends_a_run(
    shape: tuple[int, ...], rule: Any, network: MakeNetwork, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(Run, "_seconds", lambda self: next(clock) % 7)  # one second per step
    image, model = scene(*shape), network()
    method = FULL.replace(learning_rate=0.01)
    result = stopped(image, model, method=method, stop=rule)
    ends = tuple(run["iterations"] for run in result.provenance["runs"])
    assert 5 in ends
    monkeypatch.setattr(Run, "_seconds", lambda self: 0.0)
    recipe, again = replayed(result, image, model)
    assert np.array_equal(again.image.data, result.image.data)
    assert recipe.last_iterations == (None if len(shape) == 2 else ends)
    assert Budget(iterations=max(ends)) in recipe.stop.parts()


@pytest.mark.parametrize("rule", [Budget(seconds=999), Settled() | Budget(seconds=999), Budget(iterations=2)])
def test_what_ended_by_itself_keeps_its_recipe(rule: Any, network: MakeNetwork, scene: Scene) -> None:
    result = stopped(scene(12, 12), network(), method=FULL.replace(iterations=2), stop=rule)
    recipe = Recipe.parse(result.provenance["recipe"])
    assert (recipe.stop, recipe.last_iterations) == (rule, None)


@pytest.mark.parametrize("method", [Project(), Apply()])
def test_methods_of_a_single_step(method: Any, network: MakeNetwork, scene: Scene) -> None:
    model = network()
    result = stopped(scene(12, 12), model, at(0), method=method)
    recipe, again = replayed(result, scene(12, 12), model)
    assert (recipe.stop, recipe.method) == (None, method)
    image = Image(scene(3, 12, 12), "ZYX")
    result = stopped(image, model, at(0, block=1), method=method)
    recipe, again = replayed(result, image, model)
    assert recipe.last_iterations == (0, 0)
    assert np.array_equal(again.image.data, result.image.data, equal_nan=True)
    assert "ended" not in again.stop_reason


def test_stack_shorter_than_its_recipe(network: MakeNetwork, scene: Scene) -> None:
    recipe = Recipe(operator=A, method=FULL, last_iterations=(2, 3, 4))
    result = drain(run_recipe(recipe, scene(2, 12, 12), network(), device="cpu"))
    assert [run["iterations"] for run in result.provenance["runs"]] == [2, 3]
    for wrong in ((), (-1,)):
        with pytest.raises(OptionError, match="last_iterations"):
            recipe.replace(last_iterations=wrong)
    assert Recipe.from_text(recipe.to_toml(), "toml") == recipe
    assert AnyOf(rules=(Budget(iterations=0),)).parts() == (Budget(iterations=0),)
