"""Flips, turns and shifts of an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_fidelity.uncertainty._transforms import Transform, draw


@pytest.mark.parametrize("shape", [(9, 9), (8, 12), (4, 6, 6)])
def test_transforms_are_undone(shape: tuple[int, ...]) -> None:
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    seen = torch.zeros(1, 1, *shape)
    drawn = set()
    for _ in range(150):
        transform = draw("auto", shape, [2.0] * len(shape), rng)
        drawn.add((transform.view, transform.upside_down))
        moved = transform.apply(x)
        kept = transform.kept(x)
        assert moved.shape == x.shape and kept.shape == (1, 1, *shape)
        back = transform.undo(moved)
        assert torch.equal(back * kept, x * kept)
        assert float(kept.mean()) >= 0.75 ** len(shape) - 0.1
        # what was not kept is nowhere in the transformed image
        marked = transform.apply(torch.arange(float(x[0, 0].numel())).reshape(1, 1, *shape))
        inside = torch.isin(torch.arange(float(x[0, 0].numel())).reshape(1, 1, *shape), marked)
        assert torch.equal(inside, kept > 0)
        seen += kept
    assert float(seen.min()) > 5
    views = 8 if shape[-1] == shape[-2] else 4
    assert len(drawn) == views * (2 if len(shape) == 3 else 1)


def test_shifts_move_the_image_against_the_measurement() -> None:
    rng = torch.Generator().manual_seed(0)
    for scale in (2.0, 4.0):
        shifts = [draw("shifts", (40, 64), [scale, scale], rng).shift for _ in range(200)]
        assert all(any(by % scale for by in shift) for shift in shifts)
        assert max(abs(by) for shift in shifts for by in shift) == 16
    assert {draw("shifts", (1, 1), [2.0, 2.0], rng) for _ in range(3)} == {Transform(0, False, (0, 0))}
    shifts = [draw("shifts", (16, 16), [1.5, 1.5], rng).shift for _ in range(50)]
    assert any(by % 2 == 0 for shift in shifts for by in shift)


@pytest.mark.parametrize(
    ("kind", "views"), [("flips", {0, 1, 2, 3}), ("rotations", {0, 3, 5, 6}), ("none", {0}), ("shifts", {0})]
)
def test_kinds_of_transforms(kind: Any, views: set[int]) -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = [draw(kind, (16, 16), [1.0, 1.0], rng) for _ in range(60)]
    assert {one.view for one in drawn} == views
    assert any(any(one.shift) for one in drawn) == (kind == "shifts")
