"""Measurements: functions from what was predicted and what is true to numbers, one definition each."""

from torchnle.metrics.localization import (
    best_iou,
    box_masks,
    chance_level,
    energy_inside,
    mean_over_classes,
    pointing_hits,
)

__all__ = [
    "best_iou",
    "box_masks",
    "chance_level",
    "energy_inside",
    "mean_over_classes",
    "pointing_hits",
]
