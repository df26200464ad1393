"""What every denoiser promises, over all of them: a new one is one row in this table."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError, ImageError, NonFiniteError, OptionError
from napari_fidelity.denoisers import (
    BM3D,
    DENOISERS,
    NLM,
    TV,
    Denoiser,
    NetworkDenoiser,
    Wavelet,
    describe,
    parse_denoiser,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIGMA = 0.1


def mean_filter(x: torch.Tensor) -> torch.Tensor:
    """Stand in for a network: the mean of 3 × 3 pixels."""
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 3, stride=1)


def scene(*shape: int, noise: float = 0.0) -> torch.Tensor:
    """A bright ball before a slope, in every channel another; white noise."""
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape[2:]]
    grid = torch.meshgrid(*axes, indexing="ij")
    ball = (sum(g.square() for g in grid) < 0.4).float()
    channels = torch.stack([0.2 + 0.1 * grid[-1] + (0.3 + 0.1 * c) * ball for c in range(shape[1])])
    clean = channels.expand(shape[0], *channels.shape).clone()
    return clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


# its licence keeps it out of what is installed along
WITH_BM3D = pytest.mark.skipif(find_spec("bm3d") is None, reason="the package bm3d is not installed")
CASES = [
    pytest.param(NLM(patch_distance=3), 6.0, id="nlm"),
    pytest.param(NLM(patch_distance=3, backend="torch"), 6.0, id="nlm-torch"),
    pytest.param(NLM(patch_distance=3, joint=False), 5.0, id="nlm-each"),
    pytest.param(BM3D(), 7.0, id="bm3d", marks=WITH_BM3D),
    pytest.param(TV(), 8.0, id="tv"),
    pytest.param(Wavelet(), 5.0, id="wavelet"),
    pytest.param(NetworkDenoiser(precision="float32"), 5.0, id="network"),
]
every = pytest.mark.parametrize(("denoiser", "gain"), CASES)


def run(denoiser: Denoiser, x: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    return denoiser.denoise(x, sigma, mean_filter if denoiser.needs_network else None)


def psnr(x: torch.Tensor, clean: torch.Tensor) -> float:
    return -10 * math.log10(float((x - clean).square().mean()))


def test_the_table_is_complete() -> None:
    assert {type(case.values[0]) for case in CASES} == set(DENOISERS)
    assert all(cls.title for cls in DENOISERS)


@every
@pytest.mark.parametrize("shape", [(1, 1, 40, 40), (1, 3, 40, 40), (1, 2, 24, 24)])
def test_noise_is_removed(denoiser: Denoiser, gain: float, shape: tuple[int, ...]) -> None:
    clean, noisy = scene(*shape), scene(*shape, noise=SIGMA)
    assert psnr(run(denoiser, noisy), clean) > psnr(noisy, clean) + gain - (shape[1] == 2) * 1.5


@every
def test_noise_is_removed_from_volumes(denoiser: Denoiser, gain: float) -> None:
    clean, noisy = scene(1, 1, 4, 24, 24), scene(1, 1, 4, 24, 24, noise=SIGMA)
    assert psnr(run(denoiser, noisy), clean) > psnr(noisy, clean) + gain - 2.5


@every
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 5, 7), (1, 3, 8, 8), (1, 2, 9, 1), (1, 2, 2, 8, 9)])
def test_any_shape(denoiser: Denoiser, gain: float, shape: tuple[int, ...]) -> None:
    x = scene(*shape, noise=SIGMA)
    before = x.clone()
    output = run(denoiser, x)
    assert output.shape == x.shape
    assert output.dtype == torch.float32
    assert output.is_contiguous()
    assert output.isfinite().all()
    assert torch.equal(x, before)


@every
def test_images_of_a_batch_do_not_know_each_other(denoiser: Denoiser, gain: float) -> None:
    x = torch.cat([scene(1, 1, 16, 17, noise=SIGMA), 1 - scene(1, 1, 16, 17, noise=SIGMA)])
    torch.testing.assert_close(run(denoiser, x), torch.cat([run(denoiser, one) for one in x.split(1)]))


@every
def test_same_image_twice(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 20, 18, noise=SIGMA)
    assert torch.equal(run(denoiser, x), run(denoiser, x))


@every
def test_without_noise_nothing_changes(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 8, 8)
    assert run(denoiser, x, 0.0) is x


@every
@pytest.mark.parametrize("value", [-3.0, 0.0, 0.5, 7.0])
def test_a_flat_image_stays_flat(denoiser: Denoiser, gain: float, value: float) -> None:
    x = torch.full((1, 3, 16, 17), value)
    # BM3D's own arithmetic is single precision, and rounder than that
    torch.testing.assert_close(run(denoiser, x), x, rtol=5e-4, atol=1e-5)


@every
def test_nothing_is_clipped(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 24, 24, noise=SIGMA)
    if denoiser.kind == "bm3d":  # made for the range of [0, 1]: only nearly the same elsewhere
        torch.testing.assert_close(run(denoiser, x + 4) - 4, run(denoiser, x), rtol=0, atol=0.02)
        return
    torch.testing.assert_close(run(denoiser, 10 * x - 30, 10 * SIGMA), 10 * run(denoiser, x) - 30)


@every
def test_no_gradient_flows_through(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 16, 16, noise=SIGMA).requires_grad_()
    output = run(denoiser, x)
    assert not output.requires_grad
    assert not torch.is_inference(output)


@every
def test_double_precision_in_and_out(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 16, 16, noise=SIGMA)
    output = run(denoiser, x.double())
    assert output.dtype == torch.float64
    torch.testing.assert_close(output.float(), run(denoiser, x))


@every
@pytest.mark.parametrize("sigma", [1e-6, 1e3])
def test_a_noise_level_far_off_gives_a_finite_image(denoiser: Denoiser, gain: float, sigma: float) -> None:
    output = run(denoiser, scene(1, 1, 16, 16, noise=SIGMA), sigma)
    assert output.isfinite().all()


@every
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(denoiser: Denoiser, gain: float, value: float) -> None:
    x = scene(1, 1, 8, 8)
    x[0, 0, 2, 3] = value
    for sigma in (0.0, SIGMA):
        with pytest.raises(NonFiniteError, match="1 of 64"):
            run(denoiser, x, sigma)


@every
@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_an_impossible_noise_level_is_named(denoiser: Denoiser, gain: float, sigma: float) -> None:
    with pytest.raises(OptionError, match="noise level"):
        run(denoiser, scene(1, 1, 8, 8), sigma)


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(8, 8),
        torch.rand(1, 1, 1, 1, 8, 8),
        torch.zeros(1, 1, 0, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 1, 8, 8, dtype=torch.complex64),
    ],
)
def test_what_is_no_image_is_named(x: torch.Tensor) -> None:
    with pytest.raises(ImageError, match="N, C"):
        TV().denoise(x, SIGMA)


@every
def test_intensities_at_the_end_of_the_range_of_floats(denoiser: Denoiser, gain: float) -> None:
    x = scene(1, 1, 16, 16) * 3e38
    with contextlib.suppress(NonFiniteError):
        assert run(denoiser, x, 1e38).isfinite().all()


def test_a_result_that_is_not_finite_is_named() -> None:
    with pytest.raises(NonFiniteError, match="another denoiser"):
        NetworkDenoiser().denoise(scene(1, 1, 8, 8), SIGMA, lambda x: x / 0)


@every
def test_text_and_table(denoiser: Denoiser, gain: float) -> None:
    assert parse_denoiser(describe(denoiser)) == denoiser
    assert parse_denoiser(denoiser.to_plain()) == denoiser
    assert parse_denoiser(denoiser) is denoiser


@pytest.mark.parametrize("text", ["median", "nlm:hh=2", "nlm:h=0", "tv:weight=-1", "nlm:backend=numpy"])
def test_texts_that_name_no_denoiser(text: str) -> None:
    with pytest.raises(OptionError):
        parse_denoiser(text)


@pytest.mark.parametrize("kind", ["nlm", pytest.param("bm3d", marks=WITH_BM3D)])
def test_another_thread_goes_on_meanwhile(kind: str) -> None:
    """The training thread must not wait for the denoiser: the library lets go of the interpreter."""
    x = scene(1, 3, 48, 48, noise=SIGMA)
    if kind == "nlm":
        x = x.repeat(1, 1, 6, 6)
    denoiser, ends = parse_denoiser(kind), []
    denoiser.denoise(x[..., :16, :16], SIGMA)  # imports
    worker = threading.Thread(target=lambda: (denoiser.denoise(x, SIGMA), ends.append(time.perf_counter())))
    ticks, before = [], sys.getswitchinterval()
    start = time.perf_counter()
    worker.start()
    while worker.is_alive():
        time.sleep(0.001)
        ticks.append(time.perf_counter())
    worker.join()
    seconds = ends[0] - start
    longest = max(b - a for a, b in zip([start, *ticks], ticks, strict=False))
    assert sys.getswitchinterval() == before
    assert longest < 0.5 * seconds


def test_a_network_is_needed() -> None:
    with pytest.raises(ArchitectureError, match="none was given"):
        NetworkDenoiser().denoise(scene(1, 1, 8, 8), SIGMA)


def collect(function: Callable[[], torch.Tensor], into: list[torch.Tensor]) -> None:
    into.append(function())


@every
def test_two_threads_at_once(denoiser: Denoiser, gain: float) -> None:
    images = [scene(1, 1, 20, 20, noise=level) for level in (0.05, 0.2)]
    alone = [run(denoiser, x) for x in images]
    together: list[list[torch.Tensor]] = [[], []]
    threads = [
        threading.Thread(target=collect, args=(lambda x=x: run(denoiser, x), into))
        for x, into in zip(images, together, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, (found,) in zip(alone, together, strict=True):
        assert torch.equal(found, expected)


def test_declaring_denoisers_loads_no_torch() -> None:
    code = (
        "import sys, napari_fidelity.denoisers as d; [cls() for cls in d.DENOISERS]; "
        "assert not {'torch', 'scipy', 'skimage', 'bm3d'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
