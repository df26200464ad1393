"""bioimage.io packages: what runs and what does not, and what comes out."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import socket
import sys
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from napari_fidelity import restore, write_image
from napari_fidelity.cli import main
from napari_fidelity.core.errors import (
    ArchitectureError,
    MissingDependencyError,
    ModelFileError,
    UntrustedModelError,
)
from napari_fidelity.io import load_model
from napari_fidelity.io._bioimageio_package import _one_after_the_other
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.networks.adapters import for_unit_range
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.operators import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Write = Callable[..., Path]

pytest.importorskip("bioimageio.core", reason="bioimageio is an extra")

# -- packages ---------------------------------------------------------------------------------------------------

SOURCE = '''"""A network that leaves a mark when its file is executed."""
from pathlib import Path

import torch
from torch import nn

Path({marker!r}).write_text("executed")


class Net(nn.Module):
    def __init__(self, channels=1, scale=1, crop=0, multiple=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale, self.crop, self.multiple = scale, crop, multiple

    def forward(self, x):
        if x.shape[-1] % self.multiple or x.shape[-2] % self.multiple:
            raise ValueError("not a multiple")
        x = self.conv(x).repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
        return x[..., self.crop : x.shape[-2] - self.crop, self.crop : x.shape[-1] - self.crop]
'''


def weights(channels: int = 1, noise: float = 0.01) -> dict[str, torch.Tensor]:
    """A convolution that nearly leaves the image as it is."""
    kernel = noise * torch.randn(channels, channels, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel[range(channels), range(channels), 1, 1] += 1
    return {"conv.weight": kernel, "conv.bias": torch.zeros(channels)}


def description_05(
    *,
    channels: int = 1,
    before: list[Any] | None = None,
    after: list[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    size: Any = None,
    scale: int = 1,
    offset: int = 0,
    halo: int = 0,
    data: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
    axes: str = "bcyx",
    **changes: Any,
) -> dict[str, Any]:
    """Description in format 0.5."""
    size = size or {"min": 8, "step": 1}
    kinds = {"b": {"type": "batch"}, "c": {"type": "channel", "channel_names": [f"c{i}" for i in range(channels)]}}

    def space(axis: str, *, output: bool) -> dict[str, Any]:
        own: dict[str, Any] = {"type": "space", "id": axis, "size": size}
        if output:
            own["size"] = {"tensor_id": "raw", "axis_id": axis, "offset": offset}
            own["scale"] = 1 / scale
            own |= {"halo": halo} if halo else {}
        return own

    def tensor(name: str, *, output: bool, data: Any) -> dict[str, Any]:
        listed = [kinds.get(axis) or space(axis, output=output) for axis in axes]
        return {"id": name, "axes": listed, "test_tensor": {"source": f"{name}.npy"}, "data": data or {}}

    return {
        "type": "model",
        "format_version": "0.5.3",
        "name": "small convolution",
        "description": "Made for tests.",
        "authors": [{"name": "Ada"}],
        "cite": [{"text": "Ada 1843", "doi": "10.1234/abc"}],
        "license": "MIT",
        "documentation": "README.md",
        "inputs": [tensor("raw", output=False, data=data) | {"preprocessing": before or []}],
        "outputs": [tensor("restored", output=True, data=made) | {"postprocessing": after or []}],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "pytorch_version": "2.0",
                "architecture": {
                    "source": "net.py",
                    "callable": "Net",
                    "kwargs": {"channels": channels, "scale": scale, **(kwargs or {})},
                },
            }
        },
    } | changes


def description_04(
    *,
    before: list[Any] | None = None,
    after: list[Any] | None = None,
    halo: int = 0,
    step: int = 4,
    **changes: Any,
) -> dict[str, Any]:
    """Description in format 0.4, of a network with one channel."""
    return {
        "type": "model",
        "format_version": "0.4.9",
        "name": "small convolution",
        "description": "Made for tests.",
        "authors": [{"name": "Ada"}],
        "cite": [{"text": "Ada 1843", "doi": "10.1234/abc"}],
        "license": "MIT",
        "documentation": "README.md",
        "timestamp": "2024-01-01T00:00:00",
        "test_inputs": ["raw.npy"],
        "test_outputs": ["restored.npy"],
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 1, 8, 8], "step": [0, 0, step, step]},
                "preprocessing": before or [],
            }
        ],
        "outputs": [
            {
                "name": "restored",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"reference_tensor": "raw", "scale": [1, 1, 1, 1], "offset": [0, 0, 0, 0]},
                "halo": [0, 0, halo, halo],
                "postprocessing": after or [],
            }
        ],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "pytorch_version": "2.0",
                "architecture": "net.py:Net",
                "architecture_sha256": None,
                "kwargs": {"multiple": step},
            }
        },
    } | changes


def members(description: dict[str, Any], marker: Path, noise: float = 0.01) -> dict[str, bytes]:
    """The files of a package by name."""
    source = SOURCE.format(marker=str(marker)).encode()
    own = (description["weights"] or {}).get("pytorch_state_dict", {})
    if "architecture_sha256" in own:
        own["architecture_sha256"] = hashlib.sha256(source).hexdigest()
    state = io.BytesIO()
    torch.save(weights(own.get("architecture", {}).get("kwargs", {}).get("channels", 1)
                       if isinstance(own.get("architecture"), dict) else 1, noise), state)  # fmt: skip
    array = io.BytesIO()
    np.save(array, np.zeros((1, 1, 8, 8), np.float32))
    return {
        "rdf.yaml": yaml.safe_dump(description).encode(),
        "net.py": source,
        "weights.pt": state.getvalue(),
        "raw.npy": array.getvalue(),
        "restored.npy": array.getvalue(),
        "README.md": b"# Validation\n",
    }


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a package as one file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a package as a folder; return its description."""
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path / "rdf.yaml"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Where the network's file leaves its mark when it is executed."""
    return tmp_path / "executed"


