"""Docs, *What are you looking for*: every command is there, none that is not, and settings are those of the verbs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer

from scifm import cli

PAGE = (Path(__file__).parents[1] / "docs" / "find.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(text) for text in re.findall(r"`scifm ([a-z].*?)`", PAGE)]


def test_it_names_every_command_and_no_other():
    commands = typer.main.get_command(cli.app).commands
    shown = {name for name, command in commands.items() if not command.hidden}
    assert {words[0] for words in COMMANDS} == shown


def test_options_exist():
    commands = typer.main.get_command(cli.app).commands
    for verb, *words in COMMANDS:
        options = {option for parameter in commands[verb].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, verb


def test_it_is_long_enough_to_be_of_use():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| I want")]
    assert len(rows) >= 50
    assert len(set(rows)) == len(rows)
