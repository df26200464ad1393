"""Networks of the user's own as models of the process."""

from __future__ import annotations

import copy
import logging
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import napari_fidelity as nf
from napari_fidelity.core.errors import ArchitectureError, ModelFileError, OptionError
from napari_fidelity.io import import_file, list_models, load_model, register_model
from napari_fidelity.methods import FineTune
from napari_fidelity.networks.vsr import VSR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_registered")


class Enlarge(nn.Module):
    """×2 by a transposed convolution, with whatever else a network may have."""

    def __init__(self, channels: int = 3, **more: Any) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 0.5), persistent=False)
        self.drop = nn.Dropout(0.5)
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, y: torch.Tensor, *given: Any) -> torch.Tensor:
        return self.drop(self.up(y - self.mean)) + self.mean + sum(given)


@pytest.fixture
def network() -> Enlarge:
    torch.manual_seed(0)
    return Enlarge()


def test_it_is_a_model_from_then_on(network: Enlarge) -> None:
    info = nf.register_model(
        "my-net", network, scale=2, n_channels=3, licence="MIT", trained_for="tests", data=[1]
    )
    assert (info.id, info.architecture, info.scale, info.n_channels) == ("my-net", "Enlarge", 2, 3)
    assert (info.licence, info.trained_for, dict(info.card)) == ("MIT", "tests", {"data": [1]})
    assert info.n_parameters == sum(p.numel() for p in network.parameters())
    assert list_models()[-1] == info
    loaded: Any = load_model("my-net")
    y = torch.rand(1, 3, 5, 4)
    torch.testing.assert_close(loaded(y), network.eval()(y))
    assert (loaded.info, loaded.training) == (info, False)


def test_what_happens_to_the_module_or_a_copy_later_does_not_matter(network: Enlarge) -> None:
    assert network.training
    register_model("my-net", network, scale=2, n_channels=3)
    assert network.training  # as it was
    first: Any = load_model("my-net")
    before = copy.deepcopy(first.state_dict())
    with torch.no_grad():
        for changed in (network, first):
            for parameter in changed.parameters():
                parameter.zero_()
    again = load_model("my-net").state_dict()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_the_weights_are_its_identity(network: Enlarge) -> None:
    def sha256(module: nn.Module) -> str:
        return register_model("my-net", module, scale=2, n_channels=3).sha256

    first = sha256(network)
    assert len(first) == 64
    assert first == sha256(copy.deepcopy(network).eval()) == sha256(copy.deepcopy(network).to(torch.float32))
    other, buffer = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():
        other.up.bias[0] += 1e-3
        buffer.mean += 1e-3
    assert len({first, sha256(other), sha256(buffer)}) == 3
    half = sha256(copy.deepcopy(network).bfloat16())
    assert next(load_model("my-net").parameters()).dtype == torch.float32
    assert half != first  # which the weights are not either, to that precision


def test_the_class_is_part_of_it() -> None:
    """Modules without weights differ by what they are."""
    up = register_model("up", nn.Upsample(scale_factor=2), scale=2, n_channels=1)
    shuffle = register_model("same", nn.Identity(), scale=1, n_channels=1)
    assert (up.n_parameters, up.architecture, shuffle.architecture) == (0, "Upsample", "Identity")
    assert up.sha256 != shuffle.sha256


def test_replacing_is_said(network: Enlarge, caplog: pytest.LogCaptureFixture) -> None:
    register_model("my-net", network, scale=2, n_channels=3)
    with caplog.at_level(logging.WARNING):
        register_model("my-net", nn.Identity(), scale=1, n_channels=1)
    assert "the model 'my-net' registered before is replaced" in caplog.text
    assert [info.scale for info in list_models() if info.id == "my-net"] == [1]


def test_networks_of_the_list_stay_what_they_are() -> None:
    info = register_model("mine", load_model("edsr-s-x4"))
    assert (info.architecture, info.scale, info.n_channels) == ("EDSR", 4, 3)
    assert load_model("mine", scale=2).scale == 2
    assert load_model("edsr-s-x4").info.id == "edsr-s-x4"


