"""Figures out of samples.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed: one that was measured."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share:g}: from 0 to 1")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Spread:
    """The spread of `count` samples, in their unit."""

    p50: float
    p95: float
    p99: float
    worst: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        p50, p95, p99 = (percentile(values, share) for share in (0.50, 0.95, 0.99))
        return cls(p50, p95, p99, max(values), len(values))


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return each round's ratio: a pair ran side by side, so a machine that slows down hits both."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]
