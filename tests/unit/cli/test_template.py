"""Templates, as people have them in their scripts for other engines."""

from __future__ import annotations

import pytest

from ross.cli.template import Template, is_template
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


def test_table_has_headings() -> None:
    template = Template(r"table {{.ID}}\t{{.Names}}")
    assert template.is_table
    assert template.headings() == "ID\tNAMES"
    assert is_template("{{.ID}}")
    assert not is_template("json")