@pytest.fixture
def write(tmp_path: Path, marker: Path) -> Write:
    def make(description: dict[str, Any] | None = None, *, noise: float = 0.01, **files: bytes) -> Path:
        content = members(description or description_05(), marker, noise)
        return write_zip(tmp_path / "package.zip", content | files)

    return make


@pytest.fixture(autouse=True)
def _no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolved(x: torch.Tensor) -> torch.Tensor:
    own = weights(x.shape[1])
    return nn.functional.conv2d(x, own["conv.weight"], own["conv.bias"], padding=1)


# -- trust ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("describe", [description_05, description_04], ids=["0.5", "0.4"])
@pytest.mark.parametrize("folder", [False, True], ids=["zip", "folder"])
def test_nothing_runs_without_trust(describe: Any, folder: bool, tmp_path: Path, marker: Path) -> None:
    content = members(describe(), marker)
    path = (write_folder if folder else write_zip)(tmp_path / "package", content)
    path = path if folder else path.rename(tmp_path / "package.zip")
    for given in ({}, {"trust": False}):
        with pytest.raises(UntrustedModelError, match=r"the file 'net\.py' in it is executed") as error:
            load_model(path, **given)
        assert not marker.exists()
    network = load_model(path, trust=True)
    assert marker.read_text() == "executed"
    assert (error.value.path, error.value.sha256) == (str(path), network.info.sha256)
    assert isinstance(network, ForeignNetwork)
    x = image(2, 1, 12, 16)
    inside = convolved(x)[..., 3:-3, 3:-3]
    assert torch.allclose(network(x)[..., 3:-3, 3:-3], inside, atol=1e-5)
    network(x).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_what_is_known_of_it(write: Write) -> None:
    path = write(description_05(version="1.2"))
    info = load_model(path, trust=True).info
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (info.id, info.architecture, info.format, info.untrainable) == ("package", "Net", "bioimageio", "")
    assert (info.licence, info.source, info.trained_for) == ("MIT", "Ada. Ada 1843 10.1234/abc", "Made for tests.")
    assert (info.scale, info.n_channels, info.n_parameters, info.smallest) == (1, 1, 10, 8)
    assert dict(info.card)["version"] == "1.2"