def test_what_a_module_says_of_itself_counts() -> None:
    module = Enlarge(scale=2, n_channels=3, frames=5, takes_noise_level=True)
    register_model("my-net", module)
    loaded: Any = load_model("my-net")
    assert (loaded.scale, loaded.n_channels, loaded.frames, loaded.takes_noise_level) == (2, 3, 5, True)
    y = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(loaded(y, 0.25), loaded(y) + 0.25)


def test_what_is_known_of_frames_and_sizes() -> None:
    video = VSR(n_channels=1, n_feats=4, n_blocks=1, scale=2, frames=3)
    info = register_model("video", video)
    assert (info.frames, info.format) == (3, "module")
    assert load_model("video").info == info
    module = nn.Conv2d(1, 1, 3, padding=1)
    module.frames = 5
    assert register_model("foreign", module, scale=1, n_channels=1).frames == 5
    module.frames, module.takes_operator = 1, True
    told = register_model("told", module, scale=1, n_channels=1, size_multiple=8, smallest=16)
    assert (told.size_multiple, told.smallest) == (8, 16)


def test_the_last_layer_is_found() -> None:
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1))
    register_model("my-net", module, scale=2, n_channels=3)
    loaded: Any = load_model("my-net")
    assert loaded.last_layer is loaded.module[1]
    assert not loaded.info.untrainable


def test_a_network_that_needs_an_operator_is_not_tried() -> None:
    class Unrolled(nn.Module):
        takes_operator = True

        def forward(self, y: torch.Tensor, operator: Any) -> torch.Tensor:
            x: torch.Tensor = operator.A_adjoint(y)
            return x

    register_model("unrolled", Unrolled(), scale=1, n_channels=1)
    loaded: Any = load_model("unrolled")
    assert loaded.takes_operator
    assert loaded(torch.ones(1, 1, 3, 3), nf.operators.Identity()).sum() == 9


@pytest.mark.parametrize(
    ("card", "match"),
    [
        ({"scale": 4}, r"its scale, ×4.*found: shape \(1, 3, 26, 22\)"),
        ({"n_channels": 1}, r"number of channels, 1.*found: shape \(1, 3, 26, 22\)"),
        ({"n_channels": 2}, r"cannot be applied to an image of 2 channels and 13 × 11.*Check n_channels"),
        ({"scale": 0}, "'scale' must be an integer from 1.*found: 0"),
        ({"n_channels": 2.0}, "'n_channels' must be an integer"),
        ({"scale": None}, "does not say its scale.*scale="),
        ({"smallest": 0}, "'smallest' must be"),
        ({"value_range": (1, 0)}, "two increasing numbers"),
        ({"value_range": 3}, "two increasing numbers"),
        ({"sha256": "0"}, "'sha256' is told by the network itself"),
        ({"made": math.nan}, "cannot be written as JSON"),
    ],
)
def test_what_does_not_fit_is_named_at_once(card: dict[str, Any], match: str, network: Enlarge) -> None:
    with pytest.raises((ArchitectureError, OptionError), match=match):
        register_model("my-net", network, **{"scale": 2, "n_channels": 3, **card})
    assert "my-net" not in [info.id for info in list_models()]


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (lambda y: y, "A model is a torch.nn.Module.*function.*Wrap it"),
        (Enlarge, "found: a class, Enlarge.*Make an object"),
        (Enlarge(scale=4), "says scale = 4 itself.*found: scale=2"),
        (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 1, 1)), r"found: shape \(1, 1, 26, 22\)"),
        (nn.Flatten(), "number of channels, 3"),
        (nn.GRU(4, 4), "cannot be applied"),
    ],
)
def test_what_is_no_model(module: Any, match: str) -> None:
    with pytest.raises((ArchitectureError, OptionError), match=match):
        register_model("my-net", module, scale=2, n_channels=3)


def test_an_output_that_is_not_finite(network: Enlarge) -> None:
    with torch.no_grad():
        network.up.bias[0] = math.nan
    with pytest.raises(ArchitectureError, match="not finite"):
        register_model("my-net", network, scale=2, n_channels=3)


@pytest.mark.parametrize("name", ["edsr-s-x2", "mine.pth", "my net"])
def test_names_that_are_refused(name: str, network: Enlarge) -> None:
    with pytest.raises(OptionError, match=r"already|must be made of letters"):
        register_model(name, network, scale=2, n_channels=3)


