"""How images are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_fidelity.core.errors import OptionError
from napari_fidelity.widgets._dock import narrow, rows

if TYPE_CHECKING:
    from napari_fidelity.widgets._comparison import Settings

_CHANNELS = {"all together": "rgb", "luma (Y)": "y", "gray": "gray", "each, then mean": "each"}


class ScoreOptions(QWidget):
    """The options of scores, with what suits most images as defaults."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = narrow(QComboBox())
        for words, value in _CHANNELS.items():
            self.channels.addItem(words, value)
        self.channels.setToolTip(
            "What PSNR and SSIM of RGB images are taken on; papers on super-resolution take the luma (Y of YCbCr)"
        )
        self.crop = QSpinBox()
        self.crop.setRange(0, 9999)
        self.crop.setSuffix(" px")
        self.crop.setToolTip(
            "Border left out, as it lacks neighbours to be restored from; papers leave out as many as the scale"
        )
        self.data_range = QLineEdit()
        self.data_range.setPlaceholderText("auto")
        self.data_range.setToolTip(
            "Difference between the largest and the smallest intensity there could be. Left empty: that of the "
            "reference's integer type, 1 for values between 0 and 1, or the range of its values"
        )
        self.slices = narrow(QComboBox())
        self.slices.addItem("current", False)
        self.slices.addItem("all, and mean", True)
        self.slices.setToolTip("Score the slice the viewer shows, or all of a stack; difference layers go with it")
        self.rounded = QCheckBox("round to 8 bits first")
        self.rounded.setToolTip("Round both images to 256 levels first, as most papers do")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(
            rows(channels=self.channels, border=self.crop, data_range=self.data_range, slices=self.slices)
        )
        column.addWidget(self.rounded)

    def settings(self) -> Settings:
        """Return the options.

        Raises
        ------
        OptionError
            If the data range is no positive number.
        """
        from napari_fidelity.widgets._comparison import Settings

        return Settings(
            channels=self.channels.currentData(),
            crop=self.crop.value(),
            data_range=self._range(),
            rounded=self.rounded.isChecked(),
            every_slice=bool(self.slices.currentData()),
        )

    def in_words(self) -> list[str]:
        """Return the options that are not the default, in words."""
        words = [] if self.channels.currentIndex() == 0 else [f"channels: {self.channels.currentText()}"]
        words += [f"without a border of {self.crop.value()} px"] if self.crop.value() else []
        words += ["rounded to 8 bits"] if self.rounded.isChecked() else []
        return words + (["all slices"] if self.slices.currentData() else [])

    def _range(self) -> float | None:
        text = self.data_range.text().strip().replace(",", ".")
        if not text or text == "auto":
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise OptionError("The data range must be a positive number", found=text, do="Leave it empty for auto")
        return value
