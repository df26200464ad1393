"""Model files: every architecture there and back, and every way a file can be wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError, DeviceError, ModelFileError, OptionError, OutputError
from napari_fidelity.io import list_models, load_model, models, save_model

SMALL: dict[str, dict[str, Any]] = {
    "DRUNet": {"n_feats": [4, 4, 4, 4], "n_blocks": 1},
    "DnCNN": {"n_feats": 4, "n_layers": 3, "n_channels": 3},
    "EDSR": {"n_feats": 4, "n_blocks": 1, "scale": 4},
    "EnhanceNet": {"n_feats": 4, "n_blocks": 1},
    "RDN": {"n_feats": 4, "n_blocks": 1, "n_layers": 2, "growth": 2},
    "RRDN": {"n_feats": 4, "n_blocks": 1, "growth": 2},
    "SRResNet": {"n_feats": 4, "n_blocks": 1},
    "VSR": {"n_feats": 4, "n_blocks": 1},
}
NAMES = list(networks.ARCHITECTURES)


def network(name: str = "EnhanceNet", **config: Any) -> networks.RestorationNetwork:
    torch.manual_seed(0)
    return networks.build(name, {**SMALL[name], **config}).eval()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    x = torch.rand(1, 3, 3, 5)
    return torch.equal(a(x), b(x))


def header_file(path: Path, text: str, weights: dict[str, torch.Tensor] | None = None) -> Path:
    weights = weights or network().state_dict()
    save_file(weights, path, metadata={"napari_fidelity": text})
    return path


def card(**changes: Any) -> str:
    net = network()
    content = {"architecture": "EnhanceNet", "config": net.config(), "scale": 4, "n_channels": 3}
    return json.dumps({**content, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    net = network(name)
    path = tmp_path / "net-x4.safetensors"
    saved = save_model(net, path, licence="CC0", trained_for="tests", steps=7, numbers={"psnr": 30.5})
    loaded = load_model(path)
    assert type(loaded) is type(net)
    assert same(loaded, net)
    assert not loaded.training
    assert loaded.info == saved
    assert (saved.id, saved.architecture, saved.scale, saved.n_channels) == ("net-x4", name, net.scale, 3)
    assert saved.n_parameters == sum(p.numel() for p in net.parameters())
    assert (saved.licence, saved.trained_for, saved.value_range) == ("CC0", "tests", (0.0, 1.0))
    assert saved.card == {"steps": 7, "numbers": {"psnr": 30.5}}
    assert saved.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == ["net-x4.safetensors"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrapper", [None, "params", "params_ema", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_weights_alone_are_recognised(name: str, wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    net = network(name)
    weights: Any = {prefix + key: value for key, value in net.state_dict().items()}
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "w.pth")
    save_file(weights, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        loaded = load_model(path)
        assert same(loaded, net)
        assert loaded.info.id == "w"
        assert loaded.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    net, other = network(), network(n_blocks=2)
    torch.save({"params": other.state_dict(), "params_ema": net.state_dict()}, tmp_path / "w.pt")
    assert same(load_model(tmp_path / "w.pt"), net)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    save_model(network().half(), tmp_path / "h.safetensors")
    loaded = load_model(tmp_path / "h.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_the_scale_is_adapted_on_request(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "n.safetensors", licence="CC0")
    two = load_model(tmp_path / "n.safetensors", scale=2)
    assert (two.scale, two.info.scale, two.info.licence, two.training) == (2, 2, "CC0", False)
    with pytest.raises(ArchitectureError, match="×5"):
        load_model(tmp_path / "n.safetensors", scale=5)


def test_what_is_known_is_handed_on(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "a.safetensors", licence="CC BY", seed=3, id="theirs")
    again = save_model(load_model(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", seed=4)
    assert (again.licence, again.id, again.card) == ("CC BY", "theirs", {"seed": 4})


def test_loading_leaves_random_numbers_alone(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "n.safetensors")
    torch.save(network().state_dict(), tmp_path / "n.pth")
    for name in ("n.safetensors", "n.pth"):
        torch.manual_seed(5)
        load_model(tmp_path / name)
        after = torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(after, torch.rand(1))


def test_bundled_models_are_found_by_their_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundled").mkdir()
    saved = save_model(network(), tmp_path / "bundled" / "small-x4.safetensors", licence="CC0")
    monkeypatch.setattr(models.resources, "files", lambda _package: tmp_path)
    assert list_models() == [saved]
    assert load_model("small-x4").info == saved
    with pytest.raises(ModelFileError, match="Did you mean 'small-x4'"):
        load_model("smal-x4")
    with pytest.raises(ModelFileError, match="Bundled: small-x4"):
        load_model("elsewhere/thing.safetensors")


def test_every_bundled_model_loads() -> None:
    for info in list_models():
        net = load_model(info.id)
        assert net.info == info
        assert info.licence
        assert net(torch.rand(1, net.n_channels, 3, 5)).shape[2:] == (3 * net.scale, 5 * net.scale)


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    for name in ("e.safetensors", "e.pth", "e.onnx", "e.npz"):
        (tmp_path / name).touch()
    cases = {
        "e.safetensors": "is empty",
        "e.pth": "is empty",
        "e.onnx": "Known:",
        "e.npz": "convert",
        "no.pt": "no model",
    }
    for name, message in cases.items():
        with pytest.raises(ModelFileError, match=message):
            load_model(tmp_path / name)
    with pytest.raises(ModelFileError, match="not a file"):
        load_model(tmp_path)


def test_truncated_files(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "n.safetensors")
    torch.save(network().state_dict(), tmp_path / "n.pth")
    torch.save(network().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("n.safetensors", "n.pth", "old.pth"):
        content = (tmp_path / name).read_bytes()
        for keep in (1, 9, 100, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:keep])
            with pytest.raises(ModelFileError, match=name):
                load_model(tmp_path / name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize(
    "content", [b"\x00" * 64, b"not a model at all, but text", b"\xff" * 64, b"PK\x03\x04" + b"x" * 40]
)
def test_garbage(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="garbage"):
        load_model(path)


class Malicious:
    """Unpickled by the ordinary unpickler, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class MaliciousCall(Malicious):
    """The same through the shell."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("kind", [Malicious, MaliciousCall])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("how", ["pickle", "zip", "legacy", "nested"])
def test_nothing_is_executed(how: str, suffix: str, kind: type[Malicious], tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    path = tmp_path / f"evil{suffix}"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"head.weight": kind(trace)}))
    else:
        content = {"params": {**network().state_dict(), "x": kind(trace)}} if how == "nested" else kind(trace)
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    with pytest.raises(ModelFileError, match="nothing of it was run"):
        load_model(path)
    assert not trace.exists()


def test_whole_modules_and_programs_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "module.pt")
    with pytest.raises(ModelFileError, match="more than weights"):
        load_model(tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"script/{name}", b"x")
    with pytest.raises(ModelFileError, match="program"):
        load_model(tmp_path / "script.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 5, {"model": {"a": 1}}, {3: torch.zeros(2)}])
def test_no_weights_in_it(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "n.pth")
    with pytest.raises(ModelFileError, match="holds no weights"):
        load_model(tmp_path / "n.pth")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{not json", ModelFileError, "description"),
        ("[1, 2]", ModelFileError, "description"),
        ("{}", ModelFileError, "architecture"),
        (card(scale="four"), ModelFileError, "scale"),
        (card(value_range=[1, 0]), ModelFileError, "increasing"),
        (card(architecture="UNet"), ArchitectureError, "UNet"),
        (card(architecture="EDSR"), ArchitectureError, "factors"),
        (card(architecture="EDSR", config={}), ArchitectureError, "missing"),
        (card(config={}), ArchitectureError, "missing"),
        (card(config={"n_blocks": 10**12}), ArchitectureError, "n_blocks"),
        (card(config=network(n_channels=1).config(), n_channels=1), ArchitectureError, r"head\.weight"),
        (card(config=network(factors=[2]).config(), scale=2), ArchitectureError, "not known"),
        (card(scale=2), ArchitectureError, "contradicts"),
        (card(n_channels=1), ArchitectureError, "contradicts"),
    ],
)
def test_headers_that_lie(text: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        load_model(header_file(tmp_path / "h.safetensors", text))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}x",
        b'{"a": 3}',
        b'{"a": {"data_offsets": "x"}}',
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"napari_fidelity": 3}}',
    ],
)
def test_safetensors_headers_that_are_none(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "h.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelFileError, match=r"h\.safetensors"):
        load_model(tmp_path / "h.safetensors")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"head.bias": None}, ArchitectureError, "'head.bias' missing"),
        ({"extra": torch.zeros(2)}, ArchitectureError, "'extra' not known"),
        ({"head.bias": torch.zeros(7)}, ArchitectureError, r"\(7,\)"),
        ({"head.bias": torch.full((4,), float("nan"))}, ModelFileError, "4 of 4"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_do_not_fit(
    suffix: str, change: dict[str, torch.Tensor | None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    weights = {k: v for k, v in {**network().state_dict(), **change}.items() if v is not None}
    if suffix == ".pth":
        torch.save(weights, tmp_path / "w.pth")
    else:
        header_file(tmp_path / "w.safetensors", card(), weights)
    with pytest.raises(error, match=message):
        load_model(tmp_path / f"w{suffix}")


def test_unknown_weights_and_devices(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(save({"conv.weight": torch.zeros(3, 3)}))
    with pytest.raises(ArchitectureError, match=r"1 tensors: conv\.weight \(3, 3\)"):
        load_model(tmp_path / "w.safetensors")
    save_model(network(), tmp_path / "n.safetensors")
    with pytest.raises(DeviceError):
        load_model(tmp_path / "n.safetensors", device="abacus")


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists"):
        save_model(network(), path)
    with pytest.raises(OutputError, match="folder"):
        save_model(network(), tmp_path / "missing" / "n.safetensors")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="space"):
            save_model(network(), path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["n.safetensors"]
    save_model(network(), path, overwrite=True)
    assert same(load_model(path), network())


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"scale": 3}, "told by the network"),
        ({"seed": object()}, "JSON"),
        ({"psnr": float("nan")}, "JSON"),
        ({"licence": 3}, "licence"),
        ({"value_range": (1, 1)}, "increasing"),
    ],
)
def test_cards_that_cannot_be_written(card: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        save_model(network(), tmp_path / "n.safetensors", **card)
    assert not os.listdir(tmp_path)


def test_networks_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="safetensors"):
        save_model(network(), tmp_path / "n.pth")
    net = network()
    with torch.no_grad():
        next(net.parameters()).fill_(float("inf"))
    with pytest.raises(ModelFileError, match=r"head\.weight"):
        save_model(net, tmp_path / "n.safetensors")
    assert not os.listdir(tmp_path)
