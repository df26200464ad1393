"""Stopping rules: why and when an iteration ends."""

from napari_fidelity.stopping.rules import (
    RULES,
    AnyOf,
    AnyRule,
    Budget,
    Discrepancy,
    HeldOut,
    LRLPIPSDrop,
    LRPSNRGain,
    LRPSNRLevel,
    Settled,
    StoppingRule,
    WindowedVariance,
    describe,
    parse_stop,
)

__all__ = [
    "RULES",
    "AnyOf",
    "AnyRule",
    "Budget",
    "Discrepancy",
    "HeldOut",
    "LRLPIPSDrop",
    "LRPSNRGain",
    "LRPSNRLevel",
    "Settled",
    "StoppingRule",
    "WindowedVariance",
    "describe",
    "parse_stop",
]
