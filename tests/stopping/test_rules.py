from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.step import Step
from napari_fidelity.pipeline import Recipe
from napari_fidelity.stopping import (
    AnyOf,
    Budget,
    Discrepancy,
    HeldOut,
    LRLPIPSDrop,
    LRPSNRGain,
    LRPSNRLevel,
    Settled,
    WindowedVariance,
    describe,
    parse_stop,
)
from napari_fidelity.stopping.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.stopping import StoppingRule


def step(index: int, seconds: float = 0.0, **scores: float) -> Step:
    return Step(index, None, 1.0, scores, lambda: torch.zeros(1), seconds)


def ends(rule: StoppingRule, score: str, values: Sequence[float]) -> tuple[int, str] | None:
    """Return at which step a rule speaks, and what it says."""
    watch = rule.watch()
    for index, value in enumerate(values):
        reason = watch(step(index, **{score: value}))
        if reason:
            return index, reason
    return None


@pytest.mark.parametrize(
    ("rule", "score", "values", "at", "words"),
    [
        (LRPSNRGain(delta=0.1), "lr_psnr", [30, 31, 32, 32.05, 40], 3, "0.05 dB over the last iteration"),
        (LRPSNRGain(delta=0.1), "lr_psnr", [30, 31, 30.5, 40], 2, "rose by 0 dB"),
        (LRPSNRGain(delta=0.1, window=3), "lr_psnr", [30, 31, 30.5, 31.05, 31.08, 32], 4, "over the last 3"),
        (LRPSNRGain(delta=0.1, window=3), "lr_psnr", [30, 31, 30.5, 30.6], None, ""),
        (LRPSNRGain(delta=0), "lr_psnr", [30, 30, 30], None, ""),
        (LRPSNRGain(), "lr_psnr", [90, math.inf, math.inf], 2, "rose by 0 dB"),
        (LRLPIPSDrop(delta=0.01), "lr_lpips", [0.5, 0.4, 0.395], 2, "fell by 0.005 over the last iteration"),
        (LRPSNRLevel(level=50), "lr_psnr", [30, 49.9, 50, 51], 2, "explained to 50.0 dB"),
        (LRPSNRLevel(level=50), "lr_psnr", [30, 40], None, ""),
        (Discrepancy(tau=1.1), "discrepancy", [5, 1.2, 1.1], 2, "as small as the noise"),
        (Discrepancy(), "lr_psnr", [90, 99], None, ""),
        (Discrepancy(), "discrepancy", [math.nan, math.nan], None, ""),
        (HeldOut(patience=2), "held_out", [5, 4, 4.5, 4.2, 3], 3, "best at iteration 1"),
        (HeldOut(patience=3), "held_out", [5, 4, 4.5, 3, 2, 1, 0.5], None, ""),
        (HeldOut(patience=2), "held_out", [math.nan] * 3, 2, "not improved"),
        (WindowedVariance(patience=2), "variance", [3, 1, 2, 2, 0.5], 3, "agreed best at iteration 1"),
        (WindowedVariance(patience=2), "any", [0, 0, 0, 0], None, ""),  # the window is not full yet
        (Settled(change=0.01), "change", [0.5, 0.02, 0.01, 0.009], 3, "settled"),
        (Settled(), "lr_psnr", [1, 2], None, ""),
        (Budget(iterations=2), "any", [0, 0, 0, 0], 2, "2 iterations is used up"),
        (Budget(iterations=0), "any", [0, 0], 0, "0 iterations is used up"),
    ],
)
def test_when_it_speaks(
    rule: StoppingRule, score: str, values: Sequence[float], at: int | None, words: str
) -> None:
    said = ends(rule, score, values)
    if at is None:
        assert said is None
    else:
        assert said is not None
        assert said[0] == at
        assert words in said[1]


def test_budget_of_seconds() -> None:
    watch = Budget(seconds=1.5).watch()
    assert watch(step(0, 1.0)) is None
    assert watch(step(1, 1.5)) == "the budget of 1.5 s is used up"


def test_a_rule_has_no_memory_of_its_own() -> None:
    rule = LRPSNRGain(delta=0.1)
    first, second = rule.watch(), rule.watch()
    first(step(0, lr_psnr=30))
    assert first(step(1, lr_psnr=30)) is not None
    assert second(step(1, lr_psnr=30)) is None


def test_combination() -> None:
    rule = LRPSNRLevel(level=50) | Budget(iterations=3) | HeldOut(patience=2)
    assert [type(part) for part in rule.parts()] == [LRPSNRLevel, Budget, HeldOut]
    watch = rule.watch()
    held_out = [1.0, 2.0, 3.0]
    reasons = [watch(step(i, lr_psnr=20, held_out=value)) for i, value in enumerate(held_out)]
    assert reasons[:2] == [None, None]
    assert "best at iteration 0" in (reasons[2] or "")
    assert "3 iterations" in (watch(step(3, lr_psnr=20, held_out=0)) or "")


