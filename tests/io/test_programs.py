"""Networks in files that are programs: nothing runs without trust, and what is found of them by trials."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_fidelity as nf
from napari_fidelity.core.errors import ArchitectureError, FidelityError, ModelFileError, UntrustedModelError
from napari_fidelity.core.step import drain
from napari_fidelity.io import convert_model, load_model
from napari_fidelity.pipeline import ModelReference, memory_needed
from napari_fidelity.pipeline.calibration import calibrate_images
from napari_fidelity.pipeline.models import load_reference
from napari_fidelity.pipeline.resolution import frc_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_fidelity.networks.foreign import LoadedNetwork


class Net(nn.Module):
    """Enlarges images twice; the sides must be multiples of ``multiple``."""

    def __init__(self, channels: int = 3, multiple: int = 1) -> None:
        super().__init__()
        self.shrink, self.grow = nn.PixelUnshuffle(multiple), nn.PixelShuffle(2 * multiple)
        self.first = nn.Conv2d(channels * multiple**2, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4 * channels * multiple**2, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        return self.grow(self.last(self.first(self.shrink(y)).relu()))


class Pair(Net):
    def forward(self, y: Tensor, other: Tensor) -> Tensor:
        return super().forward(y + other)


def small(**options: Any) -> Net:
    torch.manual_seed(0)
    return Net(**options).eval()


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Path]:
    """Save a module as TorchScript: ``scripted(module, suffix)``."""

    def save(module: nn.Module, suffix: str = ".pt", how: Any = torch.jit.script) -> Path:
        path = tmp_path / f"net{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(how(module), path)
        return path

    return save


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """Save a module as an exported program: ``exported(module, example images, names of free axes)``."""

    def save(module: nn.Module, *examples: Tensor, free: str = "nhw", multiple: int = 1) -> Path:
        dims: dict[int, Any] = {}
        for axis, name in ((0, "n"), (2, "h"), (3, "w")):
            if name in free:
                dims[axis] = (1 if name == "n" else multiple) * torch.export.Dim(name, min=1, max=512)
        path = tmp_path / "net.pt2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, examples, dynamic_shapes=(dims,) * len(examples))
            torch.export.save(program, path)
        return path

    return save


def check(path: Path, module: Net, told: tuple[Any, ...]) -> LoadedNetwork:
    """Return the network of a file after making sure that it is asked for trust, and then does the same."""
    with pytest.raises(UntrustedModelError, match="nothing of it was run") as caught:
        load_model(path)
    assert (caught.value.path, caught.value.sha256) == (
        str(path),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.sha256, str(again)) == (str(path), caught.value.sha256, str(caught.value))
    network = load_model(path, trust=True)
    info = network.info
    assert (info.format, info.scale, info.n_channels, info.size_multiple) == told
    y = torch.rand(2, info.n_channels, 32, 32)
    torch.testing.assert_close(network(y), module(y))
    return network


def learns(network: LoadedNetwork) -> None:
    operator = nf.operators.Downsample(scale=2)
    y = operator.A(torch.rand(1, network.n_channels, 26, 38, generator=torch.Generator().manual_seed(0)))
    losses = [step.loss for step in nf.FineTune(iterations=2, average=False).steps(y, operator, network)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("suffix", [".pt", ".ts"])
def test_torchscript(suffix: str, scripted: Callable[..., Path]) -> None:
    module = small(channels=1, multiple=4)
    network = check(scripted(module, suffix), module, ("torchscript", 2, 1, 4))
    assert network.info.smallest == 4
    assert network.info.n_parameters == sum(p.numel() for p in module.parameters())
    assert network(torch.rand(1, 1, 33, 29)).shape == (1, 1, 66, 58)
    learns(network)


def test_frozen_torchscript_cannot_learn(scripted: Callable[..., Path]) -> None:
    network = load_model(scripted(small(), how=lambda m: torch.jit.freeze(torch.jit.script(m))), trust=True)
    assert "frozen" in network.info.untrainable
    with pytest.raises(ArchitectureError, match=r"TorchScript cannot be fine-tuned .*frozen"):
        learns(network)


def test_exported_programs(exported: Callable[..., Path]) -> None:
    module = small(multiple=2)
    path = exported(module, torch.rand(2, 3, 16, 16), multiple=2)
    network = check(path, module, ("exported", 2, 3, 2))
    assert network(torch.rand(1, 3, 33, 29)).shape == (1, 3, 66, 58)
    learns(network)


def test_exported_for_one_image_at_a_time(exported: Callable[..., Path]) -> None:
    module = small(channels=1)
    check(exported(module, torch.rand(1, 1, 16, 16), free="hw"), module, ("exported", 2, 1, 1))


def test_exported_for_one_size(exported: Callable[..., Path]) -> None:
    module = small()
    network = check(exported(module, torch.rand(1, 3, 32, 32), free=""), module, ("exported", 2, 3, 1))
    assert network(torch.rand(1, 3, 9, 30)).shape == (1, 3, 18, 60)
    with pytest.raises(ArchitectureError, match=r"images of up to 32 × 32 pixels .*33 × 33.*dynamic shapes"):
        network(torch.rand(1, 3, 33, 8))
    with pytest.raises(ArchitectureError, match="24 × 16 pixels alone"):
        load_model(exported(module, torch.rand(1, 3, 16, 24), free=""), trust=True)


def test_programs_that_make_no_image(exported: Callable[..., Path], scripted: Callable[..., Path]) -> None:
    with pytest.raises(ArchitectureError, match=r"does not take one image.*2 inputs"):
        load_model(exported(Pair().eval(), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)), trust=True)
    with pytest.raises(ArchitectureError, match=r"makes no image .*\(1, 1, 13, 12\) from .*\(1, 1, 27, 25\)"):
        load_model(scripted(nn.AvgPool2d(2)), trust=True)
    with pytest.raises(ArchitectureError, match=r"makes no image .*\(1, 3, 8, 8\) from .*\(1, 3, 16, 16\)"):
        load_model(exported(nn.AvgPool2d(2), torch.rand(1, 3, 16, 16), free=""), trust=True)
    with pytest.raises(ArchitectureError, match=r"takes no image .* of 1 to 8 channels"):
        load_model(scripted(nn.Conv2d(9, 9, 1)), trust=True)


CHANNELS = [
    (2, 2, r"takes and gives images of 2 channels, ×1;.* RGB images \(3\) alone.*n_channels=2"),
    (4, 4, r"takes and gives images of 4 channels, ×1;.* RGB images \(3\) alone.*n_channels=4"),
    (1, 3, r"takes images of 1 channel and gives images of 3 channels, ×1: .* cannot be compared"),
    (4, 3, r"takes images of 4 channels and gives images of 3 channels, ×1: .* cannot be compared"),
]


@pytest.mark.parametrize(("taken", "given", "match"), CHANNELS)
def test_programs_of_other_channels_say_what_they_take_and_give(
    taken: int, given: int, match: str, exported: Callable[..., Path], scripted: Callable[..., Path]
) -> None:
    conv = nn.Conv2d(taken, given, 3, padding=1)
    for path in (scripted(conv), exported(conv, torch.rand(2, taken, 16, 16))):
        with pytest.raises(ArchitectureError, match=rf"'{path.name}' {match}"):
            load_model(path, trust=True)


def test_programs_of_one_size_and_other_channels(exported: Callable[..., Path]) -> None:
    path = exported(nn.Conv2d(1, 3, 3, padding=1), torch.rand(1, 1, 16, 16), free="")
    with pytest.raises(ArchitectureError, match="takes images of 1 channel and gives images of 3 channels"):
        load_model(path, trust=True)


class Infinite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        return self.conv(y) / 0.0


@pytest.mark.parametrize("freeze", [False, True])
def test_programs_whose_output_is_not_finite(freeze: bool, scripted: Callable[..., Path]) -> None:
    path = scripted(
        Infinite().eval(), how=lambda m: (torch.jit.freeze if freeze else nn.Identity())(torch.jit.script(m))
    )
    with pytest.raises(
        ArchitectureError, match=r"TorchScript network makes no finite image .*256 values (NaN|infinite)"
    ):
        load_model(path, trust=True)


def test_random_numbers_are_the_same_each_time(scripted: Callable[..., Path]) -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Dropout(0.5)).train()
    assert load_model(scripted(module), trust=True).info.random_numbers == ""  # it is evaluated when loaded

    def traced(net: nn.Module) -> Any:  # as it is left when somebody forgets .eval()
        return torch.jit.trace(net.train(), torch.rand(1, 1, 16, 16), check_trace=False)

    path = scripted(module, how=traced)
    y = torch.rand(1, 1, 16, 16)
    network = load_model(path, trust=True)
    assert "results replay" in network.info.random_numbers
    before = torch.get_rng_state()
    first = network(y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(network(y), first)
    assert torch.equal(load_model(path, trust=True)(y), first)
    assert torch.equal(network.to_scale(1)(y), first)


def test_damaged_programs(exported: Callable[..., Path], scripted: Callable[..., Path], tmp_path: Path) -> None:
    for path in (scripted(small()), exported(small(), torch.rand(1, 3, 8, 8), free="")):
        content = bytearray(path.read_bytes())
        at = content.index(b"data.pkl" if path.suffix == ".pt" else b"model.json")
        content[at + 60 : at + 200] = bytes(140)
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            load_model(path, trust=True)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelFileError, match="damaged"):
            load_model(path, trust=True)


def test_programs_are_not_converted(scripted: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"is a program.*state_dict"):
        convert_model(scripted(small()), tmp_path / "out.safetensors")


def test_loading_disturbs_no_random_numbers(scripted: Callable[..., Path]) -> None:
    path = scripted(small())
    torch.manual_seed(5)
    load_model(path, trust=True)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_trust_is_asked_for_by_everything_that_loads(scripted: Callable[..., Path]) -> None:
    path = str(scripted(small(channels=1)))
    y = np.random.default_rng(0).random((12, 14), dtype=np.float32)
    operator = nf.operators.Downsample(scale=2)
    recipe = nf.Recipe(operator=operator, method=nf.Project(), model=ModelReference(name=path))
    image, truth = nf.Image(y, "YX"), nf.Image(np.repeat(np.repeat(y, 2, 0), 2, 1), "YX")
    noisy = recipe.replace(noise=nf.operators.GaussianNoise(sigma=0.05))
    tasks: list[Callable[..., Any]] = [
        lambda **t: nf.restore(y, operator=operator, method=nf.Project(), model=path, **t).image,
        lambda **t: nf.reconstruct(
            y, method=nf.RED(iterations=1, denoiser=nf.denoisers.NetworkDenoiser()), model="drunet-s", **t
        ),
        lambda **t: drain(nf.run_recipe(recipe, y, **t)),
        lambda **t: load_reference(recipe.model, **t),
        lambda **t: memory_needed(recipe, image, **t),
        lambda **t: nf.assess(map=nf.NullSpace(of=nf.Apply()), measurement=y, operator=operator, model=path, **t),
        lambda **t: frc_of(noisy, image, **t),
        lambda **t: calibrate_images([(image, truth)], nf.Bootstrap(samples=2, of=nf.Project()), recipe, **t),
    ]
    for number, task in enumerate(tasks):
        if number != 1:  # a bundled model needs none
            with pytest.raises(UntrustedModelError):
                task()
        task(trust=True)


def test_trust_reaches_the_models_of_ensembles_and_stays_out_of_recipes(
    scripted: Callable[..., Path], exported: Callable[..., Path]
) -> None:
    first, second = str(scripted(small(channels=1))), str(exported(small(channels=1), torch.rand(2, 1, 16, 16)))
    y = np.random.default_rng(0).random((12, 14), dtype=np.float32)
    told = {"measurement": y, "operator": nf.operators.Downsample(scale=2), "model": first}
    of = nf.Ensemble(of=nf.Project(), models=(second,))
    with pytest.raises(UntrustedModelError, match=r"net\.pt'"):
        nf.assess(map=of, **told)
    result = nf.assess(map=of, trust=True, **told)
    assert "'trust'" not in str(result.provenance)
    again = nf.Recipe.parse(result.provenance["recipe"])
    with pytest.raises(UntrustedModelError):
        list(nf.run_recipe(again, y))
    with pytest.raises(UntrustedModelError, match=r"net\.pt2"):  # trust in the network alone, given as one
        nf.assess(map=of, **{**told, "model": load_model(first, trust=True)})
    with pytest.raises(FidelityError, match="trust"):
        nf.Recipe.parse({**result.provenance["recipe"], "trust": True})


def test_trust_in_a_content_is_for_no_other(scripted: Callable[..., Path]) -> None:
    path = scripted(small(channels=1))
    with pytest.raises(UntrustedModelError) as caught:
        load_model(path, trust={"0" * 64})
    trusted = frozenset({caught.value.sha256})
    assert load_model(path, trust=trusted).info.sha256 in trusted
    assert load_model(path, trust=caught.value.sha256).info.sha256 in trusted
    scripted(small(channels=3))  # at the same path
    with pytest.raises(UntrustedModelError):  # whatever was loaded from it before
        load_model(path, trust=trusted)
    y = np.random.default_rng(0).random((12, 14), dtype=np.float32)
    told = {"measurement": y, "operator": nf.operators.Downsample(scale=2), "model": "edsr-s-x2"}
    of = nf.Ensemble(of=nf.Project(), models=(str(path),))
    with pytest.raises(UntrustedModelError):
        nf.assess(map=of, trust=trusted, **told)
