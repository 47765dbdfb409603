"""Any architecture, as a measured fact: attach to models of every kind and see what works."""

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
