"""Lower layers read through the model's own upper part: scenes, photographs, cost."""

from measurements.lens.costs import measure_costs
from measurements.lens.photographs import measure_photographs, squeezed
from measurements.lens.report import page
from measurements.lens.scenes import measure_scenes
from measurements.lens.subject import LAYERS, Subject

__all__ = ["LAYERS", "Subject", "measure_costs", "measure_photographs", "measure_scenes", "page", "squeezed"]
