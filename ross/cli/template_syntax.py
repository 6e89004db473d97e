"""The grammar of :mod:`ross.cli.template`: a template's text to the tree that is rendered."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from attrs import field, frozen

from ross.cli.template_functions import FUNCTIONS
from ross.errors import InvalidArgument

ACTION: Final = re.compile(
    r"""\{\{(?P<left>-\s)?\s*(?P<action>(?:/\*.*?\*/|"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`}]|\}(?!\}))*?)\s*(?P<right>\s-)?\}\}""",
    re.DOTALL,
)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>[-+]?[0-9]+(?:\.[0-9]+)?)(?![\w.])"""
    r"""|(?P<fields>(?:\.[^\W\d]\w*)+|\.(?![\w.]))|(?P<variable>\$\w*)|(?P<name>[^\W\d]\w*)|(?P<sign>:=|[=|(),]))"""
)
_WORDS: Final = {"true": True, "false": False, "nil": None}
_BRANCHES: Final = frozenset({"if", "with", "range"})
_MAX_DEPTH: Final = 50
"""How deep brackets and branches may lie in each other."""


@frozen
class Text:
    """What stands outside of actions."""

    text: str


@frozen
class Literal:
    """A text, a number or a word that stands for itself."""

    value: Any


@frozen
class Function:
    """One of :data:`~ross.cli.template_functions.FUNCTIONS`."""

    name: str


@frozen
class Path:
    """Fields of the dot, of a variable, or of what is in brackets."""

    of: str | Pipeline
    """A variable's name; that of the dot is ``.``."""
    names: tuple[str, ...]


@frozen
class Pipeline:
    """Commands, each of which is given what the one before it made."""

    commands: tuple[tuple[Literal | Function | Path, ...], ...]
    variables: tuple[str, ...] = ()
    """What its value is given to."""
    declares: bool = False


@frozen
class Branch:
    """``if``, ``with`` or ``range``, to its ``end``."""

    kind: str
    pipeline: Pipeline
    body: list[Node] = field(factory=list)
    otherwise: list[Node] = field(factory=list)
    chained: bool = False
    """It is the ``else if`` of another one, and ends with it."""


Node = Text | Pipeline | Branch


def parse(text: str) -> list[Node]:
    """The tree of a template.

    Raises:
        InvalidArgument: it is none.
    """
    top: list[Node] = []
    lists, branches = [top], list[Branch]()
    position = 0
    for found in ACTION.finditer(text):
        before = text[position : found.start()]
        if "{{" in before:
            break
        lists[-1].append(Text(before.rstrip() if found["left"] else before))
        position = found.end()
        if found["right"]:
            position += len(text[position:]) - len(text[position:].lstrip())
        _parse_action(found["action"], lists, branches)
    if "{{" in text[position:]:
        raise InvalidArgument("the template has a '{{' without its '}}'")
    if branches:
        raise InvalidArgument(f"the template has a {branches[-1].kind} without its end", hint="write {{end}}")
    top.append(Text(text[position:]))
    return top


def _parse_action(action: str, lists: list[list[Node]], branches: list[Branch]) -> None:
    keyword, _space, rest = action.partition(" ")
    if action.startswith("/*"):
        return
    if keyword in _BRANCHES:
        _open(Branch(keyword, _parse_pipeline(rest)), lists, branches)
    elif keyword == "else":
        _parse_else(rest.strip(), lists, branches)
    elif action == "end":
        _check_open(branches, "end")
        while True:
            lists.pop()
            if not branches.pop().chained:
                break
    else:
        lists[-1].append(_parse_pipeline(action))


def _open(branch: Branch, lists: list[list[Node]], branches: list[Branch]) -> None:
    if len(branches) >= _MAX_DEPTH:
        raise InvalidArgument("the template has too many things inside of each other")
    lists[-1].append(branch)
    branches.append(branch)
    lists.append(branch.body)


def _parse_else(rest: str, lists: list[list[Node]], branches: list[Branch]) -> None:
    _check_open(branches, "else")
    if lists[-1] is not branches[-1].body:
        raise InvalidArgument("the template has an else behind an else")
    lists[-1:] = [branches[-1].otherwise]
    keyword, _space, condition = rest.partition(" ")
    if keyword in {"if", "with"}:
        _open(Branch(keyword, _parse_pipeline(condition), chained=True), lists, branches)
    elif rest:
        raise InvalidArgument(f"the template's 'else {rest}' is not understood")


def _check_open(branches: list[Branch], keyword: str) -> None:
    if not branches:
        raise InvalidArgument(f"the template has an {keyword} that nothing begins")


class _Tokens:
    """The words of an action, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._left: list[tuple[str, str, bool]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise InvalidArgument(
                    f"the template's {text!r} is not understood", hint="use fields, pipes and functions"
                )
            spaced = found.start(found.lastgroup) > position or position == 0
            self._left.append((found.lastgroup, found[found.lastgroup], spaced))
            position = found.end()
        self._left.reverse()
        self.depth = 0

    def peek(self, ahead: int = 0) -> str:
        """A word to come; empty behind the last one."""
        return self._left[-1 - ahead][1] if ahead < len(self._left) else ""

    @property
    def kind(self) -> str:
        return self._left[-1][0] if self._left else ""

    def take(self) -> str:
        return self._left.pop()[1]

    def fields(self) -> tuple[str, ...]:
        """The fields that follow without a space."""
        if not self._left or self._left[-1][0] != "fields" or self._left[-1][2]:
            return ()
        return tuple(name for name in self.take().split(".") if name)


def _parse_pipeline(text: str) -> Pipeline:
    tokens = _Tokens(text)
    variables, declares = _parse_declaration(tokens)
    pipeline = _parse_commands(tokens)
    if tokens.peek():
        raise InvalidArgument(f"the template's {text!r} is not understood", hint="use fields, pipes and functions")
    return Pipeline(pipeline.commands, variables, declares)


def _parse_declaration(tokens: _Tokens) -> tuple[tuple[str, ...], bool]:
    if tokens.kind != "variable":
        return (), False
    if tokens.peek(1) in {":=", "="}:
        name = tokens.take()
        return (name,), tokens.take() == ":="
    if tokens.peek(1) == "," and tokens.peek(3) == ":=":
        first, _comma, second, _sign = (tokens.take() for _word in range(4))
        return (first, second), True
    return (), False


def _parse_commands(tokens: _Tokens) -> Pipeline:
    commands: list[list[Any]] = [[]]
    while tokens.peek() not in {"", ")"}:
        if tokens.kind == "sign" and tokens.peek() == "|":
            tokens.take()
            commands.append([])
        else:
            commands[-1].append(_parse_operand(tokens))
    if not all(commands):
        raise InvalidArgument(f"the template's {tokens.text!r} has nothing in it where something must be")
    return Pipeline(tuple(tuple(command) for command in commands))


def _parse_operand(tokens: _Tokens) -> Literal | Function | Path:
    kind, word = tokens.kind, tokens.take()
    if kind == "fields":
        return Path(".", tuple(name for name in word.split(".") if name))
    if kind == "variable":
        return Path(word, tokens.fields())
    if kind == "text":
        return Literal(_unquoted(word))
    if kind == "number":
        return Literal(float(word) if "." in word else int(word))
    if kind == "name" and word in _WORDS:
        return Literal(_WORDS[word])
    if kind == "name" and word in FUNCTIONS:
        return Function(word)
    if word == "(" and tokens.depth < _MAX_DEPTH:
        tokens.depth += 1
        inside = _parse_commands(tokens)
        if tokens.peek() != ")":
            raise InvalidArgument(f"the template's {tokens.text!r} has a bracket without its other one")
        tokens.take()
        tokens.depth -= 1
        return Path(inside, tokens.fields())
    raise InvalidArgument(
        f"the template's {word!r} is no field and no function", hint=f"functions: {', '.join(FUNCTIONS)}"
    )


def _unquoted(word: str) -> str:
    if word[0] == "`":
        return word[1:-1]
    try:
        return str(json.loads(word))
    except ValueError:
        raise InvalidArgument(f"the template's {word} is no text") from None
