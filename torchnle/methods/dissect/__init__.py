"""Describe-and-Dissect: labels for the units of a layer, from a probing set of images (Bai et al., 2024)."""

from torchnle.methods.dissect.labels import Dissection, UnitLabel
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.report.pages import write_report
from torchnle.methods.dissect.run import DissectSettings, dissect

__all__ = ["DissectSettings", "Dissection", "ProbeSettings", "UnitLabel", "dissect", "write_report"]
