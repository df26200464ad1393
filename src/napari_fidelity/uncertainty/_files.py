"""The networks of an ensemble, each loaded once for all that a run does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch
from napari_fidelity.io.models import load_model
from napari_fidelity.networks.copies import private_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.core.trust import Trust
    from napari_fidelity.networks.foreign import LoadedNetwork


class MemberFiles:
    """Networks of bundled ids or files, held on the processor from when they are first asked for until the end.

    A run looks at them several times: for the memory it needs, before the first member runs, and once for each
    block of the image. What was looked at is what runs, even if a file changes meanwhile.

    Parameters
    ----------
    trust
        Whether code in the files may run, as for :func:`napari_fidelity.load_model`.
    """

    def __init__(self, trust: Trust = False) -> None:
        self._trust = trust
        self._held: dict[str, LoadedNetwork] = {}

    def open(self, names: Sequence[str]) -> None:
        """Load all of these now; errors as of :func:`napari_fidelity.load_model`."""
        for name in names:
            self._network(name)

    def network(
        self, name: str, *, scale: int | None = None, device: torch.device | str = "cpu"
    ) -> torch.nn.Module:
        """Return a network that nobody must change, on a device and of a scale, if not the operator tells that."""
        network = self._network(name)
        if scale is not None and not network.takes_operator and scale != network.info.scale:
            network = network.to_scale(scale)
        where = torch.device(device)
        return network if where.type == "cpu" else private_copy(network, where)

    def close(self) -> None:
        """Let go of all of them."""
        self._held.clear()

    def _network(self, name: str) -> LoadedNetwork:
        if name not in self._held:
            self._held[name] = load_model(name, trust=self._trust)
        return self._held[name]
