"""Stopping rules: why and when an iteration ends."""

from napari_fidelity.stopping.rules import (
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
    parse_stop,
)

__all__ = [
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
    "parse_stop",
]
