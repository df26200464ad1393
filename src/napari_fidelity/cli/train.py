"""``train``: make a model for an image formation model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, out, print_json, set_up_logging
from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import IMAGE, METHOD, Running, given, table_of
from napari_fidelity.core.errors import ArchitectureError, OptionError
from napari_fidelity.core.spec import read_table
from napari_fidelity.training import Train

if TYPE_CHECKING:
    from napari_fidelity.networks.base import RestorationNetwork
    from napari_fidelity.operators import Operator

TrainTable = table_of(Train, leave_out=("kind", "seed"))


def train(
    target: Path,
    /,
    *,
    operator: Annotated[str, Parameter(group=IMAGE)] = "downsample:scale=4",
    images: Annotated[Path | None, Parameter(group=IMAGE)] = None,
    n_channels: Annotated[Literal[1, 3], Parameter(group=IMAGE)] = 3,
    start: str | None = None,
    architecture: str = "EDSR:n_feats=48,n_blocks=8",
    scale: int | None = None,
    n_feats: int | None = None,
    n_blocks: int | None = None,
    checkpoint: Path | None = None,
    licence: str | None = None,
    options: Annotated[TrainTable, Parameter(name="*", group=METHOD)] = TrainTable(),  # type: ignore[valid-type]
    running: Running = Running(),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Train a network on pairs made by an image formation model.

    Without --images it trains on the photographs of the scikit-image package and on procedural images. Ctrl-C
    keeps the model trained so far; with --checkpoint, the same command goes on later.

    Parameters
    ----------
    target
        The .safetensors file to write.
    operator
        Image formation model, such as 'gaussian_blur:sigma=1.6 + downsample:scale=2'.
    images
        Folder of clean images.
    n_channels
        1 for gray images, 3 for RGB.
    start
        Model to go on from: a bundled id or a file. Left out, a new network is trained.
    architecture
        Of the new network: DRUNet, DnCNN, EDSR, EnhanceNet, RDN, RRDN, SRResNet or VSR, which is trained on short
        clips of moving images; with settings, as in 'RDN:n_feats=32,growth=16'. Those left out are the published
        ones.
    scale
        Factor by which the network enlarges; it must be that of the operator. Left out: that of the operator, to
        which a model started from is adapted, or 1 for an architecture that does not enlarge.
    n_feats
        Feature channels of the new network, instead of those in architecture.
    n_blocks
        Residual blocks of the new network, instead of those in architecture.
    checkpoint
        File to resume from if it exists, and to write to.
    licence
        Licence of the new weights, kept in the file; left out, that of the model started from.
    overwrite
        Replace the target if it exists.
    """
    from napari_fidelity.core.device import choose_device, processor_threads
    from napari_fidelity.io import check_output, save_model
    from napari_fidelity.training import training_set, validation_images

    set_up_logging(quiet=running.silent)
    check_output(target, overwrite=overwrite)
    if target.suffix != ".safetensors":
        raise OptionError("Models are written as .safetensors", found=f"'{target.name}'")
    seed = running.seed or 0
    method = Train(**given(options), seed=seed)
    forward = read_operator(operator)
    if start is None:
        sizes = {name: size for name, size in (("n_feats", n_feats), ("n_blocks", n_blocks)) if size is not None}
        network = _new(architecture, scale, forward, {"n_channels": n_channels, **sizes}, seed)
    else:
        network = _trained(start, scale, forward)
    network = network.to(choose_device(running.device))
    data = training_set(seed, n_channels=n_channels, folder=images)
    steps = method.steps(network, data, forward, checkpoint=checkpoint, validation=validation_images(n_channels))
    with processor_threads(running.threads), display(target.name, quiet=running.silent) as show:
        reply = None
        while True:
            try:
                step = steps.send(reply) if reply else next(steps)
            except StopIteration as end:
                result = end.value
                break
            reply = show(step)
    card: dict[str, Any] = {"trained_for": operator, "train": dict(result.provenance)}
    card |= {"licence": licence} if licence is not None else {}
    info = save_model(network.cpu(), target, overwrite=overwrite, **card)
    interrupted = show.interrupt.requested
    if running.json:
        print_json(
            {"output": str(target), "interrupted": interrupted, "sha256": info.sha256, "seconds": result.seconds}
        )
    else:
        out.print(f"{target}: {result.stop_reason}, {result.seconds:.0f} s", markup=False)
    return INTERRUPTED if interrupted else OK


def _new(text: str, scale: int | None, forward: Operator, sizes: dict[str, int], seed: int) -> RestorationNetwork:
    """Return a new network, as near to interpolation as it can begin."""
    import torch

    from napari_fidelity import networks
    from napari_fidelity.pipeline.models import whole_scale

    settings = read_table(text)
    name = str(settings.pop("kind"))
    cls = networks.architecture(name)
    if not {"scale", "factors"} & settings.keys():
        asked = getattr(cls, "scale", whole_scale(forward) or 4) if scale is None else scale
        settings |= cls.settings_for(asked)
    network = networks.build(name, {**settings, **sizes})
    return network.start_as_interpolation(torch.Generator().manual_seed(seed))


def _trained(start: str, scale: int | None, forward: Operator) -> RestorationNetwork:
    """Return the network to go on from, of the scale that is asked for or that of the operator."""
    from napari_fidelity.io import load_model
    from napari_fidelity.networks import RestorationNetwork
    from napari_fidelity.pipeline.models import adapted_to

    network = load_model(start, scale=scale)
    if not isinstance(network, RestorationNetwork):
        raise ArchitectureError(
            "Training goes on from networks of the registered architectures alone",
            found=f"{network.info.architecture}, which could not be saved",
            do="Start from another model, or fine-tune this one on an image (correct)",
        )
    fitting = network if scale is not None else adapted_to(forward, network)
    return fitting.requires_grad_(True)
