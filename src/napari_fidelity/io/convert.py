"""Published weights in other formats, rewritten as our files without changing a value."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import ModelFileError, UntrustedModelError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io._atomic import check_output
from napari_fidelity.io._weights import read_bytes
from napari_fidelity.io.models import load_model, save_model
from napari_fidelity.networks.info import ModelInfo

if TYPE_CHECKING:
    import os

    from napari_fidelity.networks.enhancenet import EnhanceNet
    from napari_fidelity.networks.foreign import LoadedNetwork


def convert_model(
    source: str | os.PathLike[str], target: str | os.PathLike[str], /, *, overwrite: bool = False, **card: Any
) -> ModelInfo:
    """Rewrite a model as ``.safetensors`` with architecture, settings and card in its header.

    Parameters
    ----------
    source
        The published EnhanceNet weights as ``.npz``, or anything :func:`~napari_fidelity.io.load_model` reads.
    target
        The ``.safetensors`` file to write.
    overwrite
        Whether a file that exists may be replaced.
    **card
        As for :func:`~napari_fidelity.io.save_model`: ``licence``, ``source``, ``trained_for`` and so on.

    Returns
    -------
    ModelInfo
        What the new file says, with its SHA-256.

    Raises
    ------
    ModelFileError, ArchitectureError
        If the source cannot be read as a known network.
    OutputError
        If the target cannot be written.
    """
    check_output(target, overwrite=overwrite)
    network: LoadedNetwork = convert_enhancenet(source) if Path(source).suffix == ".npz" else _loaded(source)
    return save_model(network, target, overwrite=overwrite, **{"id": Path(target).stem, **card})


def _loaded(source: str | os.PathLike[str]) -> LoadedNetwork:
    try:
        return load_model(source)
    except UntrustedModelError as error:
        raise ModelFileError(
            f"'{Path(source).name}' is a program, of which only somebody who runs it gets the weights",
            found=error.what,
            do="Save its state_dict() from Python; nothing of it was run",
        ) from None


def convert_enhancenet(path: str | os.PathLike[str]) -> EnhanceNet:
    """Build EnhanceNet-PAT from the published TensorFlow weights.

    Parameters
    ----------
    path
        A ``.npz`` file with ``generator/Conv[_i]/weights``, height × width × in × out, and
        ``generator/Conv[_i]/biases``.

    Returns
    -------
    EnhanceNet
        The ×4 network in eval mode, on the CPU.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged or holds other arrays.
    ArchitectureError
        If the shapes are not those of an EnhanceNet.

    References
    ----------
    Sajjadi, Schölkopf, Hirsch, ICCV 2017, arXiv:1612.07919.
    """
    from napari_fidelity.networks.enhancenet import EnhanceNet

    arrays = _read_npz(Path(path).expanduser())
    layers = _layers(arrays, Path(path).name)
    n_blocks = (len(layers) - 5) // 2
    names = ["head"]
    names += [f"blocks.{i}.conv{k}" for i in range(n_blocks) for k in (1, 2)]
    names += ["upsampler.0_x2", "upsampler.1_x2", "refine", "tail"]
    weights = {}
    for name, (kernel, bias) in zip(names, layers, strict=True):
        weights[f"{name}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        weights[f"{name}.bias"] = torch.from_numpy(bias.copy())
    with torch.random.fork_rng(devices=[]):
        network = EnhanceNet(**EnhanceNet.infer_config(weights))
    network.load_weights(weights)
    network.info = ModelInfo(
        id="enhancenet-pat-x4",
        architecture=network.architecture,
        scale=network.scale,
        n_channels=network.n_channels,
        n_parameters=sum(p.numel() for p in network.parameters()),
        licence="CC BY-NC-ND 4.0",
        trained_for="×4 super-resolution after antialiased bicubic downsampling",
        source="EnhanceNet-PAT, Sajjadi, Schölkopf and Hirsch, ICCV 2017, arXiv:1612.07919; "
        "github.com/msmsajjadi/EnhanceNet-Code, re-encoded without change",
    )
    return network.eval()


def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    content = io.BytesIO(read_bytes(path))
    try:
        with np.load(content, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise whatever the broken file provokes
        raise ModelFileError(
            f"'{path.name}' is damaged or no .npz file of numbers",
            found=f"{type(error).__name__}: {error}",
            do="Copy or download it again; nothing of it was run",
        ) from None


def _layers(arrays: dict[str, np.ndarray[Any, Any]], name: str) -> list[tuple[np.ndarray[Any, Any], ...]]:
    """Return kernels and biases in the order of computation: ``Conv``, ``Conv_1``, ``Conv_2`` and so on."""
    count = len(arrays) // 2
    layers = [f"generator/Conv_{i}" if i else "generator/Conv" for i in range(count)]
    expected = {f"{layer}/{part}" for layer in layers for part in ("weights", "biases")}
    if expected != arrays.keys() or count < 5 or count % 2 == 0:
        raise ModelFileError(
            f"'{name}' does not hold the published EnhanceNet weights",
            found=f"{len(arrays)} arrays: {', '.join(list(arrays)[:3])} …",
            do="Expected generator/Conv/weights, generator/Conv/biases, generator/Conv_1/weights and so on",
        )
    for key, array in arrays.items():
        if array.ndim != (4 if key.endswith("weights") else 1) or array.dtype.kind != "f":
            raise ModelFileError(f"The array '{key}' is no layer's", found=f"{array.dtype} {array.shape}")
    return [(arrays[f"{layer}/weights"], arrays[f"{layer}/biases"]) for layer in layers]
