"""The page on the commands, from the functions that the command line is made of."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from kalinka_cli.reference.markdown import NOT_BY_HAND, code, fenced, table

INTRODUCTION = """\
Every command has `--help` with the same text as here, and its options complete in a shell after
`kalinka --install-completion`. What a command is asked for goes to standard output, everything else to standard error;
`--json` is for programs.

| exit code | means |
|---|---|
| 0 | fine |
| 1 | a finding: something is refused, missing or not as it should be |
| 2 | wrong usage, or a configuration with mistakes |
| 3 | a server cannot be reached |
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its whole name, its function, and the texts of its groups where it is one."""

    name: str
    call: Callable[..., Any]
    group: bool = False


def page(transcripts: Mapping[str, str]) -> str:
    """The whole page. `transcripts`: name of a command with dashes for blanks (and `.more`) → a real run."""
    from kalinka_cli.main import app

    return "\n".join(_lines(list(commands(app, "kalinka")), transcripts))


def commands(app: typer.Typer, name: str) -> Iterator[Command]:
    """Every command of an app, its groups included."""
    if app.registered_callback is not None and app.registered_callback.callback is not None:
        yield Command(name, app.registered_callback.callback, group=True)
    for command in app.registered_commands:
        if command.callback is not None and not command.hidden:
            yield Command(f"{name} {command.name or command.callback.__name__.replace('_', '-')}", command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None and not group.hidden:
            yield from commands(group.typer_instance, f"{name} {group.name}")


def _lines(every: list[Command], transcripts: Mapping[str, str]) -> Iterator[str]:
    yield from (NOT_BY_HAND.format(source="the functions in cli/kalinka_cli"), "# Commands", "", INTRODUCTION)
    for command in every:
        link = command.name.replace(" ", "-")
        text, _ = texts(command.call)
        yield f"- [`{command.name}`](#{link}): {text[0]}"
    yield ""
    for command in every:
        name = command.name.partition(" ")[2].replace(" ", "-")
        yield from _section(command, [text for stem, text in transcripts.items() if stem.partition(".")[0] == name])


def _section(command: Command, shown: Sequence[str]) -> Iterator[str]:
    text, examples = texts(command.call)
    given = [parameter(name, info) for name, info in _signature(command.call)]
    arguments = [one.usage for one in given if one.argument]
    rest = "COMMAND ..." if command.group else " ".join(arguments)
    yield from (f"## `{command.name}`", "")
    yield from fenced(" ".join(part for part in (command.name, "[OPTIONS]" if given else "", rest) if part))
    for paragraph in text:
        yield from (paragraph, "")
    yield from table(("option", "default", "what it is"), [one.row for one in given])
    if examples:
        yield from fenced("\n".join(examples))
    for transcript in shown:
        yield from ("A real run:", "")
        yield from fenced(transcript)


def texts(call: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The paragraphs of a command's help, and its examples."""
    paragraphs = [" ".join(part.split()) for part in inspect.cleandoc(call.__doc__ or "").split("\n\n")]
    mark = "Example: "
    return (
        [part for part in paragraphs if not part.startswith(mark)],
        [part.removeprefix(mark) for part in paragraphs if part.startswith(mark)],
    )


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or argument of a command."""

    names: tuple[str, ...]
    value: str
    required: bool
    default: Any
    help: str
    argument: bool

    @property
    def usage(self) -> str:
        name = f"{self.value}..." if self.names[0] == "list" else self.value
        return name if self.required else f"[{name}]"

    @property
    def row(self) -> tuple[str, str, str]:
        names = [self.value] if self.argument else list(self.names)
        value = "" if self.argument or not self.value else f" {self.value}"
        default = "" if self.default in (None, False, ()) else code(_plain(self.default))
        return ", ".join(code(f"{name}{value}") for name in names), "required" if self.required else default, self.help


def parameter(name: str, found: tuple[Any, ParameterInfo, Any]) -> Parameter:
    """A parameter of a function as the command line has it."""
    annotation, info, default = found
    kind, many = _kind(annotation)
    value = info.metavar or (kind if isinstance(info, OptionInfo) else name.upper())
    argument = isinstance(info, ArgumentInfo)
    names = ("list",) if argument and many else _names(name, info, kind)
    return Parameter(
        names=names,
        value=value,
        required=default is inspect.Parameter.empty,
        default=None if default is inspect.Parameter.empty else default,
        help=info.help or "",
        argument=argument,
    )


def _names(name: str, info: ParameterInfo, kind: str) -> tuple[str, ...]:
    # of Option("--config", "-c") in an Annotated, Typer keeps the first as the default
    given = tuple(str(one) for one in (info.default, *(info.param_decls or ())) if str(one).startswith("-"))
    usual = f"--{name.replace('_', '-')}"
    if given:
        return given
    return (usual, f"--no-{usual[2:]}") if not kind else (usual,)


def _signature(call: Callable[..., Any]) -> Iterator[tuple[str, tuple[Any, ParameterInfo, Any]]]:
    hints = typing.get_type_hints(call, include_extras=True)
    for name, one in inspect.signature(call).parameters.items():
        if hints[name] is typer.Context:
            continue
        annotation, *more = typing.get_args(hints[name])
        (info,) = (extra for extra in more if isinstance(extra, ParameterInfo))
        yield name, (annotation, info, one.default)


def _kind(annotation: Any) -> tuple[str, bool]:
    """How a value is called in the usage, empty for a switch; and whether there may be several."""
    inner = [part for part in typing.get_args(annotation) if part is not NoneType]
    if typing.get_origin(annotation) is list:
        return _kind(inner[0])[0], True
    if inner:
        return _kind(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation), False
    return {bool: "", int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(annotation, "TEXT"), False


def _plain(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value if isinstance(value, str) else json.dumps(value))
