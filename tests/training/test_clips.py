"""Clips out of still images: the middle frame is the image, the others are moved as far as allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fidelity.networks.vsr import VSR
from napari_fidelity.operators.resample import Downsample
from napari_fidelity.training import Degrade, Motion, Train, TrainingSet
from napari_fidelity.training.synthetic import dead_leaves

DATA = TrainingSet(tuple(dead_leaves(np.random.default_rng(s), (72, 80)) for s in range(2)), np.full(2, 0.5))
STILL = Motion(shift=0, jitter=0, turn=0, zoom=0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(n: int = 40) -> torch.Tensor:
    """Two channels that hold the coordinates of each pixel, from the middle, over 100."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - (n - 1) / 2,) * 2, indexing="ij")
    return torch.stack([y, x])[None] / 100 + 0.5


def places(clips: torch.Tensor, at: slice = slice(15, 25)) -> torch.Tensor:
    """What the pixels of the middle show of the image, in pixels: (frames, 2, h, w)."""
    return 100 * (clips[0, :, :, at, at] - 0.5)


def test_the_middle_frame_is_the_image() -> None:
    x = torch.rand(4, 3, 20, 20)
    clips = Motion().clips(x, 5, rng())
    assert clips.shape == (4, 5, 3, 20, 20)
    assert torch.equal(clips[:, 2], x)
    assert 0 <= clips.min() <= clips.max() <= 1


def test_velocity_is_constant_and_within_its_limit() -> None:
    motion = STILL.replace(shift=2.0, still=0)
    for seed in range(5):
        seen = places(motion.clips(ramp(), 5, rng(seed))).mean((2, 3))
        steps = seen[1:] - seen[:-1]
        # the interpolating cubic (a = -0.75) misses a straight line by up to a tenth of a pixel
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=0.15, rtol=0)
        assert steps.abs().max() <= 2.1
    assert steps.abs().max() > 0.1


def test_jitter_is_each_frames_own() -> None:
    seen = places(STILL.replace(jitter=0.5, still=0).clips(ramp(), 5, rng())).mean((2, 3))
    moved = seen - seen[2]
    assert moved.abs().max() <= 0.6
    assert len(moved.round(decimals=2).unique(dim=0)) == 5


def test_turn_and_zoom_are_about_the_middle() -> None:
    corner = places(STILL.replace(turn=5, still=0).clips(ramp(), 3, rng()))[:, :, 0, 0]
    middle = places(STILL.replace(turn=5, still=0).clips(ramp(), 3, rng())).mean((2, 3))
    assert middle.abs().max() < 1e-2
    torch.testing.assert_close(corner.norm(dim=1), corner[1].norm().expand(3), atol=2e-2, rtol=0)
    assert 0.05 < (corner[2] - corner[1]).norm() <= 2 * corner[1].norm() * np.sin(np.radians(2.5)) + 1e-2
    grown = places(STILL.replace(zoom=0.1, still=0).clips(ramp(), 3, rng()))
    ratio = grown[:, :, 0, 0] / grown[1, :, 0, 0]
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1], atol=1e-2, rtol=0)
    assert 0.01 < abs(float(ratio[2, 0]) - 1) <= 0.1


def test_a_share_of_the_clips_is_still() -> None:
    clips = Motion(still=0.5).clips(torch.rand(40, 1, 12, 12), 3, rng())
    still = (clips - clips[:, 1:2]).abs().flatten(1).amax(1) < 1e-5
    assert 10 < int(still.sum()) < 30


@pytest.mark.parametrize("motion", [Motion(), Motion(shift=6, turn=10, zoom=0.1), STILL])
def test_the_margin_holds_whatever_a_frame_shows(motion: Motion) -> None:
    side = 24
    margin = motion.margin(side, 5)
    x = torch.zeros(8, 1, side + 2 * margin, side + 2 * margin)
    x[..., 0, :] = x[..., -1, :] = x[..., :, 0] = x[..., :, -1] = 1  # repeated beyond the border
    inner = slice(margin, margin + side)
    for seed in range(5):
        assert motion.clips(x, 5, rng(seed))[..., inner, inner].abs().max() < 1e-5


