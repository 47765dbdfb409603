"""The command lines in the documents are ones that the real parsers take; none is run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, blocks, name_of

from measurements import commands as measurements
from torchnle.cli.main import build_parser
from torchnle.cli.output import Parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHELL = ("bash", "sh", "shell", "console")
#: Programs whose own arguments are not ours to check.
FOREIGN = {
    "cd",
    "export",
    "git",
    "pytest",
    "ruff",
    "mypy",
    "lint-imports",
    "mkdocs",
    "pre-commit",
    "tensorboard",
}


def lines_of(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


def check(words):
    """Raise an AssertionError or leave with SystemExit if a command is not one of this repository."""
    program, *rest = words
    program = Path(program).name
    if program == "torchnle":
        build_parser().parse_args(rest)
    elif program == "python" and rest[:2] == ["-m", "torchnle"]:
        build_parser().parse_args(rest[2:])
    elif program == "python" and rest[:2] == ["-m", "measurements"]:
        parser = Parser(prog="measurements")
        measurements.add(parser.add_subparsers(required=True))
        parser.parse_args(rest[2:])
    elif program == "torchrun":
        check(rest[next(i for i, word in enumerate(rest) if word == "-m") + 1 :])
    elif program == "python":
        module = rest[1].replace(".", "/") if rest[0] == "-m" else rest[0]
        known = ("pytest", "pip", "venv")
        assert module in known or (ROOT / module).is_file() or (ROOT / f"{module}.py").is_file(), words
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M), words
    elif program == "pip":
        check_extras(rest)
    else:
        assert program in FOREIGN, words


def check_extras(words):
    """Every extra in an install command exists."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"(?:torchnle|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(extras), words


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_commands_of_a_document_parse(document):
    for block in blocks(document):
        if block.language in SHELL:
            for words in lines_of(block.code):
                check(words)


@pytest.mark.parametrize(
    "line",
    ["torchnle describe", "torchnle descirbe a.jpg", "make nothing", "pip install '.[nothing]'", "rm x"],
)
def test_what_is_no_command_is_found(line, capsys):
    (words,) = lines_of(line)
    with pytest.raises((AssertionError, SystemExit)):
        check(words)
