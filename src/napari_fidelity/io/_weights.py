"""Weights out of files that may be truncated, hostile or something else altogether. Executes nothing."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ModelFileError
from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

# Under these keys training programs put the weights; averaged weights are the ones to use, so they come first.
_WRAPPERS = (
    "params_ema", "params-ema", "state_dict_ema", "params", "state_dict", "model_state_dict", "model", "network",
    "net", "generator",
)  # fmt: skip
# Left in front of every name by DataParallel, torch.compile and training programs.
_PREFIXES = ("module.", "_orig_mod.", "netG.")

# What a file of torch.save begins with: an archive, or, of old, a pickle. Pages of errors and pointers of Git LFS,
# saved under a model's name, do not.
_TORCH = (b"PK", b"\x80")

# What other archives are known by: where, what is there, and their name.
_ARCHIVES = ((257, b"ustar", "a tar archive"), (0, b"\x1f\x8b", "a file compressed by gzip"))

_HEADER_LIMIT = 100_000_000  # bytes, the limit of the safetensors format itself


def read_bytes(path: Path) -> bytes:
    """Return the content of a model file.

    Raises
    ------
    ModelFileError
        If it is no ordinary file, cannot be read or is empty.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise ModelFileError(f"'{path}' {what}", do="Give the path of a model file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    if not content:
        raise ModelFileError(f"'{path}' is empty", found="0 bytes", do="Copy or download it again")
    return content


def safetensors_header(content: bytes, name: str) -> dict[str, Any]:
    """Return the header of a safetensors file: ``dtype``, ``shape``, ``data_offsets`` by tensor, and metadata.

    Raises
    ------
    ModelFileError
        If the header is damaged or the file does not end where its header says.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > _HEADER_LIMIT or size + 8 > len(content):
        raise ModelFileError(
            f"'{name}' is no safetensors file, or a truncated one",
            found=f"{len(content)} bytes",
            do="Copy or download it again",
        )
    try:
        header = json.loads(content[8 : 8 + size])
        end = max(
            (int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"), default=0
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"The header of '{name}' is damaged", found=f"{type(error).__name__}: {error}"
        ) from None
    if 8 + size + end != len(content):
        raise ModelFileError(
            f"'{name}' is truncated or damaged",
            found=f"{len(content)} bytes instead of {8 + size + end}",
            do="Copy or download it again",
        )
    return dict(header)


def safetensors_weights(content: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    ModelFileError
        If the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    safetensors_header(content, name)
    try:
        return dict(load(content))
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ModelFileError(f"'{name}' is damaged", found=str(error), do="Copy or download it again") from None


def torch_weights(content: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file that ``torch.save`` wrote, by a load that takes nothing but weights.

    Raises
    ------
    ModelFileError
        If the file holds anything that would run code, is damaged, or holds no weights.
    """
    if not content.startswith(_TORCH):
        raise _other_file(name, content)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the broken or hostile file provokes
        raise _load_error(name, error) from None
    return strip_prefixes(_unwrap(loaded, name))


def strip_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers of modules left in front of every name."""
    for prefix in _PREFIXES:
        if weights and all(key.startswith(prefix) for key in weights):
            return strip_prefixes({key.removeprefix(prefix): value for key, value in weights.items()})
    return weights


def _other_file(name: str, content: bytes) -> ModelFileError:
    """Return the error for a file that ``torch.save`` did not write."""
    for at, sign, what in _ARCHIVES:
        if content.startswith(sign, at):
            return ModelFileError(
                f"'{name}' is {what}, no file of weights", do="Unpack it, and give the model file that is in it"
            )
    return ModelFileError(
        f"'{name}' is damaged or no file of weights",
        found=f"it begins with {content[:20].decode('ascii', 'replace')!r}",
        do="Copy or download it again; nothing of it was run",
    )


def _load_error(name: str, error: Exception) -> ModelFileError:
    text = str(error)
    culprit = re.search(
        r"GLOBAL (\S+) (?:was not an allowed global|whose module)|Unsupported (?:global|operand|class)[^\n]*", text
    )
    if culprit:
        return ModelFileError(
            f"'{name}' holds more than weights and would run code when opened",
            found=culprit[1] or culprit[0][:200],
            do="Save its state_dict() from Python, or use a .safetensors file; nothing of it was run",
        )
    first = text.strip().splitlines()[0][:200] if text.strip() else ""
    return ModelFileError(
        f"'{name}' is damaged or no file of weights",
        found=f"{type(error).__name__}: {first}",
        do="Copy or download it again; nothing of it was run",
    )


def _unwrap(loaded: Any, name: str) -> dict[str, Tensor]:
    for _ in range(3):  # {"generator": {"state_dict": {...}}} is seen, deeper is not
        if isinstance(loaded, dict) and (weights := _tensors(loaded)):
            return weights
        inner = _inner(loaded)
        if inner is None:
            break
        loaded = inner
    found = (
        f"entries {', '.join(map(repr, list(loaded)[:5]))}" if isinstance(loaded, dict) else type(loaded).__name__
    )
    raise ModelFileError(f"'{name}' holds no weights by name", found=found, do="Save the network's state_dict()")


def _inner(loaded: Any) -> Any:
    if not isinstance(loaded, dict):
        return None
    return next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)


def _tensors(loaded: Mapping[Any, Any]) -> dict[str, Tensor]:
    if loaded and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()):
        return dict(loaded)
    return {}
