"""Registering a network of one's own as a model, and running the file that does so."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import FidelityError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.registry import OWN_MODELS, check_name
from napari_fidelity.io import models
from napari_fidelity.io._card import checked_range
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.registered import as_model

if TYPE_CHECKING:
    import os

_TEXTS = ("licence", "trained_for", "source")
_COUNTED = ("id", "architecture", "config", "n_parameters", "sha256")  # told by the network, not by the user


def register_model(
    name: str,
    module: torch.nn.Module,
    *,
    scale: int | None = None,
    n_channels: int | None = None,
    size_multiple: int = 1,
    smallest: int = 1,
    **card: Any,
) -> ModelInfo:
    """Make a network of one's own a model of this process: ``model="my-net"`` works wherever an id does.

    A copy is kept in evaluation mode, so that what happens to the module afterwards does not matter. Its identity
    in recipes is a hash of its weights and of the name of its class: a replay with other weights is refused.

    Parameters
    ----------
    name
        The id. A model registered under it before is replaced; ids of bundled models are refused.
    module
        Maps an image ``(N, C, H, W)``, nominal range [0, 1], to ``(N, C, scale·H, scale·W)``. Where it ends in a
        convolution, which is found by a trial, fine-tuning solves for that in closed form; where its attribute
        ``takes_noise_level`` is true, it is called with the noise level as well.
    scale, n_channels
        Factor by which it enlarges, and channels of the image; left out, its attributes of these names.
    size_multiple, smallest
        Width and height that it takes: multiples of a number, such as 8 for a U-Net of three levels, and in
        pixels, not below another one. Other images are extended by mirroring, and the result is cropped.
    **card
        ``licence``, ``trained_for``, ``source``, ``value_range`` (two numbers, if not [0, 1]), and whatever else
        is worth knowing, as values that JSON can hold.

    Returns
    -------
    ModelInfo
        What is known of it now.

    Raises
    ------
    OptionError
        If the name is no name or that of a bundled model, or scale, channels or card are impossible.
    ArchitectureError
        If a small image that runs through the network does not come out in the size that was stated.
    """
    check_name(name, "model", models._bundled())
    if not isinstance(module, torch.nn.Module):
        raise OptionError(
            "A model is a torch.nn.Module",
            found=f"a class, {module.__name__}" if isinstance(module, type) else type(module).__name__,
            do="Make an object of it" if isinstance(module, type) else "Wrap it in a torch.nn.Module",
        )
    info = ModelInfo(
        id=name,
        architecture=type(module).__name__,
        scale=_count(module, "scale", scale),
        n_channels=_count(module, "n_channels", n_channels),
        n_parameters=0,
        **_told(card),
    )
    sizes = {"size_multiple": size_multiple, "smallest": smallest}
    for size, value in sizes.items():
        _check_count(size, value)
    network = as_model(module, info, **sizes)
    OWN_MODELS.add(name, network)
    return network.info


def import_file(path: str | os.PathLike[str]) -> None:
    """Run a Python file, which registers what is one's own; a block under ``__main__`` is left out.

    The file's folder is added to where Python looks for modules, as it is for a script.

    Raises
    ------
    OptionError
        If there is no such file, or it ends with an error.
    FidelityError
        That the file itself ran into.
    """
    file = Path(path).expanduser().resolve()
    name = f"_imported_{file.stem}"  # no name that a module of another kind could have
    spec = spec_from_file_location(name, file) if file.suffix == ".py" and file.is_file() else None
    if spec is None or spec.loader is None:
        raise OptionError("There is no such Python file to import", found=f"'{path}'")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module = module_from_spec(spec)  # pickle looks there for what the file defines
    try:
        spec.loader.exec_module(module)
    except FidelityError:
        raise
    except (Exception, SystemExit) as error:  # a file that exits would end the command, with nothing done
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        found = f"{type(error).__name__}: {error}{where}"
        raise OptionError(f"'{file.name}' ended with an error", found=found, do="Mend it") from error


def _count(module: torch.nn.Module, name: str, given: int | None) -> int:
    """Return what was given, or what the module says itself, where these do not contradict each other."""
    own = getattr(module, name, None)
    own = own if isinstance(own, int) and not isinstance(own, bool) else None
    if given is None and own is None:
        raise OptionError(f"The network does not say its {name}", do=f"Give {name}=…")
    if given is not None and own is not None and given != own:
        raise OptionError(f"The network says {name} = {own} itself", found=f"{name}={given}")
    return _check_count(name, own if given is None else given)


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"'{name}' must be an integer from 1", found=repr(value))
    return value


def _told(card: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a :class:`ModelInfo` that a card holds."""
    if wrong := sorted(set(_COUNTED) & card.keys()):
        raise OptionError(f"The card's '{wrong[0]}' is told by the network itself", do="Leave it out")
    told: dict[str, Any] = {name: str(card.pop(name)) for name in _TEXTS if name in card}
    if "value_range" in card:
        told["value_range"] = checked_range(card.pop("value_range"))
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OptionError("The card holds a value that cannot be written as JSON", found=str(error)) from None
    return {**told, "card": card}
