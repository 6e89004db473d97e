"""Templates, as people have them in their scripts for other engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from ross.cli.template import Template, is_template
from ross.cli.template_values import NO_LIST, Fields, Labels
from ross.errors import InvalidArgument

THING = {
    "ID": "5ab9",
    "Names": "web",
    "Labels": {"a": "1", "b.c": "2"},
    "State": {"Running": True, "Pid": 7},
    "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
    "Empty": [],
    "Nothing": None,
    "Words": ["a", "b"],
    "Ports": {"81/udp": [{"HostPort": "8181"}], "80/tcp": [{"HostPort": "8080"}]},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.ID}}", "5ab9"),
        ("{{ .ID }}: {{.Names}}", "5ab9: web"),
        (r"{{.ID}}\t{{.Names}}", "5ab9\tweb"),
        ("{{.State.Pid}} {{.State.Running}}", "7 true"),
        ("{{json .State}}", '{"Running":true,"Pid":7}'),
        ("{{json .}}", None),
        ('{{index .Labels "b.c"}}', "2"),
        ('{{index .Labels "none"}}', ""),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/x;/y;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}some{{end}}", ""),
        ("{{.Names | upper}}", "WEB"),
        ('{{split .Names "e" | json}}', '["w","b"]'),
        ("{{len .Mounts}}", "2"),
        ("a {{- .ID -}} b", "a5ab9b"),
        ("{{.Labels}}", "map[a:1 b.c:2]"),
        ("{{.Nothing}}", "<no value>"),
        ("{{println .ID .Names}}", "5ab9 web\n"),
        ("{{(.ID)}}", "5ab9"),
        ("{{(index .Mounts 1).Source}}", "/y"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        (
            "{{range $port, $to := .Ports}}{{$port}} -> {{(index $to 0).HostPort}} {{end}}",
            "80/tcp -> 8080 81/udp -> 8181 ",
        ),
        ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Source}}{{end}}", "/x, /y"),
        ("{{range $m := .Mounts}}{{$m.Source}}{{end}}", "/x/y"),
        ("{{range .Mounts}}{{$.ID}}{{.Source}} {{end}}", "5ab9/x 5ab9/y "),
        ("{{$x := .State}}{{$x.Pid}}", "7"),
        ('{{$x := "a"}}{{range .Mounts}}{{$x = .Source}}{{end}}{{$x}}', "/y"),
        ('{{$x := "a"}}{{range .Mounts}}{{$x := .Source}}{{end}}{{$x}}', "a"),
        ("{{with .State}}{{.Pid}}{{else}}none{{end}}", "7"),
        ("{{with .Nothing}}{{.Pid}}{{else}}none{{end}}", "none"),
        ('{{if eq .ID "x"}}x{{else if eq .Names "web"}}web{{else}}other{{end}}!', "web!"),
        ('{{if eq .ID "x"}}x{{else if eq .Names "y"}}web{{else}}other{{end}}!', "other!"),
        ("{{if and .State.Running (gt .State.Pid 5)}}yes{{end}}", "yes"),
        ("{{if or .Empty .Nothing}}yes{{else}}no{{end}}", "no"),
        ("{{and .Empty (index .Mounts 9)}}", "[]"),
        ("{{if not .Empty}}none{{end}}", "none"),
        ('{{eq .ID "a" "5ab9"}} {{ne .ID "a"}} {{le 1 1}} {{lt 2 1}}', "true true true false"),
        ('{{printf "%s:%d %q %5d|%-4s|%%" .ID .State.Pid .Names 3 "x"}}', '5ab9:7 "web"     3|x   |%'),
        ('{{printf "%v" .State.Running}}', "true"),
        ('{{print .ID 1 2 "x"}}', "5ab91 2x"),
        ("{{slice .ID 1 3}} {{truncate .ID 2}} {{pad .ID 1 1}}|", "ab 5a  5ab9 |"),
        ('{{join .Words ","}} {{index .Words 1}}', "a,b b"),
        ("a{{/* nothing */}}b", "ab"),
        ('{{"{{"}} {{`a"}}`}}', '{{ a"}}'),
        ('{{"a\\tb"}}', "a\tb"),
        (".{{.ID -}}  \n x {{- .Names}}", ".5ab9x" + "web"),
        ("{{if true}}{{nil}}{{end}}", "<no value>"),
        ("{{1.5}} {{-3}}", "1.5 -3"),
    ],
)
def test_renders(template: str, expected: str | None) -> None:
    rendered = Template(template).render(THING)
    assert rendered == expected if expected is not None else rendered.startswith('{"ID"')


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{.None}}", "no field 'None'"),
        ("{{.ID.More}}", "no field 'More'"),
        ("{{.ID", "without its"),
        ("{{if .ID}}x", "without its end"),
        ("{{end}}", "nothing begins"),
        ("{{frobnicate .ID}}", "no function"),
        ("{{.ID | }}", "nothing in it"),
        ("{{}}", "nothing in it"),
        ("{{.ID .Names}}", "no function"),
        ("{{len .State.Pid}}", "cannot do that"),
        ("{{(.ID}}", "without its other one"),
        ("{{.ID)}}", "not understood"),
        ("{{$none}}", "no variable"),
        ("{{range .ID}}{{end}}", "no list"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", "behind an else"),
        ("{{else}}", "nothing begins"),
        ("{{if .ID}}{{else for}}{{end}}", "not understood"),
        ("{{index .Mounts 9}}", "cannot do that"),
        ("{{index .Nothing 0}}", "cannot do that"),
        ('{{printf "%z" .ID}}', "cannot do that"),
        ('{{printf "%999999999d" 1}}', "cannot do that"),
        ('{{printf "%d" .ID}}', "cannot do that"),
        ("{{and}}", "cannot do that|no value"),
        ("{{?}}", "not understood"),
        ("{{" + "(" * 60 + ".ID" + ")" * 60 + "}}", "no function"),
        ("{{if .ID}}" * 60 + "{{end}}" * 60, "inside of each other"),
    ],
)
def test_bad_templates_are_told(template: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        Template(template).render(THING)


class Thing(Fields):
    """Something with all that fields can have."""

    absent: ClassVar[Mapping[str, Any]] = {"Entrypoint": NO_LIST, "User": "", "Health": None}
    methods: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "Label": lambda thing, name: thing["Labels"].get(name, ""),
        "Both": lambda thing, first, second: f"{first}{thing['ID']}{second}",
    }


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Labels}}", "map[a:2 b.c:1 z:3]"),
        ("{{json .Labels}}", '{"a":"2","b.c":"1","z":"3"}'),
        ("{{.Labels.none}}", "<no value>"),
        ("{{.Entrypoint}} {{len .Entrypoint}} {{json .Entrypoint}}", "[] 0 null"),
        ("{{range .Entrypoint}}{{.}}{{else}}none{{end}}", "none"),
        ("{{.Cmd}}", "[]"),
        ("[{{.User}}] {{.Health}}", "[] <no value>"),
        ('{{.Label "b.c"}}', "1"),
        ('{{.Label "none"}}', ""),
        ('{{"a" | .Label}} {{$.Label "z"}}', "2 3"),
        ('{{if eq (.Label "a") "2"}}yes{{end}}', "yes"),
        ('{{.Both "<" ">" | upper}}', "<7>"),
        ('{{with .Inside}}{{.Label "a"}}{{end}}', "in"),
    ],
)
def test_fields(template: str, expected: str) -> None:
    """As of Docker's things: maps are sorted, lists that there are not are empty, and some fields are given something."""
    inside = Thing({"ID": "8", "Labels": Labels({"a": "in"})})
    labels = Labels({"z": "3", "b.c": "1", "a": "2"})
    thing = Thing({"ID": "7", "Labels": labels, "Entrypoint": None, "Cmd": NO_LIST, "Inside": inside})
    assert Template(template).render(thing) == expected


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{.Label}}", "no field 'Label'"),
        ('{{.Label "a" "b"}}', "Label of the template cannot do that"),
        ('{{.ID "a"}}', "gives something to what is no function"),
        ("{{.None}}", "no field 'None'"),
    ],
)
def test_fields_that_are_not_so(template: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        Template(template).render(Thing({"ID": "7", "Labels": Labels()}))


@pytest.mark.parametrize(
    ("template", "headings"),
    [
        (r"table {{.ID}}\t{{.Names}}", "CONTAINER ID\tNAMES"),
        (r"table {{.RunningFor}}\t{{.State.Status}}", "CREATED\tSTATUS"),
        (r'table {{.Label "com.example.the-tier_of"}}\t{{upper .ID}}', "the tier of\tCONTAINER ID"),
        (r"table {{if .ID}}{{.ID}}{{else}}none{{end}}\tx{{/* */}}", "CONTAINER ID\tx"),
        (r"table {{(index .Mounts 0).Source}}\t{{len (.Names | upper)}}", "SOURCE\tNAMES"),
        ("table {{$x := .ID}}{{$x}}|{{json .}}", "|"),
        ("table {{range .Mounts}}{{.Source}}{{end}}", "SOURCE"),
    ],
)
def test_table_has_headings(template: str, headings: str) -> None:
    parsed = Template(template)
    assert parsed.is_table
    assert parsed.headings({"ID": "CONTAINER ID", "RunningFor": "CREATED"}) == headings


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        ("{{.Size}}", True),
        ("{{.ID}} {{.Sizes}} Size", False),
        ("{{if eq (.Size | upper) `0B`}}x{{end}}", True),
        ("{{range .X}}{{else}}{{with $.Y}}{{json (json .A.Size)}}{{end}}{{end}}", True),
    ],
)
def test_what_is_asked_for_is_known_before(template: str, asked: bool) -> None:
    assert Template(template).asks_for("Size") is asked


def test_what_is_a_template() -> None:
    assert is_template("{{.ID}}")
    assert not is_template("json")
