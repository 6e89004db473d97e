"""``--format '{{.ID}} {{.Names}}'``: Go's text/template, as far as people use it with container engines.

Fields and keys (``.Names``, ``.A.B``, ``(index .A 0).B``), variables, ``if``, ``else if``, ``else``, ``with``, ``range`` and ``end``,
pipes, texts in double or back quotes, numbers, comments, and the functions of :mod:`ross.cli.template_functions`. ``table`` before the
template makes columns, with headings.
"""

from __future__ import annotations

import json
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, Final

from attrs import field, frozen

from ross.cli.template_functions import FUNCTIONS, show_value
from ross.errors import InvalidArgument

_ACTION: Final = re.compile(
    r"""\{\{(?P<left>-\s)?\s*(?P<action>(?:/\*.*?\*/|"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`}]|\}(?!\}))*?)\s*(?P<right>\s-)?\}\}""",
    re.DOTALL,
)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>[-+]?[0-9]+(?:\.[0-9]+)?)(?![\w.])"""
    r"""|(?P<fields>(?:\.[^\W\d]\w*)+|\.(?![\w.]))|(?P<variable>\$\w*)|(?P<name>[^\W\d]\w*)|(?P<sign>:=|[=|(),]))"""
)
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}
_WORDS: Final = {"true": True, "false": False, "nil": None}
_BRANCHES: Final = frozenset({"if", "with", "range"})
_MAX_DEPTH: Final = 50
"""How deep brackets and branches may lie in each other."""


class Labels(dict[str, Any]):
    """A map whose keys are anybody's: one that is not there is no error."""


class Fields(dict[str, Any]):
    """A thing whose fields have other names in templates than in JSON, which are good too."""

    also: ClassVar[Mapping[str, str]] = {}
    """Names in templates, and what they stand for."""
    absent: ClassVar[frozenset[str]] = frozenset()
    """Fields that may be left out, and are nothing then."""


@frozen
class _Text:
    text: str


@frozen
class _Literal:
    value: Any


@frozen
class _Function:
    name: str


@frozen
class _Path:
    """Fields of the dot, of a variable, or of what is in brackets."""

    of: str | _Pipeline
    """A variable's name; that of the dot is ``.``."""
    names: tuple[str, ...]


@frozen
class _Pipeline:
    commands: tuple[tuple[_Literal | _Function | _Path, ...], ...]
    variables: tuple[str, ...] = ()
    """What its value is given to."""
    declares: bool = False


@frozen
class _Branch:
    kind: str
    pipeline: _Pipeline
    body: list[_Node] = field(factory=list)
    otherwise: list[_Node] = field(factory=list)
    chained: bool = False
    """It is the ``else if`` of another one, and ends with it."""


_Node = _Text | _Pipeline | _Branch
_Scope = ChainMap[str, Any]


class Template:
    """A template, parsed.

    Raises:
        InvalidArgument: it is none.
    """

    def __init__(self, text: str) -> None:
        for escape, character in _ESCAPES.items():
            text = _outside_actions(text, escape, character)
        self.is_table = text.startswith("table")
        self._text = text.removeprefix("table").lstrip() if self.is_table else text
        self._nodes = _parse(self._text)

    def render(self, value: Mapping[str, Any]) -> str:
        """The text for one thing.

        Raises:
            InvalidArgument: it asks for a field that the thing does not have.
        """
        return "".join(_render(self._nodes, ChainMap({".": value, "$": value})))

    def headings(self) -> str:
        """The text with the names of fields in the place of their values, in capitals."""
        return _ACTION.sub(lambda found: found["action"].split(".")[-1].upper(), self._text)


def is_template(text: str) -> bool:
    """Whether a ``--format`` is a template, and not the name of a form."""
    return "{{" in text


def _outside_actions(text: str, escape: str, character: str) -> str:
    """A shell has no easy way to type a tab; within an action the text's own quotes say what is meant."""
    done, position = [], 0
    for found in _ACTION.finditer(text):
        done += [text[position : found.start()].replace(escape, character), found[0]]
        position = found.end()
    return "".join(done) + text[position:].replace(escape, character)


# -- parsing ------------------------------------------------------------------------------------------------------------


def _parse(text: str) -> list[_Node]:
    top: list[_Node] = []
    lists, branches = [top], list[_Branch]()
    position = 0
    for found in _ACTION.finditer(text):
        before = text[position : found.start()]
        if "{{" in before:
            break
        lists[-1].append(_Text(before.rstrip() if found["left"] else before))
        position = found.end()
        if found["right"]:
            position += len(text[position:]) - len(text[position:].lstrip())
        _parse_action(found["action"], lists, branches)
    if "{{" in text[position:]:
        raise InvalidArgument("the template has a '{{' without its '}}'")
    if branches:
        raise InvalidArgument(f"the template has a {branches[-1].kind} without its end", hint="write {{end}}")
    top.append(_Text(text[position:]))
    return top


def _parse_action(action: str, lists: list[list[_Node]], branches: list[_Branch]) -> None:
    keyword, _space, rest = action.partition(" ")
    if action.startswith("/*"):
        return
    if keyword in _BRANCHES:
        _open(_Branch(keyword, _parse_pipeline(rest)), lists, branches)
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


def _open(branch: _Branch, lists: list[list[_Node]], branches: list[_Branch]) -> None:
    if len(branches) >= _MAX_DEPTH:
        raise InvalidArgument("the template has too many things inside of each other")
    lists[-1].append(branch)
    branches.append(branch)
    lists.append(branch.body)


