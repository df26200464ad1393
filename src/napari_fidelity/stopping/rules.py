"""When to stop: small objects that look at steps and answer with a reason in words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from napari_fidelity.core.options import Options, flattened
from napari_fidelity.core.spec import parse_sum, write_sum
from napari_fidelity.stopping._watchers import not_improving, plateau

if TYPE_CHECKING:
    from napari_fidelity.core.step import Step
    from napari_fidelity.stopping._watchers import Watcher


class StoppingRule(Options, ABC):
    """Decides, step by step, whether to go on.

    A rule itself is frozen; :meth:`watch` returns a function with the memory that one run needs. Rules
    combine with ``|``: whichever speaks first ends the run.
    """

    kind: str
    needs: ClassVar[frozenset[str]] = frozenset()
    """Scores that the method has to compute for this rule, beyond the usual ones."""
    best: ClassVar[str | None] = None
    """Score whose lowest value marks the image to return; ``None`` returns the last one."""

    @abstractmethod
    def watch(self) -> Watcher:
        """Return a fresh function ``step -> reason or None``."""

    def parts(self) -> tuple[StoppingRule, ...]:
        """Return the single rules this one is made of."""
        return (self,)

    def __or__(self, other: StoppingRule) -> AnyOf:
        return AnyOf(rules=self.parts() + other.parts())


class LRPSNRGain(StoppingRule):
    """Stop when the PSNR on the measurement stops rising (Lucas 2020, section III-B).

    The paper asks for a gain of 0.04 dB from one iteration to the next, which suits its slow SGD; with Adam
    the PSNR jitters, so the gain is taken over a window of iterations.
    """

    kind: Literal["lr_psnr"] = "lr_psnr"
    delta: float = Field(
        0.04, ge=0, description="Smallest gain worth going on for.", json_schema_extra={"unit": "dB"}
    )
    window: int = Field(1, ge=1, description="Number of iterations over which the gain is taken.")

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``lr_psnr``."""
        return plateau("lr_psnr", +1, self.delta, self.window, "PSNR on the measurement rose", "dB")


class LRLPIPSDrop(StoppingRule):
    """Stop when LPIPS between ``A x`` and ``y`` stops falling (Lucas 2020, section III-B, for GAN networks)."""

    kind: Literal["lr_lpips"] = "lr_lpips"
    needs: ClassVar[frozenset[str]] = frozenset({"lr_lpips"})
    delta: float = Field(3e-5, ge=0, description="Smallest drop worth going on for.")
    window: int = Field(1, ge=1, description="Number of iterations over which the drop is taken.")

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``lr_lpips``."""
        return plateau("lr_lpips", -1, self.delta, self.window, "LPIPS on the measurement fell", "")


class LRPSNRLevel(StoppingRule):
    """Stop when the measurement is explained to a given PSNR: a discrepancy rule for noise-free data."""

    kind: Literal["lr_psnr_level"] = "lr_psnr_level"
    level: float = Field(50.0, gt=0, description="PSNR of A x against y.", json_schema_extra={"unit": "dB"})

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``lr_psnr``."""

        def look(step: Step[Any]) -> str | None:
            value = step.scores["lr_psnr"]
            if value < self.level:
                return None
            return f"the measurement is explained to {value:.1f} dB, {self.level:g} dB were asked for"

        return look


class Discrepancy(StoppingRule):
    """Stop when the residual is as small as the noise (Morozov 1966): ``‖A x − y‖² ≤ τ n σ²``.

    It needs a noise model of known strength; without one it never speaks.
    """

    kind: Literal["discrepancy"] = "discrepancy"
    tau: float = Field(1.0, gt=0, description="Residual variance over noise variance at which to stop.")

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``discrepancy``."""

        def look(step: Step[Any]) -> str | None:
            value = step.scores.get("discrepancy", math.inf)
            if not value <= self.tau:
                return None
            return f"the residual is as small as the noise (ratio {value:.3g}, at most {self.tau:g} asked for)"

        return look


class HeldOut(StoppingRule):
    """Stop when measurement pixels that the fit never sees get worse; return the iteration best on them."""

    kind: Literal["held_out"] = "held_out"
    needs: ClassVar[frozenset[str]] = frozenset({"held_out"})
    best: ClassVar[str | None] = "held_out"
    fraction: float = Field(0.05, gt=0, lt=1, description="Share of the measurement that is held out.")
    of: Literal["pixels", "counts"] = Field(
        "pixels",
        description="What is held out: pixels, or photons of every pixel (where the noise model is photon noise).",
    )
    patience: int = Field(10, ge=1, description="Iterations without improvement before stopping.")

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``held_out``."""
        return not_improving("held_out", self.patience, "held-out pixels were best at iteration {}")