def test_the_hash_of_a_folder_is_that_of_all_that_is_used(tmp_path: Path, marker: Path) -> None:
    found = []
    for number, noise in enumerate((0.01, 0.02)):
        path = write_folder(tmp_path / f"{number}", members(description_05(), marker, noise))
        info = load_model(path, trust=True).info
        assert info.id == f"{number}"
        found.append(info.sha256)
    assert len(set(found)) == 2
    assert _one_after_the_other({"a": b"xy", "b": b"z"}) != _one_after_the_other({"a": b"x", "b": b"yz"})


def test_a_torchscript_program(write: Write, marker: Path) -> None:
    program = io.BytesIO()
    conv = nn.Conv2d(1, 1, 3, padding=1)
    conv.load_state_dict({name.partition(".")[2]: value for name, value in weights().items()})
    with warnings.catch_warnings():  # that the format has a successor
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(conv.eval(), image(1, 1, 8, 8)), program)
    described = description_05(weights={"torchscript": {"source": "program.pt", "pytorch_version": "2.0"}})
    path = write(described, **{"program.pt": program.getvalue()})
    with pytest.raises(UntrustedModelError, match="TorchScript program runs"):
        load_model(path)
    network = load_model(path, trust=True)
    x = image(1, 1, 12, 9)
    assert torch.allclose(network(x), convolved(x), atol=1e-6)
    assert network.info.untrainable == ""
    assert not marker.exists()


def test_a_missing_library_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bioimageio.core", None)
    with pytest.raises(MissingDependencyError, match=r"napari-fidelity\[bioimageio\]"):
        load_model(write())


# -- what is refused --------------------------------------------------------------------------------------------


def with_weights(**changes: Any) -> dict[str, Any]:
    described = description_05()
    described["weights"]["pytorch_state_dict"] |= changes
    return described


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "weights elsewhere": (with_weights(source="https://example.com/w.pt"), ModelFileError, "on the internet"),
    "code elsewhere": (
        with_weights(architecture={"source": "https://example.com/net.py", "callable": "Net"}),
        ModelFileError,
        "on the internet",
    ),
    "outside": (with_weights(source="../weights.pt"), ModelFileError, "outside of itself"),
    "lacking": (with_weights(source="other.pt"), ModelFileError, r"lacks a file .*other\.pt"),
    "other weights": (
        description_05(weights={"onnx": {"source": "w.onnx"}, "keras_hdf5": {"source": "w.h5"}}),
        ArchitectureError,
        r"found: keras_hdf5, onnx",
    ),
    "unknown version": (description_05(format_version="0.9.0"), ModelFileError, r"format_version 0\.9\.0"),
    "no model": (description_05(type="dataset"), ModelFileError, "describes no bioimage.io model"),
    "several inputs": (description_05(inputs=description_05()["inputs"] * 2), ArchitectureError, "more than one"),
    "unknown step": (
        description_05(after=[{"id": "softmax", "kwargs": {"axis": "channel"}}]), ArchitectureError, "softmax",
    ),
    "an input without axes": (
        description_05(inputs=[{"id": "raw"}]), ModelFileError, r"entry 'inputs\.0' .*axes: Field required",
    ),
    "no architecture": (
        with_weights(architecture=3), ModelFileError, r"'weights' .*found: pytorch_state_dict\.architecture: ",
    ),
    "no inputs": (description_05(inputs=None), ModelFileError, "has no entry 'inputs'.*Get the package again"),
    "empty outputs": (description_05(outputs=[]), ModelFileError, "entry 'outputs' .* is empty"),
    "outputs of another kind": (description_05(outputs="raw"), ModelFileError, "is no list .found: a text"),
    "no weights": (description_05(weights=None), ModelFileError, "has no entry 'weights'"),
    "weights of another kind": (
        description_05(weights={"torchscript": "w.pt"}), ModelFileError, r"'weights\.torchscript' .*found: a text",
    ),
    "no version": (description_05(format_version=None), ModelFileError, "found: format_version None.*Known: 0.4"),
}  # fmt: skip

