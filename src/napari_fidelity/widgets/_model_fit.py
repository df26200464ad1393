"""What a network will make of a layer that is not quite what it was trained for, said before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.blocks import channel_axis

if TYPE_CHECKING:
    from napari_fidelity.core.blocks import Channels
    from napari_fidelity.networks.info import ModelInfo
    from napari_fidelity.widgets._layers import Source


def remarks(info: ModelInfo, source: Source, channels: Channels) -> str:
    """Say how a network is run on a layer, where that is not as it was trained; empty where it is.

    Parameters
    ----------
    info
        What is known of the network.
    source
        The layer, and what of it is restored.
    channels
        Whether its channels are restored together or each on its own.
    """
    sizes = dict(zip(source.axes, source.shape, strict=True))
    given = sizes.get(channel_axis(source.axes, channels), 1)
    said = (_of_channels(info.n_channels, given), _of_frames(info.frames, sizes.get("T", 1)))
    return " ".join(filter(None, said))


def _of_channels(wanted: int, given: int) -> str:
    if wanted == given:
        return ""
    if wanted not in (1, 3):
        return f"It takes images of {wanted} channels, this one has {given}: choose another network."
    if wanted == 1:
        return f"It takes gray images: each of the {given} channels goes through it on its own."
    if given == 1:
        return "It takes RGB images: the gray image enters as three equal channels, the mean of its output counts."
    return f"It takes RGB images: each of the {given} channels goes through it on its own, as three equal ones."


def _of_frames(window: int, given: int) -> str:
    if window == 1 or given > 1:
        return ""
    return (
        f"It is made for video and looks at {window} frames at once: this is a still image, which is shown to it "
        f"{window} times."
    )
