"""Time series: frame by frame, in windows or as a whole, through networks for images and for video."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity import Image, assess, restore, restore_steps, run_recipe
from napari_fidelity.core.blocks import planes, to_tensor
from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.step import drain
from napari_fidelity.core.units import lengths, units
from napari_fidelity.methods import RED, Apply, FineTune, Project
from napari_fidelity.operators import Downsample, GaussianNoise, Identity
from napari_fidelity.pipeline import Recipe, memory_needed
from napari_fidelity.pipeline.calibration import calibrate_images
from napari_fidelity.pipeline.series import as_run, costs, plan_of
from napari_fidelity.uncertainty import Bootstrap, Dropout, Ensemble, ErrorMap, NullSpace, Residual

if TYPE_CHECKING:
    from conftest import MakeNetwork, MakeVideo, Scene
    from napari_fidelity.core.step import Result

A = Downsample(scale=2)
QUICK = FineTune(iterations=1, views=1, precision="float32")


def run(image: Image, model: Any, **settings: Any) -> Result[Image]:
    settings = {"operator": A, "method": Apply(), "device": "cpu", **settings}
    return restore(image, model=model, **settings)


def tensor(image: Image) -> torch.Tensor:
    """All frames of a clip in [0, 1], ``(T, 1, H, W)``."""
    return torch.from_numpy(np.array(image.data))[:, None]


# -- units ------------------------------------------------------------------------------------------------------


def test_units_are_clipped_to_the_series() -> None:
    clip = planes(Image(np.zeros((7, 4, 4)), "TYX"))
    assert [unit.numbers for unit in units(clip, 1, 2)] == [
        (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 5), (2, 3, 4, 5, 6), (3, 4, 5, 6), (4, 5, 6)
    ]  # fmt: skip
    windows = units(clip, 5, 2)
    assert [unit.numbers for unit in windows] == [(0, 1, 2, 3, 4, 5, 6), (3, 4, 5, 6)]
    assert [unit.kept() for unit in windows] == [(0, 1, 2, 3, 4), (5, 6)]
    (whole,) = units(clip, 7, 2)
    assert whole.numbers == whole.kept() == tuple(range(7))


def test_units_never_mix_slices_and_follow_the_order_of_the_image() -> None:
    blocks = planes(Image(np.zeros((3, 2, 4, 4)), "TZYX"))
    assert [unit.numbers for unit in units(blocks)] == [(n,) for n in range(6)]
    for unit in units(blocks, 2, 1):
        assert len({blocks[n].index["Z"] for n in unit.numbers}) == 1
        assert [blocks[n].index["T"] for n in unit.numbers] == sorted(blocks[n].index["T"] for n in unit.numbers)
    own = [n for unit in units(blocks, 2, 1) for n in unit.kept()]
    assert sorted(own) == list(range(6))
    assert [unit.kept()[0] for unit in units(blocks, 2, 1)] == [0, 1, 4, 5]
    still = planes(Image(np.zeros((3, 4, 4)), "ZYX"))
    assert [unit.numbers for unit in units(still, 5, 2)] == [(0,), (1,), (2,)]
    with pytest.raises(OptionError, match="one frame or more"):
        units(still, 0)


# -- what nothing is adapted to ---------------------------------------------------------------------------------


@pytest.mark.parametrize("series", ["auto", "frame", "window", "whole"])
@pytest.mark.parametrize("frames", [2, 5, 12])
def test_the_network_alone_gives_the_same_however_the_series_is_cut(
    series: Any, frames: int, video: MakeVideo, scene: Scene
) -> None:
    clip = Image(scene(frames, 12, 10), "TYX")
    with torch.no_grad():
        wanted = video()(tensor(clip))[:, 0].numpy()
    found = run(clip, video(), series=series).image.data
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_long_series_pass_in_parts_that_memory_is_sure_to_hold(
    video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fidelity.methods._plan.free_memory", lambda device: 10**15)  # nothing is tiled
    assert plan_of("auto", Apply(), 5, 1000, 256 * 256).core == 16
    assert plan_of("auto", Apply(), 5, 1000, 4096 * 4096).core == 5
    assert plan_of("auto", Apply(), 1, 1000, 256).core == 1
    big = Image(np.broadcast_to(np.float32(0), (1000, 512, 512)), "TYX")
    recipe = Recipe(operator=A, method=Apply())
    whole = memory_needed(recipe.replace(series="whole"), big, "cpu", network=video())
    parts = memory_needed(recipe, big, "cpu", network=video())
    assert 1000 / 9 * parts.method == pytest.approx(whole.method, rel=0.01)


def test_projection_is_that_of_the_frames_it_is_handed(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(4, 12, 10), "TYX")
    wanted = drain(Project(ridge=0).steps(tensor(clip), A, video())).image[:, 0].numpy()
    for series in ("auto", "frame", "window", "whole"):
        found = run(clip, video(), method=Project(ridge=0), series=series).image.data
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


# -- fine-tuning ------------------------------------------------------------------------------------------------


def test_the_whole_series_is_one_run_of_the_method(video: MakeVideo, network: MakeNetwork, scene: Scene) -> None:
    clip = Image(scene(3, 16, 14), "TYX")
    for model in (video(), network()):
        wanted = drain(QUICK.steps(tensor(clip), A, model)).image[:, 0].numpy()
        result = run(clip, model, method=QUICK, series="whole")
        np.testing.assert_array_equal(result.image.data, wanted)
        assert {record.block for record in result.history} == {0}


def test_a_window_is_one_run_of_the_method_of_which_its_own_frames_are_kept(
    video: MakeVideo, scene: Scene
) -> None:
    clip = Image(scene(4, 16, 14), "TYX")
    result = run(clip, video(3), method=QUICK, series="auto")  # windows of three frames, one beside them
    y = tensor(clip)
    first = drain(QUICK.steps(y[:4], A, video(3), rng=0)).image[:3, 0]
    last = drain(QUICK.steps(y[2:], A, video(3), rng=1)).image[1:, 0]
    np.testing.assert_array_equal(result.image.data, torch.cat([first, last]).numpy())
    assert result.provenance["series"] == {"core": 3, "context": 1}
    assert result.provenance["blocks"] == result.provenance["blocks_done"] == 2


def test_frame_by_frame_a_video_network_learns_from_the_frames_around(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(4, 16, 14), "TYX")
    result = run(clip, video(3), method=QUICK, series="frame")
    for t, seen in enumerate([slice(0, 2), slice(0, 3), slice(1, 4), slice(2, 4)]):
        alone = drain(QUICK.steps(tensor(clip)[seen], A, video(3), rng=t)).image
        np.testing.assert_array_equal(result.image.data[t], alone[t - (seen.start or 0), 0].numpy())


def test_networks_for_images_are_adapted_to_every_frame_as_ever(network: MakeNetwork, scene: Scene) -> None:
    clip = Image(scene(3, 16, 14), "TYX")
    auto, frame = (run(clip, network(), method=QUICK, series=series) for series in ("auto", "frame"))
    np.testing.assert_array_equal(auto.image.data, frame.image.data)
    for t in range(3):
        alone = drain(QUICK.steps(tensor(clip)[t : t + 1], A, network(), rng=t)).image
        np.testing.assert_array_equal(auto.image.data[t], alone[0, 0].numpy())
    assert "series" not in auto.provenance


# -- axes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "YXT", "TCYX", "CTYX", "TYXS"])
@pytest.mark.parametrize("series", ["frame", "window", "whole"])
def test_slices_and_channels_are_series_of_their_own(
    axes: str, series: Any, video: MakeVideo, scene: Scene
) -> None:
    sizes = {"T": 3, "Z": 2, "C": 2, "S": 3, "Y": 12, "X": 10}
    order = [axis for axis in "TZCSYX" if axis in axes]
    data = scene(*(sizes[axis] for axis in order))
    image = Image(np.transpose(data, [order.index(axis) for axis in axes]), axes, {"T": 0.5})
    result = run(image, video(), series=series, scaling="none").image
    assert result.axes == axes
    assert result.pixel_size["T"] == 0.5
    found = np.transpose(result.data, [axes.index(axis) for axis in order])
    others = [axis for axis in order if axis not in "TYX"]
    for at in np.ndindex(*(sizes[axis] for axis in others)):
        clip = torch.from_numpy(data[(slice(None), *at)])[:, None]
        with torch.no_grad():
            wanted = video()(clip)[:, 0].numpy()
        np.testing.assert_allclose(found[(slice(None), *at)], wanted, rtol=0, atol=1e-6)


def test_video_networks_for_colour_take_colour(video: MakeVideo, scene: Scene) -> None:
    clip = Image(np.moveaxis(scene(4, 3, 12, 10), 1, -1), "TYXS")
    result = run(clip, video(n_channels=3), series="window")
    with torch.no_grad():
        wanted = video(n_channels=3)(to_tensor(clip, run_scaling())).numpy()
    np.testing.assert_allclose(np.moveaxis(result.image.data, -1, 1), wanted, rtol=0, atol=1e-6)


def run_scaling() -> Any:
    from napari_fidelity.core.scaling import Scaling

    return Scaling()


def test_channels_a_video_network_does_not_know_go_one_by_one(video: MakeVideo, network: MakeNetwork) -> None:
    pair = Image(np.zeros((3, 2, 8, 8), np.float32), "TCYX")
    recipe = Recipe(operator=A, channels="joint")
    assert as_run(recipe, pair, video()).channels == "each"
    assert as_run(recipe, pair, network()) is recipe
    assert as_run(recipe.replace(method=RED()), pair, video()).channels == "joint"
    gray = Image(np.zeros((3, 8, 8), np.float32), "TYX")
    assert as_run(recipe, gray, video(n_channels=3)) is recipe


def test_channels_through_a_network_for_images_stay_frames_of_a_batch(network: MakeNetwork, scene: Scene) -> None:
    image = Image(scene(3, 2, 12, 10), "TCYX")
    one_by_one = run(image, network(1), channels="joint", series="frame").image.data
    together = run(image, network(1), channels="joint", series="whole").image.data
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1e-6)


# -- steps ------------------------------------------------------------------------------------------------------


def test_steps_tell_which_frames_they_are_of(video: MakeVideo, scene: Scene) -> None:
    image = Image(scene(2, 7, 12, 10), "ZTYX", {"T": 0.5})
    steps = restore_steps(image, operator=A, method=Apply(), model=video(3), series="window", device="cpu")
    seen = []
    result = drain(steps, seen.append)
    assert [step.position for step in seen] == [{"Z": z, "T": t} for z in (0, 1) for t in (0, 3, 6)]
    assert [step.frames for step in seen] == [3, 3, 1] * 2
    assert {step.blocks for step in seen} == {6}
    for step in seen:
        part = step.estimate()
        z, t = step.position["Z"], step.position["T"]
        assert part.axes == ("TYX" if step.frames > 1 else "YX")
        np.testing.assert_array_equal(part.data, result.image.data[z, t : t + step.frames].squeeze())
        assert part.pixel_size["Y"] == 0.5
        assert part.pixel_size.get("T") == (0.5 if step.frames > 1 else None)


def test_a_run_that_is_stopped_leaves_later_frames_empty(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(7, 16, 14), "TYX")
    steps = restore_steps(clip, operator=A, method=QUICK, model=video(3), device="cpu")
    result = drain(steps, lambda step: "enough" if (step.block, step.index) == (1, 0) else None)
    whole = np.isfinite(result.image.data).all(axis=(1, 2))
    assert whole.tolist() == [True] * 6 + [False]
    assert result.stop_reason == "enough; 2 of 3 runs of frames are done, the others are empty"
    again = drain(run_recipe(Recipe.from_plain(result.provenance), clip, video(3), device="cpu"))
    np.testing.assert_array_equal(again.image.data, result.image.data)


@pytest.mark.parametrize("series", ["auto", "frame", "window", "whole"])
def test_the_recipe_of_a_result_makes_it_again_bit_by_bit(series: Any, video: MakeVideo, scene: Scene) -> None:
    image = Image(scene(6, 2, 12, 10), "TCYX")
    first = run(image, video(3), method=QUICK, series=series, noise=GaussianNoise(sigma=0.01))
    recipe = Recipe.from_text(Recipe.from_plain(first.provenance).to_json())
    assert recipe.series == series
    assert recipe.channels == "each"
    second = drain(run_recipe(recipe, image, video(3), device="cpu"))
    np.testing.assert_array_equal(second.image.data, first.image.data)


def test_what_a_series_costs_is_said(video: MakeVideo, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    still, moving = costs(QUICK, 1, 40), costs(QUICK, 5, 40)
    assert [still[name].passes for name in ("frame", "window", "whole")] == [40, 40, 40]
    assert [still[name].runs for name in ("frame", "window", "whole")] == [40, 8, 1]
    assert moving["frame"].passes == sum(len(seen) for seen, _ in lengths(40, 1, 2)) == 194
    assert [moving[name].at_once for name in ("frame", "window", "whole")] == [5, 9, 40]
    assert moving["auto"] == moving["window"]
    assert still["auto"] == still["frame"]
    assert costs(QUICK, 5, 40, others=3)["whole"].passes == 120
    with caplog.at_level(logging.INFO, logger="napari_fidelity"):
        run(Image(scene(4, 16, 14), "TYX"), video(3), method=QUICK)
    assert (
        "A time series of 4: 2 runs of up to 4 frames at once; 6 frame passes an iteration "
        "(each frame 1.5 times), at most 12 in all" in caplog.text
    )


# -- noise, weights, memory -------------------------------------------------------------------------------------


def test_frames_with_scales_of_their_own_have_no_noise_in_common(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(3, 12, 10) * np.array([1, 2, 3], np.float32)[:, None, None] * 100, "TYX")
    each = {"scaling": "minmax", "scope": "volume"}
    noise = GaussianNoise(sigma=2)
    with pytest.raises(OptionError, match="no noise model in common"):
        run(clip, video(), noise=noise, **each)
    assert np.isfinite(run(clip, video(), **each).image.data).all()
    assert np.isfinite(run(clip, video(), noise=noise, scaling="minmax").image.data).all()


def test_every_frame_takes_its_own_scaling(network: MakeNetwork, scene: Scene) -> None:
    clip = Image(scene(3, 12, 10) * np.array([1, 2, 3], np.float32)[:, None, None] * 100, "TYX")
    each = {"scaling": "minmax", "scope": "volume"}
    frame, whole = (run(clip, network(), series=series, **each).image.data for series in ("frame", "whole"))
    np.testing.assert_allclose(whole, frame, rtol=1e-5)
    seen = []
    run(clip, network(), series="whole", on_step=seen.append, **each)
    np.testing.assert_allclose(seen[0].estimate().data, whole, rtol=1e-6)


def test_pixels_that_were_not_seen_stay_with_their_frame(video: MakeVideo, scene: Scene) -> None:
    data = scene(5, 16, 14)
    data[3, 4:6, 5:8] = np.nan
    given: list[Any] = []

    class Telling(Apply):
        def steps(self, y: Any, operator: Any, model: Any = None, **known: Any) -> Any:
            given.append(known["weights"])
            return (yield from super().steps(y, operator, model, **known))

    run(Image(data, "TYX"), video(3), method=Telling.model_construct(), nonfinite="mask", series="window")
    first, second = given
    assert first.shape == (4, 1, 16, 14)
    assert [int((part == 0).sum()) for part in first] == [0, 0, 0, 6]
    assert [int((part == 0).sum()) for part in second] == [0, 6, 0]


def test_masks_and_judged_images_are_cut_frame_by_frame(network: MakeNetwork, scene: Scene) -> None:
    clip = Image(scene(3, 2, 12, 10), "TCYX")
    mask = np.linspace(0.2, 1, 3, dtype=np.float32)[:, None, None] * np.ones((24, 20), np.float32)
    method = QUICK.replace(mask=mask, last_layer="descend")
    result = run(clip, network(1), method=method, series="whole", channels="joint")
    shaped = QUICK.replace(mask=np.repeat(mask, 2, axis=0), last_layer="descend")
    y = torch.from_numpy(np.array(clip.data)).reshape(6, 1, 12, 10)
    wanted = drain(shaped.steps(y, A, network(1))).image.reshape(3, 2, 24, 20).numpy()
    np.testing.assert_array_equal(result.image.data, wanted)


@pytest.mark.parametrize(
    "map", [NullSpace(), Residual(), ErrorMap(), Bootstrap(samples=2), Dropout(passes=2, p=0.1)]
)
@pytest.mark.parametrize("series", ["auto", "whole"])
def test_maps_look_at_series(map: Any, series: Any, video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(5, 16, 14), "TYX")
    made = run(clip, video(3), method=QUICK, series=series)
    shown = assess(made, map, measurement=clip, model=video(3), device="cpu")
    sizes = (16, 14) if isinstance(map, Residual) else (32, 28)
    assert shown.image.shape == (5, *sizes)
    for image in shown.maps.values():
        assert np.isfinite(image.data).all()
    assert Recipe.from_plain(shown.provenance).method.image is None  # the recipe makes the judged image itself


def test_maps_of_what_was_made_agree_with_those_that_make_it(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(5, 16, 14), "TYX")
    made = run(clip, video(3), method=QUICK)
    judged = assess(made, Residual(), measurement=clip, model=video(3), device="cpu").image.data
    itself = restore(clip, operator=A, method=Residual(of=QUICK), model=video(3), device="cpu").image.data
    np.testing.assert_allclose(judged, itself, rtol=0, atol=1e-6)


def test_calibrations_count_each_frame_of_a_window(video: MakeVideo, scene: Scene) -> None:
    clip = Image(scene(4, 12, 10), "TYX")
    truth = Image(scene(4, 24, 20, seed=1), "TYX")
    map = Bootstrap(samples=2, of=Project())
    recipe = Recipe(operator=A, method=Project(), series="window")
    calibration = calibrate_images([(clip, truth)], map, recipe, video(3), device="cpu")
    assert len(calibration.statistics["slope"]) == 4


def test_ensembles_do_not_mix_windows(video: MakeVideo, model_file: Any, scene: Scene) -> None:
    clip = Image(scene(3, 12, 10), "TYX")
    map = Ensemble(of=Apply(), models=(str(model_file),))
    with pytest.raises(OptionError, match="windows of 1 and 5 frames"):
        restore(clip, operator=A, method=map, model=video(), device="cpu")


def test_methods_without_a_restoration_network_go_frame_by_frame(scene: Scene) -> None:
    clip = Image(scene(3, 12, 10), "TYX")
    with pytest.raises(OptionError, match="RED works frame by frame"):
        restore(clip, operator=Identity(), method=RED(), series="whole", device="cpu")
    still = Image(scene(12, 10), "YX")
    quick = RED(iterations=1)
    assert restore(still, operator=Identity(), method=quick, series="whole", device="cpu").image.shape == (12, 10)


def test_memory_counts_all_frames_of_a_run(video: MakeVideo) -> None:
    clip = Image(np.zeros((20, 64, 64), np.float32), "TYX")
    recipe = Recipe(operator=A, method=FineTune(snapshots=20))
    needed = {
        series: memory_needed(recipe.replace(series=series), clip, "cpu", network=video()).method
        for series in ("frame", "window", "whole")
    }
    assert 1.5 < needed["window"] / needed["frame"] < 1.9
    assert 1.8 < needed["whole"] / needed["window"] < 2.3