def _parse_else(rest: str, lists: list[list[_Node]], branches: list[_Branch]) -> None:
    _check_open(branches, "else")
    if lists[-1] is not branches[-1].body:
        raise InvalidArgument("the template has an else behind an else")
    lists[-1:] = [branches[-1].otherwise]
    keyword, _space, condition = rest.partition(" ")
    if keyword in {"if", "with"}:
        _open(_Branch(keyword, _parse_pipeline(condition), chained=True), lists, branches)
    elif rest:
        raise InvalidArgument(f"the template's 'else {rest}' is not understood")


def _check_open(branches: list[_Branch], keyword: str) -> None:
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


def _parse_pipeline(text: str) -> _Pipeline:
    tokens = _Tokens(text)
    variables, declares = _parse_declaration(tokens)
    pipeline = _parse_commands(tokens)
    if tokens.peek():
        raise InvalidArgument(f"the template's {text!r} is not understood", hint="use fields, pipes and functions")
    return _Pipeline(pipeline.commands, variables, declares)


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


def _parse_commands(tokens: _Tokens) -> _Pipeline:
    commands: list[list[Any]] = [[]]
    while tokens.peek() not in {"", ")"}:
        if tokens.kind == "sign" and tokens.peek() == "|":
            tokens.take()
            commands.append([])
        else:
            commands[-1].append(_parse_operand(tokens))
    if not all(commands):
        raise InvalidArgument(f"the template's {tokens.text!r} has nothing in it where something must be")
    return _Pipeline(tuple(tuple(command) for command in commands))


def _parse_operand(tokens: _Tokens) -> _Literal | _Function | _Path:
    kind, word = tokens.kind, tokens.take()
    if kind == "fields":
        return _Path(".", tuple(name for name in word.split(".") if name))
    if kind == "variable":
        return _Path(word, tokens.fields())
    if kind == "text":
        return _Literal(_unquoted(word))
    if kind == "number":
        return _Literal(float(word) if "." in word else int(word))
    if kind == "name" and word in _WORDS:
        return _Literal(_WORDS[word])
    if kind == "name" and word in FUNCTIONS:
        return _Function(word)
    if word == "(" and tokens.depth < _MAX_DEPTH:
        tokens.depth += 1
        inside = _parse_commands(tokens)
        if tokens.peek() != ")":
            raise InvalidArgument(f"the template's {tokens.text!r} has a bracket without its other one")
        tokens.take()
        tokens.depth -= 1
        return _Path(inside, tokens.fields())
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


# -- rendering ----------------------------------------------------------------------------------------------------------


def _render(nodes: list[_Node], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node.text
        elif isinstance(node, _Pipeline):
            value = _evaluate(node, scope)
            if not node.variables:
                yield show_value(value)
        elif node.kind == "range":
            yield from _render_range(node, scope)
        else:
            inside = scope.new_child()
            value = _evaluate(node.pipeline, inside)
            if value and node.kind == "with":
                inside["."] = value
            yield from _render(node.body if value else node.otherwise, inside)


def _render_range(node: _Branch, scope: _Scope) -> Iterator[str]:
    found = _evaluate(_Pipeline(node.pipeline.commands), scope)
    if isinstance(found, Mapping):
        items: list[tuple[Any, Any]] = sorted(found.items())
    elif found is None or isinstance(found, list | tuple):
        items = list(enumerate(found or ()))
    else:
        raise InvalidArgument(f"the template ranges over {show_value(found)!r}, which is no list and no map")
    if not items:
        yield from _render(node.otherwise, scope.new_child())
    for key, item in items:
        inside = scope.new_child({".": item})
        for name, value in zip(reversed(node.pipeline.variables), (item, key), strict=False):
            inside[name] = value
        yield from _render(node.body, inside)


def _evaluate(pipeline: _Pipeline, scope: _Scope) -> Any:
    last: list[Any] = []
    for command in pipeline.commands:
        last = [_call(command, last, scope)]
    (value,) = last
    for name in pipeline.variables:
        if pipeline.declares:
            scope[name] = value
        else:
            next((one for one in scope.maps if name in one), scope)[name] = value
    return value


def _call(command: tuple[_Literal | _Function | _Path, ...], last: list[Any], scope: _Scope) -> Any:
    head, *rest = command
    if not isinstance(head, _Function):
        if rest or last:
            raise InvalidArgument("the template gives something to what is no function")
        return _value(head, scope)
    if head.name in {"and", "or"}:  # these look no further than they must
        if not rest and not last:
            raise InvalidArgument(f"the function {head.name} of the template has no value to look at")
        value: Any = None
        for value in chain((_value(one, scope) for one in rest), last):
            if bool(value) is (head.name == "or"):
                break
        return value
    operands = [*(_value(one, scope) for one in rest), *last]
    try:
        return FUNCTIONS[head.name](*operands)
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"the function {head.name} of the template cannot do that: {error}") from None


def _value(operand: _Literal | _Function | _Path, scope: _Scope) -> Any:
    if isinstance(operand, _Literal):
        return operand.value
    if isinstance(operand, _Function):
        return _call((operand,), [], scope)
    if isinstance(operand.of, _Pipeline):
        value = _evaluate(operand.of, scope)
    elif operand.of in scope:
        value = scope[operand.of]
    else:
        raise InvalidArgument(f"the template has no variable {operand.of}")
    for name in operand.names:
        value = _look_up(value, name)
    return value


def _look_up(value: Any, name: str) -> Any:
    if isinstance(value, Fields):
        name = value.also.get(name, name)
        if name in value.absent:
            return value.get(name)
    if isinstance(value, Labels):
        return value.get(name)
    if not isinstance(value, Mapping) or name not in value:
        known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "none"
        raise InvalidArgument(f"there is no field {name!r} for the template", hint=f"the fields are {known}")
    return value[name]
