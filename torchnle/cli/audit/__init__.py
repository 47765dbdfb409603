"""``torchnle audit FOLDER``: its options and results, and its HTML report."""

from torchnle.cli.audit.command import add

__all__ = ["add"]
