"""Options that several commands share, and options made from a method's own declaration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import Group, Parameter
from cyclopts.validators import Number
from pydantic import BaseModel, BeforeValidator, Field, create_model

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.options import Options
from napari_fidelity.core.spec import write_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE = Group("Image and image formation", sort_key=1)
METHOD = Group("Method", sort_key=2)
RUN = Group("Running", sort_key=3)


@Parameter(name="*")
@dataclass(frozen=True)
class Formation:
    """How the measurement came about and how it is read."""

    operator: Annotated[str | None, Parameter(group=IMAGE)] = None
    """Image formation model: identity, gaussian_blur, airy_blur, uniform_blur, motion_blur, blur (any kernel),
    mask, downsample, radon (tomography), fourier (magnetic resonance) or registered (see --import), each with its
    options, as in
    'gaussian_blur:sigma=1.6 + downsample:scale=2' (the first one acts on the image first; lengths are in pixels of
    the restored image). Masks and kernels may be image files: mask:mask=seen.tif (all but 0 is seen),
    blur:kernel=psf.tif. Left out: downsampling by the model's scale; in reconstruct, identity."""
    noise: Annotated[str | None, Parameter(group=IMAGE)] = None
    """Noise model in the image's intensity units: gaussian:sigma=25, poisson:gain=2, laplace:scale=3, or for a
    camera poisson_gaussian:gain=0.5,offset=100,sigma=2. Left out: reconstruct estimates it where the measurement
    is the image itself; else it is taken as small."""
    axes: Annotated[str | None, Parameter(group=IMAGE)] = None
    """Axes of the file where it does not name them, such as ZYX."""
    scaling: Annotated[Literal["auto", "dtype", "minmax", "percentile", "none"], Parameter(group=IMAGE)] = "auto"
    """How intensities are brought to [0, 1]; undone in the result. auto: uint8 by its range, floats within [0, 1]
    as they are, anything else from its smallest to its largest value."""
    scope: Annotated[Literal["slice", "volume", "series"], Parameter(group=IMAGE)] = "series"
    """What one intensity scaling is found from."""
    channels: Annotated[Literal["auto", "joint", "each"], Parameter(group=IMAGE)] = "auto"
    """Restore channels together, or each on its own; auto: together, but each where reconstruct meets channels (C)
    with intensities of their own."""
    series: Annotated[Literal["auto", "frame", "window", "whole"], Parameter(group=IMAGE)] = "auto"
    """What a network is adapted to in a time series (T): each frame on its own, windows of frames (as many as a
    video network looks at, else 5), or the whole series once. auto: each frame; with a video network, windows.
    Every iteration passes each frame through the network once; one for video of five frames passes it five times
    frame by frame, as each takes its window along, 1.8 times in windows and once in the whole series, which needs
    the memory of all frames together. The cost is said when the run begins."""
    nonfinite: Annotated[Literal["error", "mask"], Parameter(group=IMAGE)] = "error"
    """NaN and infinity: refuse them, or take them as unobserved pixels."""
    alpha: Annotated[Literal["refuse", "drop"], Parameter(group=IMAGE)] = "refuse"
    """What to do with an alpha channel."""

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields of a recipe that are given here as they are."""
        names = ("scaling", "scope", "channels", "series", "nonfinite")
        return {name: getattr(self, name) for name in names}


@Parameter(name="*")
@dataclass(frozen=True)
class Own:
    """Networks and operators of the user's own."""

    imports: Annotated[list[Path] | None, Parameter(name="--import", group=RUN, negative="")] = None
    """Run a Python file of your own first, for the networks and operators that it registers; may be repeated."""

    def __post_init__(self) -> None:
        """Run the files while the command line is read: whatever is looked up afterwards knows their names."""
        from napari_fidelity.io import import_file

        for path in self.imports or ():
            import_file(path)


@Parameter(name="*")
@dataclass(frozen=True)
class Computing:
    """Where and how to compute."""

    seed: Annotated[int | None, Parameter(group=RUN)] = None
    """Seed of everything random: the same seed on the same device gives the same result. Left out: the recipe's,
    or 0."""
    device: Annotated[str, Parameter(group=RUN)] = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: Annotated[int | None, Parameter(group=RUN, validator=Number(gte=1))] = None
    """Processor threads, on which the rounding depends. Left out: the recipe's, or as many as torch takes."""
    json: Annotated[bool, Parameter(group=RUN, negative="")] = False
    """Print one JSON document instead of text; no progress bar."""
    quiet: Annotated[bool, Parameter(group=RUN, negative="")] = False
    """No progress bar, and only warnings in the log."""

    @property
    def silent(self) -> bool:
        """Whether nothing but the outcome is to be printed."""
        return self.json or self.quiet

    @property
    def trust(self) -> bool:
        """Whether code in a model's file may run."""
        return False


@Parameter(name="*")
@dataclass(frozen=True)
class Running(Computing, Own):
    """Where and how to run what may be the user's own."""


