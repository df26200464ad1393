"""Trained networks from and to files, and the models that come with the package."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_fidelity import networks
from napari_fidelity.core.device import choose_device
from napari_fidelity.core.errors import ArchitectureError, ModelFileError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import option_error
from napari_fidelity.io import _weights
from napari_fidelity.io._atomic import atomic_write, check_output
from napari_fidelity.networks.info import ModelInfo

if TYPE_CHECKING:
    import os
    from importlib.resources.abc import Traversable

    from torch import Tensor

    from napari_fidelity.networks.base import RestorationNetwork

_KEY = "napari_fidelity"
_STATISTICS = (".running_mean", ".running_var")  # of batch normalisation, gathered and not trained
_FLOATS = {"F64", "F32", "F16", "BF16"}


class _Card(BaseModel):
    """What the header of our files holds, as JSON under the key ``napari_fidelity``."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    architecture: str
    config: dict[str, Any]
    id: str = ""
    scale: int = Field(ge=1)
    n_channels: int = Field(ge=1)
    value_range: tuple[float, float] = (0.0, 1.0)
    licence: str = ""
    trained_for: str = ""
    source: str = ""

    def info(self, n_parameters: int, sha256: str, name: str) -> ModelInfo:
        return ModelInfo(
            **{**self.model_dump(include=_TOLD), "id": self.id or name},
            n_parameters=n_parameters,
            sha256=sha256,
            card=dict(self.model_extra or {}),
        )


_COUNTED = {"architecture", "config", "scale", "n_channels"}  # told by the network, not by who saves it
_TOLD = set(_Card.model_fields) - {"config"}


def list_models() -> list[ModelInfo]:
    """Return what is known of every bundled model, by id, without loading torch."""
    return [_read_info(file.read_bytes(), name) for name, file in sorted(_bundled().items())]


def load_model(
    name_or_path: str | os.PathLike[str], *, scale: int | None = None, device: str | torch.device = "cpu"
) -> RestorationNetwork:
    """Load a trained network, in eval mode, with what is known of it as its ``info``.

    Nothing in the file is executed and nothing is downloaded.

    Parameters
    ----------
    name_or_path
        Id of a bundled model (see :func:`list_models`), or the path of a ``.safetensors`` file with or without
        our header, or of a ``.pth`` or ``.pt`` file that holds weights alone.
    scale
        Adapt the network to this scale by leaving layers out (see ``RestorationNetwork.to_scale``).
    device
        Where to put it: a torch device or its name, or ``"auto"``.

    Raises
    ------
    ModelFileError
        If there is no such model or file, or it is empty, damaged, or holds more than weights.
    ArchitectureError
        If the weights belong to no known architecture, do not fit the settings in the header, or the network
        cannot be adapted to the scale.
    """
    content, name = _find(name_or_path)
    if Path(name).suffix in _weights.TORCH_SUFFIXES:
        card, weights = None, _weights.torch_weights(content, name)
    else:
        card = _read_card(_weights.safetensors_header(content, name), name)
        weights = _weights.safetensors_weights(content, name)
    network = _from_card(card, weights, name) if card else _from_weights(weights)
    sha256 = hashlib.sha256(content).hexdigest()
    stem = Path(name).stem
    network.info = (
        card.info(network.info.n_parameters, sha256, stem)
        if card
        else replace(network.info, id=stem, sha256=sha256)
    )
    if scale is not None:
        network = network.to_scale(scale)
    return network.to(choose_device(str(device), announce=False)).eval()


