"""``train``: make a model for an image formation model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, out, print_json, set_up_logging
from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import IMAGE, METHOD, Running, given, table_of
from napari_fidelity.core.errors import ArchitectureError, OptionError
from napari_fidelity.training import Train

if TYPE_CHECKING:
    from torch import nn

TrainTable = table_of(Train, leave_out=("kind", "seed"))


def train(
    target: Path,
    /,
    *,
    operator: Annotated[str, Parameter(group=IMAGE)] = "downsample:scale=4",
    images: Annotated[Path | None, Parameter(group=IMAGE)] = None,
    n_channels: Annotated[Literal[1, 3], Parameter(group=IMAGE)] = 3,
    start: str | None = None,
    scale: int = 4,
    n_feats: int = 48,
    n_blocks: int = 8,
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
        Model to go on from: a bundled id or a file. Left out, a new EDSR is trained.
    scale
        Factor by which the new network enlarges; it must be that of the operator.
    n_feats
        Feature channels of the new network.
    n_blocks
        Residual blocks of the new network.
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
    network = _network(start, scale, n_channels, n_feats, n_blocks, seed).to(choose_device(running.device))
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
    info = save_model(network.cpu(), target, overwrite=overwrite, **card)  # type: ignore[arg-type]
    interrupted = show.interrupt.requested
    if running.json:
        print_json(
            {"output": str(target), "interrupted": interrupted, "sha256": info.sha256, "seconds": result.seconds}
        )
    else:
        out.print(f"{target}: {result.stop_reason}, {result.seconds:.0f} s", markup=False)
    return INTERRUPTED if interrupted else OK


def _network(start: str | None, scale: int, n_channels: int, n_feats: int, n_blocks: int, seed: int) -> nn.Module:
    import torch

    if start is not None:
        from napari_fidelity.io import load_model
        from napari_fidelity.networks import RestorationNetwork

        network = load_model(start)
        if not isinstance(network, RestorationNetwork):
            raise ArchitectureError(
                "Training goes on from networks of the registered architectures alone",
                found=f"{network.info.architecture}, which could not be saved",
                do="Start from another model, or fine-tune this one on an image (correct)",
            )
        return network.requires_grad_(True)
    from napari_fidelity.networks.edsr import EDSR

    network = EDSR(n_channels=n_channels, n_feats=n_feats, n_blocks=n_blocks, scale=scale)
    return network.start_as_interpolation(torch.Generator().manual_seed(seed))
