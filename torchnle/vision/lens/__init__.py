"""Read a layer that has no translator through the model's own upper part, or through a linear fit of it."""

from torchnle.vision.lens.base import LayerLens
from torchnle.vision.lens.fitted import FittedLens
from torchnle.vision.lens.lens import Lens
from torchnle.vision.lens.through import ThroughLenses, read_through

__all__ = ["FittedLens", "LayerLens", "Lens", "ThroughLenses", "read_through"]
