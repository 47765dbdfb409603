"""The command line, one file a command; nothing else in the package prints."""

from torchnle.cli.main import main

__all__ = ["main"]
