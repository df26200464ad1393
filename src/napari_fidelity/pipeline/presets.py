"""Published settings by the names that a command line and a recipe's script have for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from napari_fidelity.core.errors import OptionError
from napari_fidelity.methods import RED, ZSSR, DeepRED, FineTune
from napari_fidelity.methods.deepred import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.methods import AnyMethod, Method


class Preset(NamedTuple):
    """A constructor of a method, and what it is called with."""

    constructor: str
    arguments: tuple[str, ...] = ()


PRESETS: Mapping[type[Method], Mapping[str, Preset]] = {
    FineTune: {"lucas2020": Preset("lucas2020")},
    RED: {"romano2017": Preset("romano2017")},
    DeepRED: {task: Preset("mataev2019", (task,)) for task in get_args(Task)},
    ZSSR: {
        "shocher2018": Preset("shocher2018"),
        "shocher2018_kernel": Preset("shocher2018", ("kernel",)),
        "shocher2018_real": Preset("shocher2018", ("real",)),
    },
}
"""The presets of each method that has any, by name."""


def from_preset(cls: type[Method], name: str, **changes: Any) -> AnyMethod:
    """Return a method with the settings of a preset and some changes; ``"default"`` names the declared ones.

    Raises
    ------
    OptionError
        If the method has no such preset, or a change is impossible.
    """
    make: Any = cls
    if name == "default":
        method: AnyMethod = make(**changes)
        return method
    known = PRESETS.get(cls, {})
    if name not in known:
        raise OptionError(
            f"{cls.__name__} has no preset '{name}'", do="There are: " + ", ".join(["default", *known])
        )
    preset = known[name]
    method = getattr(make, preset.constructor)(*preset.arguments, **changes)
    return method


def preset_of(method: Method) -> str:
    """Return the name of the preset whose image a method gives, whatever its iteration; ``"default"`` for none."""
    plain = method.replace(iteration=None, snapshots=0) if method.iterative else method
    for name in PRESETS.get(type(method), {}):
        if plain == from_preset(type(method), name):
            return name
    return "default"