def test_another_scale_is_refused(network: Enlarge) -> None:
    register_model("my-net", network, scale=2, n_channels=3)
    assert load_model("my-net", scale=2).scale == 2
    with pytest.raises(ArchitectureError, match=r"cannot be adapted.*×2, asked for ×4"):
        load_model("my-net", scale=4)


def test_a_model_that_is_not_there(network: Enlarge) -> None:
    register_model("my-net", network, scale=2, n_channels=3)
    with pytest.raises(ModelFileError, match=r"Did you mean 'my-net'\?.*registered: my-net .nf.register_model"):
        load_model("my-ent")


class Keeps(nn.Module):
    """Keeps its last output, and with it what that was computed by."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        self.last = self.conv(y)
        return self.last


def test_a_module_that_keeps_its_output() -> None:
    info = register_model("keeps", Keeps(), scale=1, n_channels=1)
    loaded: Any = load_model("keeps")
    assert (info.untrainable, loaded.last_layer_name) == ("", "conv")  # what was found is known of the copy
    assert loaded.takes_channels_last
    steps = FineTune(iterations=2).steps(torch.rand(1, 1, 9, 9), nf.operators.Identity(), loaded)
    assert len(list(steps)) == 3
    assert load_model("keeps").info == info


class Complex(nn.Module):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y + 1j


class Exits(nn.Module):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        sys.exit(0)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (Complex(), "'wrong' makes complex numbers.*found: complex64.*real part"),
        (Exits(), "The Exits network tries to end the program.*found: SystemExit: 0"),
        (nn.Conv2d(1, 1, 1, device="meta"), "Conv2d holds shapes of weights and no weights.*'meta'.*to_empty"),
    ],
)
def test_what_could_not_be_used_is_named_at_once(module: nn.Module, match: str) -> None:
    with pytest.raises(ArchitectureError, match=match):
        register_model("wrong", module, scale=1, n_channels=1)


def enlarged(y: torch.Tensor) -> torch.Tensor:
    return y.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Strict(nn.Module):
    """A network of three halvings: multiples of 8 alone, and 32 pixels at least."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        assert all(n % 8 == 0 and n >= 32 for n in y.shape[2:]), tuple(y.shape)
        return enlarged(y)


def test_sizes_it_takes() -> None:
    with pytest.raises(ArchitectureError, match=r"size_multiple=8, or smallest=64"):
        register_model("strict", Strict(), scale=2, n_channels=1)
    register_model("strict", Strict(), scale=2, n_channels=1, size_multiple=8, smallest=32)
    loaded: Any = load_model("strict")
    for shape in ((1, 1), (2, 70), (33, 40), (32, 32)):
        y = torch.rand(2, 1, *shape)
        assert torch.equal(loaded(y), enlarged(y))


# -- files that register -----------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))

    def to_file(text: str) -> Path:
        (tmp_path / "own_things.py").write_text(text, encoding="utf-8")
        return tmp_path / "own_things.py"

    return to_file


REGISTERS = """
import napari_fidelity as nf
from beside import Net

assert __name__ != "__main__"
nf.register_model("from-file", Net(), scale=1, n_channels=1)
"""


def test_a_file_registers(write: Callable[[str], Path]) -> None:
    path = write(REGISTERS)
    path.with_name("beside.py").write_text("from torch.nn import Identity as Net", encoding="utf-8")
    import_file(str(path))
    assert load_model("from-file").info.architecture == "Identity"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\n\n1 / 0", "'own_things.py' ended with an error.*ZeroDivisionError: division by zero, line 3"),
        ("import sys\nsys.exit()", "'own_things.py' ended with an error.*SystemExit.*line 2"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("import napari_fidelity as nf\nnf.load_model('gone')", "There is no model 'gone'"),
    ],
)
def test_a_file_that_fails(text: str, match: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(nf.FidelityError, match=match):
        import_file(write(text))


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("", encoding="utf-8")
    for path in (tmp_path / "gone.py", tmp_path / "own.txt", tmp_path):
        with pytest.raises(OptionError, match="no such Python file"):
            import_file(path)


def test_lists_are_made_without_torch() -> None:
    code = "import sys, napari_fidelity as nf; nf.list_models(); nf.register_model; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
