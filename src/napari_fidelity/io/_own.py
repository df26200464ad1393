"""Networks from files of weights: by the card in the header, by the names of the weights, or by spandrel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fidelity import networks
from napari_fidelity.core.errors import ArchitectureError, MissingDependencyError
from napari_fidelity.core.lazy import torch
from napari_fidelity.io import _weights
from napari_fidelity.io._card import Card, read_card

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.networks.base import RestorationNetwork
    from napari_fidelity.networks.foreign import LoadedNetwork


def load_safetensors(path: Path, content: bytes, trust: Trust) -> LoadedNetwork:
    """Load a ``.safetensors`` file with or without our header; nothing in it can be executed."""
    card = read_card(_weights.safetensors_header(content, path.name), path.name)
    weights = _weights.safetensors_weights(content, path.name)
    if card is None:
        return _from_weights(_weights.strip_prefixes(weights))
    with torch.random.fork_rng(devices=[]):  # loading a model must not disturb anybody's random numbers
        network = _from_card(card, weights, path.name)
    network.info = card.info(network.info.n_parameters, "", path.stem)
    return network


def load_weights(path: Path, content: bytes, trust: Trust) -> LoadedNetwork:
    """Load a file that ``torch.save`` wrote, by a load that takes weights alone, whoever trusts it."""
    return _from_weights(_weights.torch_weights(content, path.name))


def _from_card(card: Card, weights: dict[str, Tensor], name: str) -> RestorationNetwork:
    network = networks.build(card.architecture, card.config)
    says = (card.scale, card.n_channels, card.frames)
    if says != (network.scale, network.n_channels, network.info.frames):
        raise ArchitectureError(
            f"The header of '{name}' contradicts itself",
            found=f"×{card.scale}, {card.n_channels} channels, {card.frames} frames, but settings for "
            f"×{network.scale}, {network.n_channels} channels, {network.info.frames} frames",
        )
    network.load_weights(weights)
    return network


def _from_weights(weights: dict[str, Tensor]) -> LoadedNetwork:
    """Return the network that weights belong to, by their names: ours first, then spandrel's."""
    from napari_fidelity.io._deepinv import is_ram, ram_from_weights
    from napari_fidelity.io._foreign import adopt

    if is_ram(weights):
        return ram_from_weights(weights)
    with torch.random.fork_rng(devices=[]):
        network: RestorationNetwork | None = adopt(weights)
        if network is None:
            try:
                cls, config = networks.detect(weights)
                network = cls(**config)
                network.load_weights(weights)
            except ArchitectureError as unknown:  # or a near relative of one of ours
                return _from_spandrel(weights, unknown)
    network.info = replace(network.info, format="weights")
    return network


def _from_spandrel(weights: dict[str, Tensor], unknown: ArchitectureError) -> LoadedNetwork:
    from napari_fidelity.io._spandrel import recognised

    try:
        network = recognised(weights)
        more = "spandrel does not know them either"
    except MissingDependencyError as missing:
        network, more = None, missing.do
    if network is None:
        raise ArchitectureError(unknown.what, found=unknown.found, do=f"{unknown.do}. {more}") from None
    return network
