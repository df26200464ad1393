"""Small bioimage.io packages, made on the fly: a convolution, its own Python file, its description."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    *, before: list[Any] | None = None, after: list[Any] | None = None, halo: int = 0, step: int = 4, **changes: Any
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
    own = description["weights"].get("pytorch_state_dict", {})
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
