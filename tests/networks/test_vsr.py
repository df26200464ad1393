"""VSR: what its windows hold, the enlargement in front, one set of weights for every scale."""

from __future__ import annotations

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError, ShapeError
from napari_fidelity.networks.blocks import bicubic
from napari_fidelity.networks.vsr import VSR, _window_index
from napari_fidelity.operators.resample import resize


def network(**config: int) -> VSR:
    torch.manual_seed(0)
    return VSR(**{"n_feats": 5, "n_blocks": 2, **config}).eval()


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5)])
def test_the_enlargement_is_that_of_the_operators(scale: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(bicubic(x, scale), resize(x, [scale * n for n in size]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("length", "first", "last"),
    [
        (7, [2, 1, 0, 1, 2], [4, 5, 6, 5, 4]),
        (3, [2, 1, 0, 1, 2], [0, 1, 2, 1, 0]),
        (2, [0, 1, 0, 1, 0], [1, 0, 1, 0, 1]),
        (1, [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_windows_mirror_at_both_ends(length: int, first: list[int], last: list[int]) -> None:
    index = _window_index(length, 5, torch.device("cpu")).tolist()
    assert (len(index), index[0], index[-1]) == (length, first, last)
    if length > 4:
        assert index[3] == [1, 2, 3, 4, 5]


@torch.no_grad()
def test_every_frame_is_restored_from_its_window() -> None:
    net, clip = network(scale=2), torch.rand(6, 3, 4, 5)
    windows = clip[_window_index(6, 5, clip.device)].flatten(1, 2)
    torch.testing.assert_close(net(clip), net.restore_middle(windows))
    other = clip.clone()
    other[5] = torch.rand(3, 4, 5)
    changed = (net(other) - net(clip)).abs().flatten(1).amax(1) > 1e-6
    assert changed.tolist() == [False, False, False, True, True, True]


@torch.no_grad()
def test_a_still_image_is_a_clip_of_replicas() -> None:
    net, y = network(), torch.rand(1, 3, 4, 5)
    still = net(y)
    torch.testing.assert_close(net(y.expand(3, -1, -1, -1)), still.expand(3, -1, -1, -1))
    torch.testing.assert_close(net.restore_middle(y.repeat(1, 5, 1, 1)), still)


@pytest.mark.parametrize("scale", [1, 2, 3, 7])
@torch.no_grad()
def test_every_scale_has_the_same_weights(scale: int) -> None:
    net, y = network(), torch.rand(2, 3, 4, 5)
    other = net.to_scale(scale)
    assert (other.scale, other.info.scale, other.frames) == (scale, scale, 5)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    torch.testing.assert_close(other(y), net.to_scale(1)(bicubic(y, scale)))
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert not own & {p.untyped_storage().data_ptr() for p in other.parameters()}


@torch.no_grad()
def test_the_start_is_near_bicubic_enlargement() -> None:
    net, y = network(n_feats=16).start_as_interpolation(torch.Generator().manual_seed(0)), torch.rand(1, 3, 6, 6)
    assert (net(y) - bicubic(y, 4)).abs().mean() < 0.1


def test_the_enlargement_keeps_its_precision_under_autocast() -> None:
    net, y = network(), torch.rand(1, 3, 4, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        net.tail.weight.zero_()
        net.tail.bias.zero_()  # type: ignore[union-attr]
        assert torch.equal(net(y), bicubic(y, 4))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ShapeError, match="15, H, W"):
        network().restore_middle(torch.rand(2, 12, 4, 4))
    with pytest.raises(ArchitectureError, match="whole frames"):
        VSR.infer_config({**network().state_dict(), "fuse.weight": torch.zeros(5, 14, 3, 3)})
    with pytest.raises(ArchitectureError, match="integer from 1 to 16"):
        network().to_scale(17)
