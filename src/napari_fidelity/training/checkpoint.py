"""Checkpoints: written whole or not at all, loaded without executing anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import ModelFileError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io._atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def save_checkpoint(path: Path, state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Write the state of a training; an interruption leaves the previous file as it was.

    Parameters
    ----------
    path
        The file; it is replaced if it exists.
    state
        Numbers, lists, dictionaries and tensors.
    identity
        What must be equal for the state to belong to a training, as values that JSON can hold.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_write(path, overwrite=True) as temporary:
        torch.save({"identity": json.dumps(identity), "state": dict(state)}, temporary)


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read the state of a training.

    Raises
    ------
    ModelFileError
        If the file is no checkpoint, or one of another training; it says what differs.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state = json.loads(content["identity"]), dict(content["state"])
    except Exception as error:  # torch.load raises whatever the broken file provokes
        raise ModelFileError(
            f"'{path}' is no checkpoint of a training", found=f"{type(error).__name__}: {str(error)[:200]}"
        ) from None
    # through JSON, so that tuples and lists compare equal
    wanted = json.loads(json.dumps(identity))
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        name = different[0]
        raise ModelFileError(
            f"The checkpoint '{path}' belongs to another training",
            found=f"{name} {found.get(name)} instead of {wanted[name]}",
            do="Train with the same settings, images and operator, or write to another file",
        )
    return state
