"""Any architecture, as a measured fact: attach to models of every kind and see what works."""

from torchnle.evaluation.architectures.catalogue import Case, cases, sample
from torchnle.evaluation.architectures.examination import Examination, examine
from torchnle.evaluation.architectures.overhead import measure_overhead
from torchnle.evaluation.architectures.report import FINISHED, write_report
from torchnle.evaluation.architectures.run import sweep, try_case

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
