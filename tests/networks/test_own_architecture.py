"""Network classes of the user's own: written, loaded and detected like those of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from torch import nn

import napari_fidelity as nf
from napari_fidelity.core.errors import ArchitectureError, OptionError
from napari_fidelity.networks import RestorationNetwork, architecture, detect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_registered")


class Shift(RestorationNetwork):
    """One convolution."""

    architecture: ClassVar[str] = "Shift"
    scale = 1

    def __init__(self, n_channels: int = 1) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.shift = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def config(self) -> dict[str, Any]:
        return {"n_channels": self.n_channels}

    @classmethod
    def detect(cls, state_dict: Mapping[str, torch.Tensor]) -> bool:
        return "shift.weight" in state_dict

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"n_channels": len(state_dict["shift.weight"])}

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        self.check_input(y)
        x: torch.Tensor = self.shift(y)
        return x


def test_files_of_it_are_written_and_loaded(tmp_path: Path) -> None:
    assert nf.register_architecture(Shift) is Shift
    assert architecture("Shift") is Shift
    network = Shift(n_channels=2)
    nf.save_model(network, tmp_path / "own.safetensors", licence="MIT")
    loaded = nf.load_model(tmp_path / "own.safetensors")
    assert type(loaded) is Shift
    assert (loaded.info.architecture, loaded.n_channels, loaded.info.licence) == ("Shift", 2, "MIT")
    y = torch.rand(1, 2, 5, 6)
    torch.testing.assert_close(loaded(y), network(y))


def test_weights_alone_are_detected(tmp_path: Path) -> None:
    torch.save(Shift(n_channels=3).state_dict(), tmp_path / "own.pth")
    with pytest.raises(ArchitectureError, match=r"none of the known.*nf.register_architecture"):
        nf.load_model(tmp_path / "own.pth")
    nf.register_architecture(Shift)
    assert nf.load_model(tmp_path / "own.pth").n_channels == 3
    edsr = nf.load_model("edsr-s-x2")
    assert detect(edsr.state_dict())[0] is type(edsr)


def test_without_its_class_a_file_says_what_to_do(tmp_path: Path) -> None:
    nf.save_model(Shift(), tmp_path / "own.safetensors")
    with pytest.raises(ArchitectureError, match=r"no architecture 'Shift'.*nf.register_architecture"):
        nf.load_model(tmp_path / "own.safetensors")


def test_what_is_no_architecture() -> None:
    class Partial(RestorationNetwork):
        architecture = "Partial"

    class Misnamed(Shift):
        pass

    class EDSR(Shift):
        architecture = "EDSR"

    not_one: Any = nn.Conv2d
    for wrong, match in (
        (not_one, "An architecture is a subclass of RestorationNetwork"),
        (Shift(), "An architecture is a subclass"),
        (Partial, "Partial leaves out.*no config, no detect, no infer_config"),
        (Misnamed, "attribute architecture what it is: \"Misnamed\".*'Shift'"),
    ):
        with pytest.raises(ArchitectureError, match=match):
            nf.register_architecture(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="'EDSR' is the name of another architecture"):
        nf.register_architecture(EDSR)