BROKEN: dict[str, tuple[bytes, str]] = {
    "no YAML": (b"type: model\ninputs: [1, 2\nname: }{", r"is no YAML \(found: line \d: "),
    "no text": (b"type: \xff\xfe", "is no YAML .found: a byte that is no UTF-8 at position 6"),
    "a list": (b"- type: model\n", "is no table of entries with names .found: a list"),
    "nothing": (b"# a remark\n", "found: nothing"),
    "no type": (b"name: net\n", "describes no bioimage.io model .found: no entry 'type'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anybody_is_asked(case: str, write: Write, marker: Path) -> None:
    described, error, match = REFUSED[case]
    for trust in (False, True):
        with pytest.raises(error, match=match):
            load_model(write(described), trust=trust)
    assert not marker.exists()


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("folder", [False, True], ids=["zip", "folder"])
def test_a_broken_description_is_told_of(case: str, folder: bool, write: Write, tmp_path: Path) -> None:
    text, match = BROKEN[case]
    path = write_folder(tmp_path / "net", {"rdf.yaml": text}) if folder else write(**{"rdf.yaml": text})
    with pytest.raises(ModelFileError, match=rf"'{path.name}'.*{match}.*bioimage\.io"):
        load_model(path, trust=True)


def test_what_only_tells_of_it_may_be_wrong(write: Write) -> None:
    network = load_model(write(description_05(authors="Ada", cite=3)), trust=True)
    assert network.info.source == ""


def test_volumes_are_refused(write: Write) -> None:
    described = description_05()
    for tensor in (*described["inputs"], *described["outputs"]):
        tensor["axes"].insert(2, {"type": "space", "id": "z", "size": 8})
    with pytest.raises(ArchitectureError, match=r"volumes \(z, y, x\)"):
        load_model(write(described))


def test_an_output_with_other_channels_is_refused(write: Write) -> None:
    described = description_05(channels=1)
    described["outputs"][0]["axes"][1] = {"type": "channel", "channel_names": ["foreground", "boundary"]}
    with pytest.raises(ArchitectureError, match="1 in, 2 out"):
        load_model(write(described))


def test_an_archive_that_writes_elsewhere_is_refused(write: Write, marker: Path) -> None:
    with pytest.raises(ModelFileError, match="outside of its own folder"):
        load_model(write(**{"../evil.py": b"x"}), trust=True)
    assert not marker.exists()


def test_other_weights_than_promised_are_refused(write: Write) -> None:
    with pytest.raises(ModelFileError, match="SHA256 mismatch"):
        load_model(write(with_weights(sha256="0" * 64)), trust=True)


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        (b"import no_such_library\n", MissingDependencyError, "no_such_library"),
        (b"Net = lambda **_: 1 / 0\n", ModelFileError, "found: ZeroDivisionError"),
        (b"def f(:\n", ModelFileError, r"found: SyntaxError: invalid syntax \(net\.py, line 1\).*Mend its code"),
        (b"1 / 0\n", ModelFileError, "found: ZeroDivisionError"),
    ],
)
def test_code_that_fails_is_named(source: bytes, error: type[Exception], match: str, write: Write) -> None:
    with pytest.raises(error, match=match):
        load_model(write(**{"net.py": source}), trust=True)


EXITS = {
    "at the end of its import": (SOURCE + "\nraise SystemExit(0)\n", ModelFileError),
    "when made": (SOURCE.replace("super()", "raise SystemExit(0)\n        super()"), ModelFileError),
    "when run": (
        SOURCE.replace("forward(self, x):", "forward(self, x):\n        raise SystemExit(0)"),
        ArchitectureError,
    ),
}