@Parameter(name="*")
@dataclass(frozen=True)
class RunningModel(Running):
    """Where and how to run a model that somebody names."""

    trust: Annotated[bool, Parameter(group=RUN, negative="")] = False
    """Let code in the model's file run (TorchScript, exported programs, packages): only from those you trust."""


@Parameter(name="*")
@dataclass(frozen=True)
class Replacing:
    """How results are written that have a data type of their own."""

    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False
    """Replace files that exist."""
    recipe: Annotated[Path | None, Parameter(group=RUN)] = None
    """Write the recipe that replays this run to a .json or .toml file."""

    @property
    def dtype(self) -> Literal["float32", "input", "uint8", "uint16"]:
        """Data type of the result."""
        return "float32"


@Parameter(name="*")
@dataclass(frozen=True)
class Writing(Replacing):
    """How the result is written."""

    dtype: Annotated[Literal["float32", "input", "uint8", "uint16"], Parameter(group=RUN)] = "float32"
    """Data type of the result, which keeps the source's intensity units; input is that of the source."""


def table_of(declared: type[Options], *, leave_out: tuple[str, ...] = ("kind",), **types: Any) -> type[BaseModel]:
    """Return a model of a declaration's fields for the command line: same names, defaults and help.

    The limits are left to the declaration itself, which checks the values when it is built from them.

    Parameters
    ----------
    declared
        The options class.
    leave_out
        Fields that are no options on the command line.
    types
        Other types for some fields, where the declared one cannot be typed in.
    """
    fields: dict[str, Any] = {}
    for name, info in declared.model_fields.items():
        if name in leave_out:
            continue
        default = info.get_default(call_default_factory=True)
        kind = types.get(name, _readable(info.annotation))
        fields[name] = (kind, Field(default, description=info.description))
    return create_model(f"{declared.__name__}Table", **fields)


def _readable(annotation: Any) -> Any:
    """Let a choice among numbers take the text of a command line."""
    choices = get_args(annotation)
    if get_origin(annotation) is Literal and all(isinstance(choice, int) for choice in choices):
        numbers = {str(choice): choice for choice in choices}
        return Annotated[annotation, BeforeValidator(lambda value: numbers.get(value, value))]
    return annotation


def table_over(declared: Sequence[type[Options]], *, leave_out: tuple[str, ...], **texts: Any) -> type[BaseModel]:
    """Return a model of the fields of several declarations, none of them given, for one set of options.

    The help tells which of them has a field, and what its default is there.

    Parameters
    ----------
    declared
        The options classes, each with a ``kind``.
    leave_out
        Fields that are no options on the command line.
    texts
        For fields that are written as text, what the text is.
    """
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(name for cls in declared for name in cls.model_fields):
        if name in leave_out:
            continue
        own = {
            str(cls.model_fields["kind"].default): cls.model_fields[name]
            for cls in declared
            if name in cls.model_fields
        }
        said = [str(next(iter(own.values())).description)]
        kind = _united([info.annotation for info in own.values()])
        if name in texts:
            kind = str
            said.append(texts[name])
        said.append(_defaults({of: info.get_default(call_default_factory=True) for of, info in own.items()}))
        fields[name] = (_several(kind), Field(None, description=" ".join(said)))
    return create_model("Table", **fields)


def _several(kind: Any) -> Any:
    """Return the type of an option that may be left out; one of several values takes them all at once."""
    many = get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis
    return Annotated[kind | None, Parameter(consume_multiple=True)] if many else kind | None


def _united(annotations: list[Any]) -> Any:
    """Return a type that takes what any of these take; choices among words are joined."""
    if all(get_origin(annotation) is Literal for annotation in annotations):
        return _readable(Literal[tuple(dict.fromkeys(choice for one in annotations for choice in get_args(one)))])
    return annotations[0]


def _defaults(values: dict[str, Any]) -> str:
    """Return which methods have an option, and what its default is there, in words."""
    methods: dict[str, list[str]] = {}
    for method, value in values.items():
        text = write_one(value) if isinstance(value, Options) else "" if value is None else str(value)
        methods.setdefault(text, []).append(method)
    parts = [", ".join(names) + (f": {text}" if text else "") for text, names in methods.items()]
    return f"[{'; '.join(parts)}]"


def only_own(
    kind: str, options: dict[str, Any], declared: Mapping[str, type[Options]], family: str, command: str
) -> None:
    """Refuse options that belong to others of a family.

    Parameters
    ----------
    kind
        Which one was chosen.
    options
        Those that were given.
    declared
        All of the family, by kind.
    family
        Its name on the command line: ``"method"``.
    command
        Whose help lists them.

    Raises
    ------
    OptionError
        Naming those that have the option.
    """
    for name in options:
        if name not in declared[kind].model_fields:
            others = [other for other, cls in declared.items() if name in cls.model_fields]
            raise OptionError(
                f"The {family} {kind} has no option --{name.replace('_', '-')}",
                do=f"It belongs to {' and '.join(others)} (--{family}); see napari-fidelity {command} --help",
            )


def given(table: BaseModel) -> dict[str, Any]:
    """Return the options that were given, not those at their defaults."""
    return {name: getattr(table, name) for name in table.model_fields_set}