def test_windows_are_measured_frame_by_frame() -> None:
    operator, options = Downsample(scale=2), Degrade(batch_size=3, patch_size=8, margin=6)
    data = DATA.at_least(options.side(2, 5))
    y, x, sigma = options.batch(data, operator, 2, rng(), 5)
    assert (y.shape, x.shape, sigma.shape) == ((3, 15, 8, 8), (3, 3, 16, 16), (3, 1, 1, 1))
    middle = y[:, 6:9]
    torch.testing.assert_close(operator.A(x)[..., 2:-2, 2:-2], middle[..., 2:-2, 2:-2], atol=1e-5, rtol=0)


def test_noise_and_gray_belong_to_the_clip() -> None:
    options = Degrade(batch_size=12, patch_size=16, noise=(0.05, 0.2), gray=0.5, motion=STILL)
    y, x, sigma = options.batch(DATA, Downsample(scale=1), 1, rng(), 3)
    noise = y.unflatten(1, (3, 3)) - x[:, None]
    levels = noise.std((1, 2, 3, 4))
    torch.testing.assert_close(sigma.flatten(), levels, rtol=0.15, atol=0)
    assert (noise[:, 0] - noise[:, 1]).abs().flatten(1).amax(1).min() > 0.05  # every frame its own
    alike = (y.unflatten(1, (3, 3)) == y.unflatten(1, (3, 3))[:, :, :1]).flatten(1).all(1)
    assert 2 < int(alike.sum()) < 10


def test_a_video_network_learns_from_clips() -> None:
    network = VSR(3, 6, 1, 2).start_as_interpolation(torch.Generator().manual_seed(0))
    options = Train(
        n_steps=40,
        learning_rate=3e-3,
        warmup=2,
        report_every=20,
        degrade=Degrade(batch_size=4, patch_size=8, margin=2),
    )
    held_out = dead_leaves(rng(9), (41, 43))
    every = options.steps(network, DATA, Downsample(scale=2), validation=(held_out,))
    steps = [step for step in every if "val_psnr" in step.scores]
    assert steps[1].scores["val_psnr"] > steps[0].scores["val_psnr"]


class Video(torch.nn.Module):
    """A video network that promises no more than the contract: frames in, frames out, the batch axis time."""

    frames, scale = 3, 2

    def __init__(self, *, takes_noise_level: bool) -> None:
        super().__init__()
        self.inner = VSR(3, 6, 1, 2, 3).start_as_interpolation(torch.Generator().manual_seed(0))
        self.takes_noise_level = takes_noise_level
        self.told: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        self.told += [] if sigma is None else [sigma.flatten()]
        return self.inner(x)


@pytest.mark.parametrize("takes_noise_level", [False, True])
def test_any_video_network_learns_from_the_same_clips(takes_noise_level: bool) -> None:
    degrade = Degrade(batch_size=4, patch_size=8, margin=2, noise=(0.01, 0.1))
    options = Train(n_steps=6, learning_rate=3e-3, warmup=1, report_every=2, degrade=degrade)
    video = Video(takes_noise_level=takes_noise_level)
    ours = [step.loss for step in options.steps(Video(takes_noise_level=False).inner, DATA, Downsample(scale=2))]
    losses = [step.loss for step in options.steps(video, DATA, Downsample(scale=2))]
    assert losses == pytest.approx(ours, rel=1e-4)
    levels = [level.tolist() for level in video.told]
    assert len(levels) == (6 * 4 if takes_noise_level else 0)
    assert all(len(level) == 3 and len(set(level)) == 1 for level in levels)  # a level belongs to a clip
    assert len({level[0] for level in levels}) == len(levels)
