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
        ("{{(.ID)}}", "not understood"),
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
