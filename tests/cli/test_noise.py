"""What the command line says besides its results: --version, --quiet, --verbose, bars on terminals only."""

from __future__ import annotations

import argparse
import io
import logging
import sys
import warnings

import pytest
from tqdm import tqdm
from tqdm.auto import tqdm as auto

from torchnle.cli.main import build_parser, main, run
from torchnle.cli.noise import chosen_noise
from torchnle.version import __version__


class Terminal(io.StringIO):
    def isatty(self):
        return True


def noisy(options):
    """A command that makes every kind of noise, and a result."""
    list(tqdm(range(2), desc="ours"))
    list(auto(range(2), desc="theirs", disable=False))
    logging.getLogger("torchnle").warning("a warning")
    logging.getLogger("torchnle").info("a note")
    warnings.warn("of the future", FutureWarning, stacklevel=1)
    if options.fails:
        raise ValueError("bad input")


def output_of(monkeypatch, stream, *, fails=False, **given):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    status = run(argparse.Namespace(run=noisy, fails=fails, **given))
    return status, stream.getvalue()


def test_bars_show_on_a_terminal_only(monkeypatch):
    _, shown = output_of(monkeypatch, Terminal())
    assert "ours" in shown
    assert "theirs" in shown
    _, piped = output_of(monkeypatch, io.StringIO())
    assert piped == "a warning\n"


def test_quiet_leaves_errors(monkeypatch):
    status, shown = output_of(monkeypatch, Terminal(), quiet=True, fails=True)
    assert status == 2
    assert shown == "torchnle: bad input\n"


def test_verbose_says_notes_warnings_and_where(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"{message}\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        _, shown = output_of(monkeypatch, io.StringIO(), verbose=True, fails=True)
    assert all(part in shown for part in ("a note", "a warning", "of the future", "Traceback", "noisy"))


def test_everything_is_as_before_afterwards(monkeypatch):
    level, init = logging.getLogger("torchnle").level, tqdm.__init__
    with chosen_noise(quiet=True, verbose=False):
        assert tqdm.__init__ is not init
    with chosen_noise(verbose=True):
        pass
    assert tqdm.__init__ is init
    assert logging.getLogger("torchnle").level == level


@pytest.mark.parametrize(
    "line", ["--quiet layers m", "layers m --quiet", "train text-decoder --output x --quiet", "train --quiet"]
)
def test_quiet_may_stand_anywhere(line):
    options = build_parser().parse_args(line.split())
    assert options.quiet
    assert not options.verbose


def test_the_version_is_output_of(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"torchnle {__version__}\n"
