"""Files made to do harm: each has a named error, and nothing of them is executed or unpacked."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_fidelity.core.errors import ArchitectureError, ModelFileError
from napari_fidelity.io import load_model

if TYPE_CHECKING:
    from pathlib import Path


class Evil:
    """Unpickled by an ordinary unpickler, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def archive(path: Path, members: dict[str, bytes], *, deflated: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ts", ".pt2"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickles_that_run_code(wrapped: bool, suffix: str, trust: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    content = {"params": {"x": Evil(trace)}} if wrapped else Evil(trace)
    torch.save(content, path) if wrapped else path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelFileError, match="nothing of it was run"):
        load_model(path, trust=trust)
    assert not trace.exists()


def test_what_would_have_run_is_named(tmp_path: Path) -> None:
    torch.save({"x": Evil(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match=r"would run code when opened \(found: \w+\.mkdir\)"):
        load_model(tmp_path / "evil.pth")


@pytest.mark.parametrize("text", ["<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1"])
def test_text_under_a_models_name_is_no_code(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=f"no file of weights.*it begins with '{text[:15]}"):
        load_model(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py", "..\\evil.py", "C:\\evil.py"])
@pytest.mark.parametrize("trust", [False, True])
def test_archives_that_reach_outside(name: str, trust: bool, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    info = zipfile.ZipInfo(name)
    info.filename = name  # as it is, without what zipfile makes of it
    with zipfile.ZipFile(folder / "m.pt", "w") as file:
        file.writestr("m/data.pkl", b"x")
        file.writestr(info, b"print('evil')")
    with pytest.raises(ModelFileError, match="outside of its own folder"):
        load_model(folder / "m.pt", trust=trust)
    assert os.listdir(tmp_path) == ["in"]
    assert os.listdir(folder) == ["m.pt"]


def test_archives_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt", {"m/data.pkl": b"x", "m/data/0": bytes(20_000_000)}, deflated=True)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="out of all proportion"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("members", [{"a.npy": b"x"}, {"m/rdf.yaml": b"x", "net.py": b"x"}, {"m/net.py": b"x"}])
def test_other_archives(members: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="program or a package"):
        load_model(archive(tmp_path / "m.pth", members))


IMAGES = {f"images/{number}.tif": b"x" for number in range(5)}


@pytest.mark.parametrize("suffix", [".zip", ".pth", ".tar", ".ts"])
@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, "found: no files"),
        ({"notes.txt": b"x"}, "found: 'notes.txt'"),
        ({"images/": b"", **IMAGES}, r"found: 'images/0\.tif', 'images/1\.tif', 'images/2\.tif' and 2 more"),
        ({"net/rdf.yaml": b"type: model"}, "rdf.yaml at the top and in no folder"),
    ],
    ids=["empty", "notes", "images", "folder"],
)
def test_archives_without_a_model(members: dict[str, bytes], found: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"'m{suffix}' is a zip archive without a model in it.*{found}"):
        load_model(archive(tmp_path / f"m{suffix}", members), trust=True)


@pytest.mark.parametrize(
    ("mode", "match"),
    [("w", "is a tar archive, no file of weights.*Unpack"), ("w:gz", "compressed by gzip.*Unpack")],
)
def test_archives_of_another_kind(mode: Any, match: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"x")
    with tarfile.open(tmp_path / "net.pth.tar", mode) as file:
        file.add(tmp_path / "net.pth")
    with pytest.raises(ModelFileError, match=match):
        load_model(tmp_path / "net.pth.tar", trust=True)


def test_what_only_begins_as_an_archive(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(ModelFileError, match=r"'m\.zip' is damaged: it begins as a zip archive.*found: 64 bytes"):
        load_model(tmp_path / "m.zip")


def test_headers_that_claim_too_much(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    for size in (2**63, 10**12, 2**31):
        path.write_bytes(size.to_bytes(8, "little") + b"{}")
        with pytest.raises(ModelFileError, match="no safetensors file, or a truncated one"):
            load_model(path)
    claims = {"x": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}
    header = json.dumps(claims).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ModelFileError, match=r"h\.safetensors"):
        load_model(path)
    deep = b"[" * 100_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(ModelFileError, match="header"):
        load_model(path)


def test_truncated_weights_of_others(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({f"body.{i}.weight": torch.rand(8, 8, 3, 3) for i in range(5)}, buffer)
    content = buffer.getvalue()
    for keep in (3, 200, len(content) // 2, len(content) - 30):
        (tmp_path / "n.pth").write_bytes(content[:keep])
        with pytest.raises(ModelFileError, match=r"n\.pth"):
            load_model(tmp_path / "n.pth")


def test_weights_nested_too_deeply(tmp_path: Path) -> None:
    content: Any = {"head.weight": torch.zeros(3)}
    for _ in range(6):
        content = {"model": content}
    torch.save(content, tmp_path / "n.pth")
    with pytest.raises(ModelFileError, match="holds no weights by name"):
        load_model(tmp_path / "n.pth")


@pytest.mark.parametrize(
    "weights",
    [
        {f"body.{10**9}.weight": torch.zeros(3, 3, 3, 3), "body.0.weight": torch.zeros(3, 3, 3, 3)},
        {"head.weight": torch.zeros(3), "refine.weight": torch.zeros(3), "tail.weight": torch.zeros(3)},
        {"body.0.weight": torch.zeros(2), "body.1.weight": torch.zeros(()), "body.2.weight": torch.zeros(1)},
        {f"layer{i}.weight": torch.zeros(1, dtype=torch.complex64) for i in range(3)},
    ],
)
def test_names_without_sense(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "n.pth")
    with pytest.raises((ArchitectureError, ModelFileError)):
        load_model(tmp_path / "n.pth")