def test_every_part_sees_every_step() -> None:
    # The budget speaks at once; the rule behind it must still gather what it needs.
    rule = AnyOf(rules=(Budget(iterations=1), LRPSNRGain(delta=0.1)))
    watch = rule.watch()
    watch(step(0, lr_psnr=30))
    with pytest.raises(KeyError, match="lr_psnr"):
        watch(step(1))


@pytest.mark.parametrize(
    "rule",
    [*(cls() for cls in RULES if cls is not Budget), Budget(seconds=3), Settled() | Budget(iterations=4)],
    ids=lambda rule: rule.kind,
)
def test_round_trip(rule: StoppingRule) -> None:
    recipe = Recipe(stop=rule)
    again = Recipe.from_text(recipe.to_json())
    assert again.stop == rule
    assert type(again.stop) is type(rule)
    assert Recipe.from_text(recipe.to_toml(), "toml") == recipe
    json.dumps(rule.to_plain(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("held_out", HeldOut()),
        ("held_out:of=counts,patience=3", HeldOut(of="counts", patience=3)),
        ("budget:seconds=10", Budget(seconds=10)),
        ("lr_psnr:delta=1e-2,window=5", LRPSNRGain(delta=0.01, window=5)),
        ("discrepancy:tau=1.2 + budget:iterations=5", Discrepancy(tau=1.2) | Budget(iterations=5)),
    ],
)
def test_from_text(text: str, rule: StoppingRule) -> None:
    assert parse_stop(text) == rule


positive = st.floats(0, exclude_min=True, allow_infinity=False)
SINGLE: dict[type, st.SearchStrategy[Any]] = {
    LRPSNRGain: st.builds(LRPSNRGain, delta=st.floats(0, allow_infinity=False), window=st.integers(1)),
    LRLPIPSDrop: st.builds(LRLPIPSDrop, delta=st.floats(0, 1), window=st.integers(1, 99)),
    LRPSNRLevel: st.builds(LRPSNRLevel, level=positive),
    Discrepancy: st.builds(Discrepancy, tau=positive),
    HeldOut: st.builds(
        HeldOut,
        fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
        of=st.sampled_from(["pixels", "counts"]),
        patience=st.integers(1),
    ),
    WindowedVariance: st.builds(WindowedVariance, window=st.integers(2, 10_000), patience=st.integers(1)),
    Settled: st.builds(Settled, change=positive),
    Budget: st.builds(Budget, iterations=st.integers(0), seconds=st.none() | positive)
    | st.builds(Budget, seconds=positive),
}
COMBINED = st.builds(AnyOf, rules=st.lists(st.one_of(SINGLE.values()), min_size=2, max_size=4))


@pytest.mark.parametrize("cls", [*RULES, AnyOf])
def test_text_comes_back(cls: type) -> None:
    assert set(SINGLE) == set(RULES)

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(SINGLE.get(cls, st.one_of(COMBINED, st.builds(lambda a, b: AnyOf(rules=(a, b)), COMBINED, COMBINED))))
    def check(rule: StoppingRule) -> None:
        again = parse_stop(describe(rule))
        assert again == rule
        assert type(again) is cls

    check()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Settled(), "settled:change=0.002"),
        (Budget(seconds=10), "budget:seconds=10"),
        (Budget(iterations=5, seconds=1e-3), "budget:iterations=5,seconds=0.001"),
        (HeldOut() | Budget(iterations=4), "held_out:fraction=0.05,patience=10 + budget:iterations=4"),
        (AnyOf(rules=(Settled(),)), "settled:change=0.002"),
    ],
)
def test_words(rule: StoppingRule, text: str) -> None:
    assert describe(rule) == text


def test_nested_combinations_are_flattened() -> None:
    inner = AnyOf(rules=(Settled(), Discrepancy()))
    plain = {"kind": "any", "rules": [{"kind": "any", "rules": [{"kind": "settled"}]}, {"kind": "held_out"}]}
    assert AnyOf(rules=(Budget(iterations=3), inner)).rules == (Budget(iterations=3), Settled(), Discrepancy())
    assert Recipe.parse({"stop": plain}).stop == Settled() | HeldOut()
    with pytest.raises(OptionError, match="rules"):
        AnyOf(rules=({"kind": "any", "rules": 3},))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_stop("when_done"), "no stopping rule 'when_done'.*budget, discrepancy"),
        (lambda: parse_stop("budget"), "needs iterations, seconds or both"),
        (lambda: parse_stop("held_out:fraction=1"), "'fraction' = 1"),
        (lambda: Budget(), "needs iterations, seconds or both"),
        (lambda: AnyOf(rules=()), "rules"),
        (lambda: LRPSNRGain(window=0), "'window' = 0"),
        (lambda: Budget(iterations=-1), "'iterations' = -1"),
    ],
)
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()
