"""Networks from bioimage.io packages, opened without the internet, for those who trust them."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_fidelity.core.errors import (
    ArchitectureError,
    FidelityError,
    MissingDependencyError,
    ModelFileError,
)
from napari_fidelity.core.foreign_code import no_exit
from napari_fidelity.io._bioimageio_package import read_package
from napari_fidelity.io._bioimageio_steps import read_steps
from napari_fidelity.io._bioimageio_tensors import read_sizes, read_tensor
from napari_fidelity.io._formats import demand_trust
from napari_fidelity.io._programs import trusted_torchscript
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.packaged import InAxes, Sized
from napari_fidelity.networks.probe import examined
from napari_fidelity.networks.processing import LinearStep, Processed, Scale

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.io._bioimageio_package import Package
    from napari_fidelity.io._bioimageio_tensors import Tensor
    from napari_fidelity.networks.processing import ProcessingStep

log = logging.getLogger(__name__)

_HASH = re.compile(r"_[0-9a-f]{64}\b")  # that the library puts behind the name of a package's file
_IMPLAUSIBLE = 20  # standard deviations that fixed statistics make of intensities in [0, 1]


def load_package(path: Path, content: bytes, trust: Trust) -> ForeignNetwork:
    """Load the network of a ``.zip`` package, or of the folder in which ``path`` is the ``rdf.yaml``.

    Raises
    ------
    MissingDependencyError
        If the library, or one that the network needs, is missing.
    ModelFileError
        If the package is damaged, or parts of it lie elsewhere.
    ArchitectureError
        If it holds no network for 2-D images in a format that torch runs.
    UntrustedModelError
        Without ``trust``; nothing of it was executed.
    """
    with read_package(path, content) as package:
        plan = _Plan(package)
        demand_trust(path, package.content, trust, what="a bioimage.io package", runs=package.runs)
        with torch.random.fork_rng(devices=[]):
            module = _module(package, path.name)
    info = replace(_info(package, plan.taken, module), sha256=hashlib.sha256(package.content).hexdigest())
    if not info.id and path.suffix == ".yaml":
        info = replace(info, id=path.absolute().parent.name)
    return plan.network(module, info)


def _module(package: Package, name: str) -> nn.Module:
    """Return the module; from here on, code of the package runs."""
    weights = package.weights
    if package.kind == "torchscript":
        return trusted_torchscript(weights.get_reader().read(), name).eval()
    from bioimageio.core.backends.pytorch_backend import load_torch_model

    what = f"The network in '{name}'"
    try:
        with _whole_imports(), no_exit(ModelFileError, what):
            return load_torch_model(weights, devices=["cpu"]).eval()
    except FidelityError:
        raise
    except Exception as error:  # somebody else's code: it raises whatever it likes
        # whatever the file of the network raises, the library calls a failed import
        cause = (error.__cause__ or error) if isinstance(error, ImportError) else error
        found = f"{type(cause).__name__}: {_HASH.sub('', str(cause))[:300]}"
        if isinstance(cause, ImportError):
            raise MissingDependencyError(f"{what} cannot be imported", found=found) from error
        do = "Mend its code, or get the package again from whoever made it" if cause is not error else ""
        raise ModelFileError(f"{what} cannot be made", found=found, do=do) from error


@contextmanager
def _whole_imports() -> Iterator[None]:
    """Forget a package's file that did not run to its end: the library does so after ordinary errors alone."""
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in sys.modules.keys() - before:
            if _HASH.search(name):
                del sys.modules[name]
        raise


class _Plan:
    """How to make a restoration network of a package's module, from its description alone."""

    def __init__(self, package: Package) -> None:
        inputs = [tensor for tensor in package.inputs if not getattr(tensor, "optional", False)]
        if len(inputs) != 1:
            raise ArchitectureError(
                "This package needs more than one image", found=f"{len(inputs)} inputs", do="Use another package"
            )
        taken, made = inputs[0], package.outputs[0]
        self.taken, self.made = read_tensor(taken), read_tensor(made)
        self.sizes = read_sizes(taken, made)
        self.before = read_steps(taken.preprocessing, taken, [self.taken.name])
        self.after = read_steps(made.postprocessing, made, [self.taken.name])
        given, got = self.taken.channels, self.made.channels or self.taken.channels
        if given != got:
            raise ArchitectureError(
                "This package does not restore an image: its output has other channels than its input",
                found=f"{given} in, {got} out",
            )
        if self.taken.ends is None:
            _warn_of_raw(self.before)

    @property
    def undo(self) -> bool:
        """Whether the output still has to be brought back to the intensities of the input.

        Not where nothing is done to it after the network, and yet its declared range is that of the input: then
        the network itself does so.
        """
        own = any(isinstance(step, LinearStep) for step in self.after)
        return own or self.taken.ends is None or self.taken.ends != self.made.ends

    def network(self, module: nn.Module, info: ModelInfo) -> ForeignNetwork:
        """Return the network."""
        sizes = self.sizes
        inner = Sized(
            InAxes(module, self.taken.axes, self.made.axes, one_by_one=self.taken.one_by_one),
            scale=sizes.scale,
            n_channels=self.taken.channels,
            info=info,
            least=sizes.least,
            step=sizes.step,
            square=sizes.square,
            cropped=sizes.cropped,
            halo=sizes.halo,
        )
        processed = Processed(inner, self.before, self.after, undo=self.undo)
        # statistics are those of the image, so it is padded behind them, inside
        info = replace(info, scale=sizes.scale)
        network = examined(ForeignNetwork(processed, scale=sizes.scale, n_channels=self.taken.channels, info=info))
        network.info = replace(network.info, size_multiple=max(sizes.step), smallest=max(sizes.least))
        return network


def _warn_of_raw(steps: Sequence[ProcessingStep]) -> None:
    """Say so where a package wants intensities as they were recorded, but does not tell their range."""
    first = next((step for step in steps if isinstance(step, LinearStep)), None)
    if not isinstance(first, Scale):
        return
    reach = max(float((first.offset + end * first.gain).abs().max()) for end in (0, 1))
    if reach > _IMPLAUSIBLE:
        log.warning(
            "this package has fixed statistics of recorded intensities and does not say in which range these lie: "
            "set the scaling of the recipe to 'none' to give it the image as recorded"
        )


def _info(package: Package, taken: Tensor, module: nn.Module) -> ModelInfo:
    about = package.about
    authors = ", ".join(str(author.get("name", "")) for author in _listed(about, "authors"))
    cited = "; ".join(
        " ".join(str(entry[key]) for key in ("text", "doi", "url") if entry.get(key))
        for entry in _listed(about, "cite")
    )
    card = {name: str(about[name]) for name in ("name", "version", "format_version") if about.get(name)}
    return ModelInfo(
        str(about.get("id") or ""),
        package.architecture or "TorchScript",
        scale=1,
        n_channels=taken.channels,
        n_parameters=sum(p.numel() for p in module.parameters()),
        value_range=taken.ends or (0.0, 1.0),
        licence=str(about.get("license") or ""),
        trained_for=str(about.get("description") or about.get("name") or ""),
        source=". ".join(part for part in (authors, cited) if part),
        format="bioimageio",
        card=card | {"weights": package.kind},
    )


def _listed(about: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = about.get(name)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
