"""Measure on which architectures torchnle works: attach to models of every kind."""

from measurements.architectures.catalogue import Case, cases, sample
from measurements.architectures.examination import Examination, examine
from measurements.architectures.overhead import measure_overhead
from measurements.architectures.report import FINISHED, write_report
from measurements.architectures.run import sweep, try_case

__all__ = [
    "FINISHED",
    "Case",
    "Examination",
    "cases",
    "examine",
    "measure_overhead",
    "sample",
    "sweep",
    "try_case",
    "write_report",
]
