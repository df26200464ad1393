"""A recipe as a shell command or a Python script that gives the same image."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import RecipeError
from napari_fidelity.core.options import Options
from napari_fidelity.core.registry import OWN_MODELS
from napari_fidelity.core.spec import number_text, write_one
from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED, FineTune, Project
from napari_fidelity.operators import Compose, Registered, describe
from napari_fidelity.pipeline.presets import PRESETS, preset_of
from napari_fidelity.stopping import AnyOf
from napari_fidelity.stopping import describe as describe_rule
from napari_fidelity.uncertainty import UncertaintyMap
from napari_fidelity.uncertainty._single import SinglePassMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fidelity.methods import Method
    from napari_fidelity.operators import Operator
    from napari_fidelity.pipeline.recipe import ModelReference, Recipe

RECIPE_FILE = "recipe.json"
"""File from which a command or script reads the recipe, where it cannot hold its settings."""
OWN_FILE = "own.py"
"""File that a command or script runs first, where the recipe names what the user registered in this process."""

_COMMANDS: dict[type[Method], str] = {
    FineTune: "correct",
    Project: "project",
    RED: "reconstruct",
    DIP: "reconstruct",
    DeepRED: "reconstruct",
    ZSSR: "reconstruct",
}
_FORMATION = ("scaling", "scope", "channels", "series", "nonfinite", "spatial")
_NO_EFFECT = ("kind", "snapshots")  # on the image


def command_line(
    recipe: Recipe, source: str = "measurement.tif", target: str = "restored.tif", *, dtype: str = "float32"
) -> str:
    """Return the shell command that gives the image of a recipe.

    It is that of ``correct``, ``project`` or ``reconstruct`` with every option that differs from its default.
    Where these cannot hold it all (arrays, other methods, stacks that were stopped), it is ``napari-fidelity run``
    with the recipe in the file :data:`RECIPE_FILE`.

    Parameters
    ----------
    recipe
        What to do.
    source, target
        File names of measurement and result.
    dtype
        Of the result: ``"float32"``, ``"input"``, ``"uint8"`` or ``"uint16"``.

    Raises
    ------
    RecipeError
        If the recipe names no image formation model, or no model where the method needs one.
    """
    operator, model = _complete(recipe)
    files = [_file(source), _file(target)]
    command = _COMMANDS.get(type(recipe.method))
    if command is None or recipe.last_iterations is not None or _has_arrays(recipe) or _beyond(command, recipe):
        words = ["run", RECIPE_FILE, *files]
    else:
        words = [command, *files, *_options(recipe, operator, model)]
    if dtype != "float32":
        words += ["--dtype", dtype]
    if own_names(recipe):
        words += ["--import", OWN_FILE]
    return " ".join(_quoted(word) for word in ("napari-fidelity", *words))


def python_script(
    recipe: Recipe, source: str = "measurement.tif", target: str = "restored.tif", *, dtype: str = "float32"
) -> str:
    """Return the Python script that gives the image of a recipe; parameters and errors as :func:`command_line`.

    Arrays are not written out: where there are any, the script reads the recipe from :data:`RECIPE_FILE`. The
    images of a map are written to files of their names.
    """
    operator, model = _complete(recipe)
    lines = ["import napari_fidelity as nf"]
    if own_names(recipe):
        lines += ["from napari_fidelity.io import import_file", "", f'import_file("{OWN_FILE}")']
    if _has_arrays(recipe):
        lines += ["from napari_fidelity.core.step import drain", ""]
        lines += [f'recipe = nf.Recipe.read("{RECIPE_FILE}")']
        more = f", dtype={dtype!r}" if dtype != "float32" else ""
        lines += [f"result = drain(nf.run_recipe(recipe, nf.read_image({source!r}){more}))"]
    else:
        if model is not None and model.scale is not None:
            lines += ["from napari_fidelity.pipeline import ModelReference"]
        arguments = [f"nf.read_image({source!r})", *_arguments(recipe, operator, model, dtype)]
        lines += ["", "result = nf.restore(", *(f"    {argument}," for argument in arguments), ")"]
    if isinstance(recipe.method, UncertaintyMap):
        lines += ["for name, image in result.maps.items():", '    nf.write_image(image, f"{name}.tif")']
    else:
        lines += [f"nf.write_image(result.image, {target!r}, provenance=result.provenance)"]
    lines += ["print(result.stop_reason)"]
    return "\n".join(lines) + "\n"


def own_names(recipe: Recipe) -> list[str]:
    """Return the names of models and operators in a recipe that have to be registered before it is run."""
    operator, model = recipe.operator, recipe.model
    models = [*([] if model is None else [model.name]), *getattr(recipe.method, "models", ())]
    parts = operator.operators if isinstance(operator, Compose) else (operator,)
    names = [part.name for part in parts if isinstance(part, Registered)]
    return [*names, *(name for name in models if OWN_MODELS.get(name) is not None)]


def _complete(recipe: Recipe) -> tuple[Operator, ModelReference | None]:
    missing = ["image formation model"] if recipe.operator is None else []
    if recipe.model is None and recipe.method.reads_measurement and not _is_made(recipe.method):
        missing.append("network")
    if missing or recipe.operator is None:
        raise RecipeError(
            f"The recipe names no {' and no '.join(missing)}: it was made with one that only code can give",
            do="Run it from Python with that one",
        )
    return recipe.operator, recipe.model


def _is_made(method: Method) -> bool:
    """Tell whether a method looks at an image that there is already, and makes none."""
    return isinstance(method, SinglePassMap) and method.image is not None


# -- command line ------------------------------------------------------------------------------------------------


def _beyond(command: str, recipe: Recipe) -> bool:
    """Tell whether a command has no option for something that a recipe sets."""
    if command == "reconstruct":
        return recipe.model is not None and recipe.model.scale is not None
    return recipe.spatial != "YX"


def _options(recipe: Recipe, operator: Operator, model: ModelReference | None) -> Iterator[str]:
    """Yield the words of all options."""
    if _COMMANDS[type(recipe.method)] == "reconstruct":
        yield from ("--method", recipe.method.kind)
    if model is not None:
        yield from ("--model", model.name)
    if model is not None and model.scale is not None:
        yield from ("--scale", str(model.scale))
    yield from ("--operator", describe(operator))
    if recipe.noise is not None:
        yield from ("--noise", describe(recipe.noise))
    preset, changes = _method(recipe.method)
    if preset:
        yield from ("--preset", preset)
    for name, value in changes.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        elif isinstance(value, Options):
            yield from (f"--{option}", write_one(value))
        else:
            yield from (f"--{option}", value if isinstance(value, str) else number_text(value))
    if recipe.stop is not None and recipe.method.iterative:
        yield from ("--stop", describe_rule(recipe.stop))
    for name in _FORMATION:
        if getattr(recipe, name) != _default(recipe, name):
            yield from (f"--{name}", getattr(recipe, name))
    for name in ("seed", "threads"):
        if getattr(recipe, name):
            yield from (f"--{name}", str(getattr(recipe, name)))


def _file(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name  # else it would be taken for an option


def _quoted(word: str) -> str:
    if os.name != "nt":
        return shlex.quote(word)
    # neither cmd nor PowerShell takes single quotes for what they are everywhere; file names hold no double ones
    return word if re.fullmatch(r"[\w./\\:-]+", word) else f'"{word}"'


# -- Python ------------------------------------------------------------------------------------------------------


def _arguments(recipe: Recipe, operator: Operator, model: ModelReference | None, dtype: str) -> Iterator[str]:
    """Yield the arguments of ``restore`` after the image."""
    yield f"operator={_code(operator)}"
    preset, changes = _method(recipe.method)
    name, given = type(recipe.method).__name__, _keywords(changes)
    if preset:
        constructor, arguments = PRESETS[type(recipe.method)][preset]
        name = f"{name}.{constructor}"
        given = ", ".join([*map(repr, arguments), *([given] if given else [])])
    yield f"method=nf.{name}({given})"
    if model is not None and model.scale is None:
        yield f"model={model.name!r}"
    elif model is not None:
        yield f"model=ModelReference(name={model.name!r}, scale={model.scale})"
    if recipe.noise is not None:
        yield f"noise={_code(recipe.noise)}"
    if recipe.stop is not None:
        yield f"stop={_code(recipe.stop)}"
    for field in ("seed", *_FORMATION, "threads", "last_iterations"):
        value = getattr(recipe, field)
        if value != _default(recipe, field):
            yield f"{field}={value!r}"
    if dtype != "float32":
        yield f"dtype={dtype!r}"


def _code(options: Options) -> str:
    """Return the expression that makes an operator, a noise model, a stopping rule, a denoiser or a network."""
    package, name = type(options).__module__.split(".")[1], type(options).__name__
    place = "nf" if package in ("methods", "uncertainty") else f"nf.{package}"
    if isinstance(options, AnyOf) and len(options.rules) > 1:
        return " | ".join(_code(rule) for rule in options.rules)
    if isinstance(options, AnyOf | Compose):
        field = "rules" if isinstance(options, AnyOf) else "operators"
        return f"{place}.{name}({field}=[{', '.join(map(_code, getattr(options, field)))}])"
    return f"{place}.{name}({_keywords(_changes(options))})"


def _keywords(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_literal(value)}" for name, value in values.items())


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_literal, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, Options):
        return _code(value)
    return repr(value) if isinstance(value, str | bool) else number_text(value)


# -- both --------------------------------------------------------------------------------------------------------


def _method(method: Method) -> tuple[str, dict[str, Any]]:
    """Return the preset that a method is made from, if it is exactly one, and the options that differ."""
    preset = preset_of(method)
    changes = {name: value for name, value in _changes(method).items() if name not in _NO_EFFECT}
    if preset == "default":
        return "", changes
    return preset, {name: value for name, value in changes.items() if name == "iteration"}


def _changes(options: Options) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    values = {name: getattr(options, name) for name in type(options).model_fields if name != "kind"}
    return {name: value for name, value in values.items() if value != _default(options, name)}


def _default(options: Options, name: str) -> Any:
    return type(options).model_fields[name].default


def _has_arrays(options: Options) -> bool:
    values = [getattr(options, name) for name in type(options).model_fields]
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return any(isinstance(p, np.ndarray) or (isinstance(p, Options) and _has_arrays(p)) for p in parts)
