"""``python -m measurements NAME``: the measurements behind the tables of the docs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from measurements import commands
from torchnle.cli.main import run
from torchnle.cli.output import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement."""
    parser = Parser(prog="python -m measurements", description=__doc__)
    commands.add(parser.add_subparsers(required=True, metavar="NAME"))
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
