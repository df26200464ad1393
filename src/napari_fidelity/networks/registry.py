"""The list of architectures. Imports no torch until a network is built."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.core.registry import OWN_ARCHITECTURES, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_fidelity.networks.base import RestorationNetwork

Class = TypeVar("Class", bound="type[RestorationNetwork]")

# Name of the class, which is the name of the architecture, and the module of this package it lives in.
# Detection asks in this order: the more particular first.
ARCHITECTURES = {
    "DRUNet": "drunet",
    "DnCNN": "dncnn",
    "EDSR": "edsr",
    "EnhanceNet": "enhancenet",
    "RDN": "rdn",
    "RRDN": "rrdn",
    "SRResNet": "srresnet",
    "VSR": "vsr",
}
_YOURS = "One of your own has to be registered first: nf.register_architecture"


def architecture(name: str) -> type[RestorationNetwork]:
    """Return the class of an architecture.

    Raises
    ------
    ArchitectureError
        If there is none of that name.
    """
    own: type[RestorationNetwork] | None = OWN_ARCHITECTURES.get(name)
    if own is not None:
        return own
    if name not in ARCHITECTURES:
        known = [*ARCHITECTURES, *OWN_ARCHITECTURES.all()]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise ArchitectureError(
            f"There is no architecture '{name[:80]}'",
            do=f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}. {_YOURS}",
        )
    module = importlib.import_module(f"napari_fidelity.networks.{ARCHITECTURES[name]}")
    cls: type[RestorationNetwork] = getattr(module, name)
    return cls


def register_architecture(network: Class) -> Class:
    """Make a network class of one's own known by its name: model files of it can be written, loaded and detected.

    Parameters
    ----------
    network
        A subclass of :class:`~napari_fidelity.networks.base.RestorationNetwork`. One of the same name that was
        registered before is replaced.

    Returns
    -------
    type
        The class, so that this can stand above it as a decorator.

    Raises
    ------
    ArchitectureError
        If it is no such class, leaves a method out, or its attribute ``architecture`` is not its name.
    OptionError
        If this package has an architecture of that name.
    """
    from napari_fidelity.networks.base import RestorationNetwork

    if not (isinstance(network, type) and issubclass(network, RestorationNetwork)):
        raise ArchitectureError("An architecture is a subclass of RestorationNetwork", found=repr(network)[:80])
    name = check_name(network.__name__, "architecture", ARCHITECTURES)
    if left := sorted(network.__abstractmethods__):
        raise ArchitectureError(f"{name} leaves out what a network has to tell", found=f"no {', no '.join(left)}")
    if getattr(network, "architecture", None) != name:
        found = repr(getattr(network, "architecture", None))
        raise ArchitectureError(f'{name} says in its attribute architecture what it is: "{name}"', found=found)
    OWN_ARCHITECTURES.add(name, network)
    return network


def build(name: str, config: Mapping[str, Any]) -> RestorationNetwork:
    """Build an untrained network.

    Parameters
    ----------
    name
        Name of the architecture.
    config
        Arguments of its constructor, as its ``config()`` returns them.

    Raises
    ------
    ArchitectureError
        If there is no such architecture or setting, or a value is impossible.
    """
    cls = architecture(name)
    try:
        inspect.signature(cls).bind(**config)
        return cls(**config)
    except (TypeError, ValueError) as error:  # settings may come from a file that somebody else wrote
        raise ArchitectureError(f"{name}: a setting is unknown, missing or impossible", found=str(error)) from None


def detect(state_dict: Mapping[str, Tensor]) -> tuple[type[RestorationNetwork], dict[str, Any]]:
    """Tell from weights alone which network they belong to.

    Parameters
    ----------
    state_dict
        Tensors by name.

    Returns
    -------
    tuple
        The class and the arguments that build the network.

    Raises
    ------
    ArchitectureError
        If the names belong to no architecture of the list, or the shapes do not fit.
    """
    for name in (*OWN_ARCHITECTURES.all(), *ARCHITECTURES):  # those of the user's own on purpose first
        cls = architecture(name)
        if cls.detect(state_dict):
            try:
                return cls, cls.infer_config(state_dict)
            except (TypeError, ValueError, LookupError, ArithmeticError):
                raise ArchitectureError(f"The weights look like {name}, but their shapes do not fit") from None
    first = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(state_dict.items())[:3])
    raise ArchitectureError(
        "The weights belong to none of the known architectures",
        found=f"{len(state_dict)} tensors: {first}, …" if state_dict else "no tensors",
        do=f"Known: {', '.join([*ARCHITECTURES, *OWN_ARCHITECTURES.all()])}. {_YOURS}",
    )