def save_model(
    network: RestorationNetwork, path: str | os.PathLike[str], *, overwrite: bool = False, **card: Any
) -> ModelInfo:
    """Write a network with its settings and its card to one ``.safetensors`` file, whole or not at all.

    Parameters
    ----------
    network
        Any network of the registry; its weights are written as they are, on whatever device.
    path
        The file; the suffix must be ``.safetensors``.
    overwrite
        Whether a file that exists may be replaced.
    **card
        ``id``, ``licence``, ``trained_for``, ``source``, ``value_range``: those of ``network.info`` if left out;
        and whatever else is worth knowing, as values that JSON can hold.

    Returns
    -------
    ModelInfo
        What the file says, with its SHA-256.

    Raises
    ------
    OutputError
        If the file exists, its folder is missing or the disk is full.
    OptionError
        If the suffix is another, or the card holds what JSON cannot or what the network itself tells.
    ModelFileError
        If a weight is NaN or infinite.
    """
    from safetensors.torch import save

    target = check_output(path, overwrite=overwrite)
    if target.suffix != ".safetensors":
        raise OptionError("Models are written as .safetensors", found=f"'{target.name}'")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"The weight '{name}' is NaN or infinite", do="Train or load the network again")
    # One entry only: safetensors writes several in an order that differs from file to file, and so does the hash.
    content = save(weights, metadata={_KEY: _card_text(network, target.stem, card)})
    with atomic_write(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return _read_info(content, target.name)


def _card_text(network: RestorationNetwork, stem: str, told: dict[str, Any]) -> str:
    if wrong := sorted(_COUNTED & told.keys()):
        raise OptionError(f"The card's '{wrong[0]}' is told by the network itself", do="Leave it out")
    info = network.info
    known = {name: getattr(info, name) for name in _TOLD - _COUNTED}
    counted = {
        "architecture": network.architecture,
        "config": network.config(),
        "scale": network.scale,
        "n_channels": network.n_channels,
    }
    content = {**info.card, **known, **told, **counted}
    content["id"] = content["id"] or stem
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        _checked_range(_Card.model_validate_json(text))
    except ValidationError as error:
        raise option_error("Model card", error) from None
    except (TypeError, ValueError) as error:
        raise OptionError(
            "The model card holds a value that cannot be written as JSON", found=str(error)
        ) from None
    return text


def _checked_range(card: _Card) -> _Card:
    low, high = card.value_range
    if not (math.isfinite(low) and low < high < math.inf):
        raise OptionError("Model card: 'value_range' must be two increasing numbers", found=f"{card.value_range}")
    return card


def _find(name_or_path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Return content and file name of a bundled model or of a file."""
    bundled = _bundled()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        return bundled[name_or_path].read_bytes(), f"{name_or_path}.safetensors"
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise _not_there(str(name_or_path), list(bundled))
    known = (".safetensors", *_weights.TORCH_SUFFIXES)
    if path.is_file() and path.suffix not in known:
        do = "Convert it first: napari-fidelity convert" if path.suffix == ".npz" else f"Known: {', '.join(known)}"
        raise ModelFileError(f"'{path.name}' is not a kind of model file that can be loaded", do=do)
    return _weights.read_bytes(path), path.name


def _not_there(name: str, bundled: list[str]) -> ModelFileError:
    near = difflib.get_close_matches(name, bundled, n=1, cutoff=0.5)
    offer = f"Did you mean '{near[0]}'? " if near else ""
    return ModelFileError(
        f"There is no model '{name}'",
        found="neither a bundled model nor a file of that name",
        do=f"{offer}Bundled: {', '.join(bundled) or 'none'}",
    )


def _bundled() -> dict[str, Traversable]:
    folder = resources.files("napari_fidelity").joinpath("bundled")
    if not folder.is_dir():
        return {}
    files = {file.name: file for file in folder.iterdir()}
    return {n.removesuffix(".safetensors"): files[n] for n in sorted(files) if n.endswith(".safetensors")}


def _read_info(content: bytes, name: str) -> ModelInfo:
    header = _weights.safetensors_header(content, name)
    card = _read_card(header, name)
    if card is None:
        raise ModelFileError(
            f"'{name}' says nothing of its architecture", do="Convert it: napari-fidelity convert"
        )
    trained = [v for k, v in header.items() if k != "__metadata__" and not k.endswith(_STATISTICS)]
    count = sum(math.prod(entry["shape"]) for entry in trained if entry["dtype"] in _FLOATS)
    return card.info(count, hashlib.sha256(content).hexdigest(), Path(name).stem)


def _read_card(header: dict[str, Any], name: str) -> _Card | None:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or _KEY not in metadata:
        return None
    text = metadata[_KEY]
    try:
        return _checked_range(_Card.model_validate_json(text))
    except (ValidationError, OptionError) as error:
        found = option_error("card", error).what if isinstance(error, ValidationError) else error.what
        raise ModelFileError(
            f"The description in the header of '{name}' is damaged",
            found=found,
            do="Get the file again, or convert the original weights again",
        ) from None


def _from_card(card: _Card, weights: dict[str, Tensor], name: str) -> RestorationNetwork:
    with torch.random.fork_rng(devices=[]):  # loading a model must not disturb anybody's random numbers
        network = networks.build(card.architecture, card.config)
    if (card.scale, card.n_channels) != (network.scale, network.n_channels):
        raise ArchitectureError(
            f"The header of '{name}' contradicts itself",
            found=f"×{card.scale}, {card.n_channels} channels, but settings of a network for ×{network.scale}, "
            f"{network.n_channels} channels",
        )
    network.load_weights(weights)
    return network


def _from_weights(weights: dict[str, Tensor]) -> RestorationNetwork:
    from napari_fidelity.io._foreign import adopt

    weights = _weights.strip_prefixes(weights)
    with torch.random.fork_rng(devices=[]):
        adopted = adopt(weights)
        if adopted is not None:
            return adopted
        cls, config = networks.detect(weights)
        network = cls(**config)
    network.load_weights(weights)
    return network
