"""Trained networks from and to files, and the models that come with the package."""

from __future__ import annotations

import difflib
import hashlib
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.device import choose_device
from napari_fidelity.core.errors import ArchitectureError, ModelFileError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io import _weights
from napari_fidelity.io._atomic import atomic_write, check_output
from napari_fidelity.io._card import KEY, card_text, read_card
from napari_fidelity.io._formats import check_suffix, loader_of, may_be_model
from napari_fidelity.networks.registered import registered_infos, registered_network

if TYPE_CHECKING:
    import os
    from importlib.resources.abc import Traversable

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.networks.foreign import LoadedNetwork
    from napari_fidelity.networks.info import ModelInfo

_STATISTICS = (".running_mean", ".running_var")  # of batch normalisation, gathered and not trained
_FLOATS = {"F64", "F32", "F16", "BF16"}


def list_models() -> list[ModelInfo]:
    """Return what is known of every bundled model, by id, and of registered ones, without loading torch."""
    bundled = [_read_info(file.read_bytes(), name) for name, file in sorted(_bundled().items())]
    return [*bundled, *registered_infos()]


def is_model_file(path: Path) -> bool:
    """Tell by its name whether a file may be a model that can be loaded."""
    return may_be_model(path.name) and path.is_file()


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    scale: int | None = None,
    device: str | torch.device = "cpu",
    trust: Trust = False,
) -> LoadedNetwork:
    """Load a trained network, in eval mode, with what is known of it as its ``info``.

    Nothing is downloaded, and without ``trust`` nothing in the file is executed.

    Parameters
    ----------
    name_or_path
        Id of a bundled or registered model (see :func:`list_models`), or the path of a ``.safetensors`` file with
        or without our header, of a ``.pth`` or ``.pt`` file that holds weights alone, of a TorchScript (``.pt``,
        ``.ts``) or exported program (``.pt2``), or of a bioimage.io package (``.zip``, or the ``rdf.yaml`` of one
        unpacked).
    scale
        Adapt the network to this scale by leaving layers out (see ``RestorationNetwork.to_scale``).
    device
        Where to put it: a torch device or its name, or ``"auto"``.
    trust
        Whether code in the file may run: ``True`` for whatever it holds, or the SHA-256 of the contents that may.
        Programs run with the rights of whoever opens them.

    Raises
    ------
    UntrustedModelError
        If the file holds code, and ``trust`` was not given.
    ModelFileError
        If there is no such model or file, or it is empty, damaged, or holds more than weights.
    ArchitectureError
        If the weights belong to no known architecture, do not fit the settings in the header, or the network
        needs more than an image, or cannot be adapted to the scale.
    """
    if (registered := registered_network(name_or_path, scale, device)) is not None:
        return registered
    path, content = _find(name_or_path)
    network = loader_of(path, content)(path, content, trust)
    info = network.info
    # the loader of a package that lies in a folder has the hash of all of it
    sha256 = info.sha256 or hashlib.sha256(content).hexdigest()
    network.info = replace(info, id=info.id or path.stem, sha256=sha256)
    if scale is not None:
        network = network.to_scale(scale)
    return network.to(choose_device(str(device), announce=False)).eval()


def save_model(
    network: LoadedNetwork, path: str | os.PathLike[str], *, overwrite: bool = False, **card: Any
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
    ArchitectureError
        If the network is none of the registry.
    """
    from safetensors.torch import save

    from napari_fidelity.networks import RestorationNetwork

    target = check_output(path, overwrite=overwrite)
    if target.suffix != ".safetensors":
        raise OptionError("Models are written as .safetensors", found=f"'{target.name}'")
    if not isinstance(network, RestorationNetwork):
        raise ArchitectureError(
            "Only networks of the registered architectures can be written",
            found=f"a {network.info.architecture} network that was made elsewhere",
            do="Keep the file that it was loaded from",
        )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"The weight '{name}' is NaN or infinite", do="Train or load the network again")
    # One entry only: safetensors writes several in an order that differs from file to file, and so does the hash.
    content = save(weights, metadata={KEY: card_text(network, target.stem, card)})
    with atomic_write(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return _read_info(content, target.name)


def _find(name_or_path: str | os.PathLike[str]) -> tuple[Path, bytes]:
    """Return the path and the content of a bundled model or of a file."""
    bundled = _bundled()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        return Path(f"{name_or_path}.safetensors"), bundled[name_or_path].read_bytes()
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise _not_there(str(name_or_path), list(bundled))
    if path.is_file():
        check_suffix(path)
    return path, _weights.read_bytes(path)


def _not_there(name: str, bundled: list[str]) -> ModelFileError:
    own = [info.id for info in registered_infos()]
    near = difflib.get_close_matches(name, [*bundled, *own], n=1, cutoff=0.5)
    offer = f"Did you mean '{near[0]}'? " if near else ""
    return ModelFileError(
        f"There is no model '{name}'",
        found="neither a bundled model, nor a file of that name, nor one registered in this process",
        do=f"{offer}Bundled: {', '.join(bundled) or 'none'}; registered: {', '.join(own) or 'none'} "
        "(nf.register_model; on the command line in a file given by --import)",
    )


def _bundled() -> dict[str, Traversable]:
    folder = resources.files("napari_fidelity").joinpath("bundled")
    if not folder.is_dir():
        return {}
    files = {file.name: file for file in folder.iterdir()}
    return {n.removesuffix(".safetensors"): files[n] for n in sorted(files) if n.endswith(".safetensors")}


def _read_info(content: bytes, name: str) -> ModelInfo:
    header = _weights.safetensors_header(content, name)
    card = read_card(header, name)
    if card is None:
        raise ModelFileError(
            f"'{name}' says nothing of its architecture", do="Convert it: napari-fidelity convert"
        )
    trained = [v for k, v in header.items() if k != "__metadata__" and not k.endswith(_STATISTICS)]
    count = sum(math.prod(entry["shape"]) for entry in trained if entry["dtype"] in _FLOATS)
    return card.info(count, hashlib.sha256(content).hexdigest(), Path(name).stem)
