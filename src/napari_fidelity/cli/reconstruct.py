"""``reconstruct``: a measurement in, the image that explains it out, without any training data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import Parameter

from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import (
    IMAGE,
    METHOD,
    Formation,
    RunningModel,
    Writing,
    given,
    only_own,
    table_over,
)
from napari_fidelity.core.errors import OptionError
from napari_fidelity.methods import DIP, RED, ZSSR, DeepRED
from napari_fidelity.pipeline.presets import from_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.methods import AnyMethod, Method
    from napari_fidelity.operators import Noise

_METHODS: dict[str, type[Method]] = {"red": RED, "dip": DIP, "deepred": DeepRED, "zssr": ZSSR}
_STARTS = ("measurement", "classical", "red", "noise")

Table = table_over(
    list(_METHODS.values()),
    leave_out=("kind", "snapshots"),
    denoiser="One of nlm, bm3d (licence for non-commercial use), tv, wavelet, or network (see --model), with "
    "options as in nlm:h=0.6.",
    network="skip or deep_decoder, with options as in skip:width=64.",
    start=f"One of {', '.join(_STARTS)}, or an image file on the result's grid.",
)


def reconstruct(
    source: Path,
    target: Path,
    /,
    *,
    method: Literal["red", "dip", "deepred", "zssr"] = "red",
    preset: Literal[
        "default",
        "romano2017",
        "denoise",
        "super_resolution",
        "deblur",
        "shocher2018",
        "shocher2018_kernel",
        "shocher2018_real",
    ] = "default",
    model: str | None = None,
    stop: str | None = None,
    spatial: Annotated[Literal["YX", "ZYX"], Parameter(group=IMAGE)] = "YX",
    options: Annotated[Table, Parameter(name="*", group=METHOD)] = Table(),  # type: ignore[valid-type]
    formation: Formation = Formation(),
    running: RunningModel = RunningModel(),
    writing: Writing = Writing(),
) -> int:
    """Reconstruct an image from its measurement and image formation model alone.

    For example: napari-fidelity reconstruct noisy.tif clean.tif --noise gaussian:sigma=25

    Deblurring: napari-fidelity reconstruct blurred.tif sharp.tif --operator gaussian_blur:sigma=1.6 --noise
    gaussian:sigma=1.4

    Without any other image: napari-fidelity reconstruct lowres.tif highres.tif --method zssr --operator
    downsample:scale=2

    As published (DeepRED, ×4): napari-fidelity reconstruct lowres.tif highres.tif --method deepred --preset
    super_resolution --operator downsample:scale=4

    Parameters
    ----------
    source
        The measurement: TIFF (plain, ImageJ, OME), PNG or JPEG.
    target
        Where to write the reconstructed image.
    method
        The prior: red, a denoiser; dip, an untrained network (deep image prior); deepred, both; zssr, what a small
        network learns from the measurement's own reduced copies, for operators that downsample.
    preset
        Settings to start from; the others than default are published ones: romano2017 for red; denoise,
        super_resolution and deblur (Mataev 2019) for deepred; shocher2018 for zssr after bicubic downsampling,
        shocher2018_kernel with a known blur, shocher2018_real for noise of unknown level.
    model
        Id of a denoising network (see the command models) or a model file, for --denoiser network. Left
        out: the bundled one.
    stop
        Stopping rule: windowed_variance, discrepancy, held_out, settled, lr_psnr, lr_psnr_level or budget, with
        options as in budget:seconds=60, joined by + where several. Left out: the method stops by itself.
    spatial
        Slice by slice (YX), or whole volumes in 3-D (ZYX).
    """
    from napari_fidelity.cli._on_file import run_recipe_on_file
    from napari_fidelity.pipeline import ModelReference, Recipe
    from napari_fidelity.stopping import parse_stop

    recipe = Recipe(
        operator=read_operator(formation.operator or "identity"),
        noise=_noise(formation.noise) if formation.noise else None,
        method=chosen_method(method, preset, given(options)),
        stop=parse_stop(stop) if stop else None,
        model=ModelReference(name=model) if model else None,
        seed=running.seed or 0,
        spatial=spatial,
        **formation.recipe_fields(),
    )
    return run_recipe_on_file(recipe, source, target, running, writing, axes=formation.axes, alpha=formation.alpha)


def chosen_method(kind: str, preset: str, options: dict[str, Any]) -> AnyMethod:
    """Return the method of that kind with the options that were given.

    Raises
    ------
    OptionError
        If it has no such preset or option, or a value is impossible.
    FidelityError
        If the image to start from cannot be read.
    """
    from napari_fidelity.denoisers import parse_denoiser
    from napari_fidelity.networks.untrained import parse_untrained

    cls = _METHODS[kind]
    only_own(kind, options, _METHODS, "method", "reconstruct")
    readers: dict[str, Callable[[str], Any]] = {
        "denoiser": parse_denoiser,
        "network": parse_untrained,
        "start": partial(_start, kind),
    }
    read = {name: readers[name](value) if name in readers else value for name, value in options.items()}
    return from_preset(cls, preset, **read)


def _noise(text: str) -> Noise:
    """Return the noise model that a text describes.

    Raises
    ------
    OptionError
        If it is impossible, or Gaussian without a level: that would say less than nothing, as a level that is
        left out is looked for.
    """
    from napari_fidelity.operators import GaussianNoise, parse_noise

    noise = parse_noise(text)
    if isinstance(noise, GaussianNoise) and noise.sigma == 0:
        raise OptionError(
            "Gaussian noise has no level",
            found=f"--noise {text}",
            do="Leave --noise out to have it estimated, or state its level, as in gaussian:sigma=25",
        )
    return noise


def _start(kind: str, text: str) -> Any:
    """Return the word for what to start from, or the image in a file."""
    declared = get_args(_METHODS[kind].model_fields["start"].annotation)
    words = [word for part in declared if get_origin(part) is Literal for word in get_args(part)]
    if text in words:
        return text
    if text in _STARTS:
        raise OptionError(
            f"The method {kind} cannot start from {text}", do=f"Choose {', '.join(words)}, or a file"
        )
    from napari_fidelity.io import read_image

    return read_image(text).data