class WindowedVariance(StoppingRule):
    """Stop when the last outputs agree less and less: the network has begun to fit the noise (ES-WMV).

    The score ``variance`` is the mean variance of a pixel over the last ``window`` outputs. It falls while the
    network learns the image, and rises again when it learns the noise; the image at its lowest is returned.

    References
    ----------
    Wang, Li, Zhuang, Chen, Liang, Sun, "Early Stopping for Deep Image Prior", TMLR 2023, arXiv:2112.06074.
    """

    kind: Literal["windowed_variance"] = "windowed_variance"
    needs: ClassVar[frozenset[str]] = frozenset({"variance"})
    best: ClassVar[str | None] = "variance"
    window: int = Field(100, ge=2, le=10_000, description="Number of outputs whose variance is taken.")
    patience: int = Field(1000, ge=1, description="Iterations without a lower variance before stopping.")

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``variance``, which is there once the window is full."""
        return not_improving("variance", self.patience, "successive outputs agreed best at iteration {}")


class Settled(StoppingRule):
    """Stop when the estimate hardly changes any more from one iteration to the next."""

    kind: Literal["settled"] = "settled"
    change: float = Field(
        0.002,
        gt=0,
        description="Root mean square of the change, in the range [0, 1]; 0.002 is half a gray level of 255.",
    )

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the score ``change``."""

        def look(step: Step[Any]) -> str | None:
            value = step.scores.get("change", math.inf)
            if not value < self.change:
                return None
            return f"the image has settled: the last step changed it by {value:.3g}, less than {self.change:g}"

        return look


class Budget(StoppingRule):
    """Stop after a number of iterations or seconds, whichever comes first."""

    kind: Literal["budget"] = "budget"
    iterations: int | None = Field(
        None,
        ge=0,
        description="Largest number of iterations; in a stack, of each slice.",
        json_schema_extra={"none": "no limit"},
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Longest time; in a stack, of each slice.",
        json_schema_extra={"unit": "s", "none": "no limit"},
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> Budget:
        if self.iterations is None and self.seconds is None:
            raise ValueError("a budget needs iterations, seconds or both")
        return self

    def watch(self) -> Watcher:
        """Return a fresh watcher; it reads the step's index and time."""

        def look(step: Step[Any]) -> str | None:
            if self.iterations is not None and step.index >= self.iterations:
                return f"the budget of {self.iterations} iterations is used up"
            if self.seconds is not None and step.seconds >= self.seconds:
                return f"the budget of {self.seconds:g} s is used up"
            return None

        return look


class AnyOf(StoppingRule):
    """Stop as soon as one of several rules speaks; nested combinations are flattened."""

    kind: Literal["any"] = "any"
    rules: tuple[SerializeAsAny[SingleRule], ...] = Field(
        min_length=1, description="The rules, asked in this order."
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        return flattened(value, cls, "rules")

    def watch(self) -> Watcher:
        """Return a fresh watcher over all rules."""
        watchers = [rule.watch() for rule in self.rules]

        def look(step: Step[Any]) -> str | None:
            # Every rule has to see every step, so no short cut.
            reasons = [watch(step) for watch in watchers]
            return next((reason for reason in reasons if reason), None)

        return look

    def parts(self) -> tuple[StoppingRule, ...]:
        """Return the single rules."""
        return tuple(self.rules)


def parse_stop(text: str) -> StoppingRule:
    """Return the rule that a text describes: ``discrepancy:tau=1``, or several joined by ``+``.

    Raises
    ------
    OptionError
        If a kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    rules: list[StoppingRule] = parse_sum(text, RULES, "stopping rule")
    return rules[0] if len(rules) == 1 else AnyOf(rules=tuple(rules))


def describe(rule: StoppingRule) -> str:
    """Return the text that :func:`parse_stop` reads this rule from.

    Numbers are always written, words where they differ from the default. A combination of a single rule is written
    as that rule.
    """
    return write_sum(rule.parts())


RULES: tuple[type[StoppingRule], ...] = (
    LRPSNRGain,
    LRLPIPSDrop,
    LRPSNRLevel,
    Discrepancy,
    HeldOut,
    WindowedVariance,
    Settled,
    Budget,
)
SingleRule = Annotated[
    LRPSNRGain | LRLPIPSDrop | LRPSNRLevel | Discrepancy | HeldOut | WindowedVariance | Settled | Budget,
    Field(discriminator="kind"),
]
AnyRule = Annotated[
    LRPSNRGain | LRLPIPSDrop | LRPSNRLevel | Discrepancy | HeldOut | WindowedVariance | Settled | Budget | AnyOf,
    Field(discriminator="kind"),
]
AnyOf.model_rebuild()
