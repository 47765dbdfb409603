"""Misspelt options get the usage of their command, and what may be meant."""

from __future__ import annotations

import pytest

from torchnle.cli.main import main


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "command", "meant"),
    [
        ("describe a.png --chekpoint own.pt", "describe", "--checkpoint"),
        ("dissect m --layer x --probe y --chekpoint=z", "dissect", "--checkpoint"),
        ("evaluate scenes --modle x", "evaluate scenes", "--model"),
        ("saliency a.png --txt cat", "saliency", "--text"),
        ("--quit layers m", "", "--quiet"),
    ],
)
def test_the_usage_of_the_command_and_a_suggestion(capsys, line, command, meant):
    message = refused(capsys, *line.split())
    assert message.startswith(f"usage: torchnle {command}")
    assert message.rstrip().endswith(f"Did you mean {meant}?")


def test_an_option_like_no_other_has_no_suggestion(capsys):
    message = refused(capsys, "layers", "m", "--zzzz")
    assert message.startswith("usage: torchnle layers")
    assert "unrecognized arguments: --zzzz" in message
    assert "Did you mean" not in message


def test_class_names_on_the_command_line_are_sent_into_a_file(capsys):
    message = refused(capsys, "audit", "FOLDER", "--class-names", "square", "star")
    assert message.startswith("usage: torchnle audit")
    assert "--class-names takes one FILE" in message