@pytest.mark.parametrize("case", EXITS)
def test_code_that_would_end_the_program_is_named(
    case: str, write: Write, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, error = EXITS[case]
    path = write(**{"net.py": source.format(marker=str(marker)).encode()})
    for _ in range(2):  # a file that did not run to its end is not taken for one that did
        with pytest.raises(error, match=r"tries to end the program that runs it .found: SystemExit: 0"):
            load_model(path, trust=True)
    write_zip(path.with_name("z.zip"), members(description_05(), marker))
    assert main(["models", str(path.parent), "--trust", "--json"]) == 0
    exits, whole = json.loads(capsys.readouterr().out)
    assert (exits["error"], whole["architecture"]) == (error.__name__, "Net")


def test_code_that_ends_the_program_later_is_named(
    write: Write, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = SOURCE.replace("x = self.conv(x)", "x = self.conv(x) if x.shape[-1] < 20 else exit(0)")
    later = later.replace("import torch\n", "from sys import exit\nimport torch\n").format(marker=str(marker))
    path, taken, made = write(**{"net.py": later.encode()}), tmp_path / "in.tif", tmp_path / "out.tif"
    write_image(np.full((30, 30), 0.5, np.float32), taken)
    words = ["project", str(taken), str(made), "--model", str(path), "--operator", "identity", "--trust", "--json"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert json.loads(said)["error"]["kind"] == "ArchitectureError"
    assert "The Net network tries to end the program" in said
    assert not made.exists()


def test_ctrl_c_passes(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_model(write(**{"net.py": b"raise KeyboardInterrupt"}), trust=True)


def test_what_code_prints_is_no_part_of_the_document(
    write: Write, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SOURCE.replace("x = self.conv(x)", 'print("run")\n        x = self.conv(x)') + 'print("imported")\n'
    path = write(**{"net.py": source.format(marker=str(marker)).encode()})
    assert main(["models", str(path), "--trust", "--json"]) == 0
    said = capsys.readouterr()
    (info,) = json.loads(said.out)
    assert info["architecture"] == "Net"
    assert said.err.startswith("imported\nrun\n")


# -- sizes and axes ---------------------------------------------------------------------------------------------


SIZES: dict[str, dict[str, Any]] = {
    "multiples": {"size": {"min": 16, "step": 8}, "kwargs": {"multiple": 8}},
    "fixed": {"size": 24, "kwargs": {"multiple": 24}},
    "halo": {"size": {"min": 16, "step": 8}, "halo": 4, "kwargs": {"multiple": 8}},
    "cropped": {"size": {"min": 20, "step": 8}, "offset": -6, "kwargs": {"crop": 3}},
    "both": {"size": {"min": 24, "step": 8}, "offset": -4, "halo": 3, "kwargs": {"crop": 2, "multiple": 8}},
    "enlarged": {"size": {"min": 16, "step": 4}, "scale": 2, "kwargs": {"multiple": 4}},
    "enlarged and cropped": {"size": {"min": 16, "step": 4}, "scale": 2, "offset": -6, "kwargs": {"crop": 3}},
}


@pytest.mark.parametrize("shape", [(24, 24), (17, 30), (3, 41)], ids=str)
@pytest.mark.parametrize("case", SIZES)
def test_any_size_comes_out_in_place(case: str, shape: tuple[int, int], write: Write) -> None:
    settings = SIZES[case]
    network = load_model(write(description_05(**settings)), trust=True)
    x = image(1, 1, *shape)
    scale = settings.get("scale", 1)
    found, wanted = network(x), convolved(x)
    wanted = wanted.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert found.shape == wanted.shape
    inside = (..., slice(scale, -scale), slice(scale, -scale))  # at its edge, the convolution sees what is padded
    assert torch.allclose(found[inside], wanted[inside], atol=1e-5)
    assert network.info.scale == network.scale == scale


def test_a_size_that_refers_to_the_other_is_square(write: Write) -> None:
    described = description_05(size={"min": 8, "step": 4}, kwargs={"multiple": 4})
    described["inputs"][0]["axes"][3]["size"] = {"tensor_id": "raw", "axis_id": "y"}
    described["outputs"][0]["axes"][3]["size"]["axis_id"] = "y"
    network = load_model(write(described), trust=True)
    seen: list[tuple[int, ...]] = []
    conv = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    conv.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    assert network(image(1, 1, 9, 14)).shape == (1, 1, 9, 14)
    assert seen == [(16, 16)]


def test_the_older_format_s_sizes(write: Write) -> None:
    described = description_04(halo=2, step=4)
    described["outputs"][0]["shape"]["offset"] = [0, 0, -1, -1]
    described["weights"]["pytorch_state_dict"]["kwargs"]["crop"] = 1
    network = load_model(write(described), trust=True)
    x = image(1, 1, 13, 18)
    assert torch.allclose(network(x)[..., 1:-1, 1:-1], convolved(x)[..., 1:-1, 1:-1], atol=1e-5)
    assert (network.info.size_multiple, network.info.smallest) == (4, 8)


AXES = {
    "byxc": ("x.permute(0, 3, 1, 2)", "x.permute(0, 2, 3, 1)"),
    "yx": ("x[None, None]", "x[0, 0]"),
    "cyx": ("x[None]", "x[0]"),
    "bcxy": ("x.transpose(2, 3)", "x.transpose(2, 3)"),
}


@pytest.mark.parametrize("axes", AXES)
def test_axes_in_another_order(axes: str, write: Write) -> None:
    source = (
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, **_):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(1, 1, 3, padding=1)\n\n"
        "    def forward(self, x):\n        x = self.conv({})\n        return [{}]\n"
    ).format(*AXES[axes])
    network = load_model(write(description_05(axes=axes), **{"net.py": source.encode()}), trust=True)
    x = image(3, 1, 9, 12)
    assert torch.allclose(network(x), convolved(x), atol=1e-6)


# -- intensities ------------------------------------------------------------------------------------------------


def step(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "kwargs": values}


PLANE = ["channel", "y", "x"]
BYTES = {"type": "uint8"}
# what is declared; whether the image is to come back on [0, 255] instead of [0, 1]
UNITS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "not brought back": {"before": [step("zero_mean_unit_variance", axes=PLANE)]},
    "percentiles": {"before": [step("scale_range", axes=PLANE, min_percentile=1.0, max_percentile=99.8)]},
    "percentiles, clipped": {"before": [step("scale_range", axes=PLANE), step("clip", min=0.0, max=1.0)]},
    "fixed": {"before": [step("fixed_zero_mean_unit_variance", mean=0.4, std=0.2)]},
    "fixed and back": {
        "before": [step("fixed_zero_mean_unit_variance", mean=0.4, std=0.2)],
        "after": [step("scale_linear", gain=0.2, offset=0.4)],
    },
    "half brought back": {
        "before": [step("scale_linear", gain=0.5, offset=0.0), step("zero_mean_unit_variance", axes=PLANE)],
        "after": [step("scale_linear", gain=0.3, offset=0.1)],
    },
    "matched": {
        "before": [step("zero_mean_unit_variance", axes=PLANE)],
        "after": [step("scale_mean_variance", reference_tensor="raw", axes=PLANE)],
    },
    "its own range after": {
        "before": [step("zero_mean_unit_variance", axes=PLANE)],
        "after": [step("scale_range", axes=PLANE, min_percentile=5.0, max_percentile=95.0)],
    },
    "range of the raw image after": {
        "after": [step("scale_range", axes=PLANE, min_percentile=5.0, reference_tensor="raw")],
    },
    "bytes": {"data": BYTES, "before": [step("scale_linear", gain=1 / 255, offset=0.0)]},
    "bytes and back": {
        "data": BYTES, "made": BYTES,
        "before": [step("scale_linear", gain=1 / 255, offset=0.0)],
        "after": [step("scale_linear", gain=255.0, offset=0.0), step("clip", min=0.0, max=255.0),
                  step("ensure_dtype", dtype="uint8")],
    },
    "bytes from the range": {
        "data": BYTES, "made": BYTES,
        "before": [step("scale_range", axes=PLANE)], "after": [step("scale_linear", gain=255.0, offset=0.0)],
    },
}  # fmt: skip


@pytest.mark.parametrize("case", UNITS)
def test_the_image_keeps_its_units(case: str, write: Write) -> None:
    """Were the network the identity, the image would come back as it is."""
    network = load_model(write(description_05(**UNITS[case]), noise=0.0), trust=True)
    low, high = network.info.value_range
    assert (low, high) == ((0, 255) if "data" in UNITS[case] else (0, 1))
    y = 0.3 + 0.4 * image(2, 1, 16, 20)
    found = for_unit_range(network)(y)
    assert torch.allclose(found, y, atol=2e-4)
    brighter = for_unit_range(network)(y + 0.1)
    assert torch.allclose(brighter, y + 0.1, atol=2e-4)


def test_a_network_that_brings_bytes_back_itself_is_left_alone(write: Write) -> None:
    """Input and output are declared to be bytes, and nothing is done after the network."""
    described = description_05(data=BYTES, made=BYTES, before=[step("scale_linear", gain=1 / 255, offset=0.0)])
    source = (
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, **_):\n        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, 1, 3, padding=1)\n\n    def forward(self, x):\n"
        "        return 255 * self.conv(x)\n"
    )
    network = load_model(write(described, noise=0.0, **{"net.py": source.encode()}), trust=True)
    y = 255 * image(1, 1, 12, 12)
    assert torch.allclose(network(y), y, atol=1e-2)


def test_statistics_are_those_of_the_image_without_what_is_padded(write: Write) -> None:
    described = description_05(
        size={"min": 32, "step": 16}, before=[step("zero_mean_unit_variance", axes=PLANE)], kwargs={"multiple": 16}
    )
    network = load_model(write(described), trust=True)
    seen: list[torch.Tensor] = []
    conv = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(image(1, 1, 20, 37) ** 3)
    inner = seen[0][..., :20, :37]
    assert seen[0].shape[2:] == (32, 48)
    assert float(inner.mean().detach()) == pytest.approx(0, abs=1e-5)
    assert float(inner.std(correction=0).detach()) == pytest.approx(1, abs=1e-4)


def test_a_mask_cannot_learn(write: Write) -> None:
    network = load_model(write(description_05(after=[step("binarize", threshold=0.5)])), trust=True)
    assert network.info.untrainable
    assert set(network(image(1, 1, 12, 12)).unique().tolist()) == {0.0, 1.0}


def test_recorded_intensities_of_an_unknown_range_are_told_of(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_model(
            write(description_05(before=[step("fixed_zero_mean_unit_variance", mean=2000.0, std=80.0)])),
            trust=True,
        )
        assert "as recorded" in caplog.text
        caplog.clear()
        load_model(write(description_05(before=UNITS["fixed"]["before"])), trust=True)
        assert not caplog.text


# -- the pipeline -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [Apply(), Project(), FineTune(iterations=2, precision="float32")], ids=lambda method: method.kind
)
def test_restoring_with_a_package(method: Any, write: Write, marker: Path) -> None:
    described = description_05(
        data={"type": "uint16"}, before=[step("scale_range", axes=PLANE, min_percentile=1.0, max_percentile=99.0)],
        size={"min": 16, "step": 4},
    )  # fmt: skip
    path = write(described, noise=0.02)
    measured = (500 + 3000 * image(21, 30)).numpy().astype(np.uint16)
    with pytest.raises(UntrustedModelError):
        restore(measured, operator=Identity(), method=method, model=path, device="cpu")
    assert not marker.exists()
    result = restore(measured, operator=Identity(), method=method, model=path, device="cpu", trust=True)
    assert result.image.data.shape == (21, 30)
    assert np.abs(result.image.data - measured).mean() < 0.2 * measured.std()  # in the measurement's units
    assert "trust" not in str(result.provenance)
