from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstore.cli.template_functions import FUNCTIONS
from kstore.cli.templates import Template, column_title
from kstore.cli.text import printable
from kstore.errors import InvalidInputError
from tests.support.cli import REPOSITORY

RECORD: dict[str, Any] = {
    "ID": "0123456789ab",
    "Name": "quay.io/a/b:1",
    "Names": ["one", "two"],
    "Size": 1234,
    "Labels": {"vendor": "acme"},
    "Config": {"Env": ["A=1", "B=2"], "User": None, "Tty": False},
    "CreatedBy": "/bin/sh -c true",
    "At": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
}


def render(text: str, record: dict[str, Any] | None = None) -> str:
    return Template.parse(text, RECORD.keys()).render(RECORD if record is None else record)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.ID}}", "0123456789ab"),
        ("{{ .ID }}{{.Size}}", "0123456789ab1234"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Labels}}", "map[vendor:acme]"),
        ("{{.Labels.vendor}}", "acme"),
        ("{{.Config.Tty}}", "false"),
        ("{{.Config.User}}", ""),
        ("{{.At}}", "2024-01-02T00:00:00Z"),
        (r"a\tb\nc", "a\tb\nc"),
        (r'{{"a\tb"}}', "a\tb"),
        ("{{`raw \\t`}}", "raw \\t"),
        ("{{/* nothing */}}x", "x"),
        ("a {{- .Size -}} b", "a1234b"),
        ("{{$.Size}}", "1234"),
        ("{{json .Names}}", '["one","two"]'),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "vendor=acme;"),
        ("{{range $i, $e := .Names}}{{$i}}{{$e}}{{.}} {{end}}", "0oneone 1twotwo "),
        ("{{range $e := .Names}}{{$e}}{{if $e}}{{$e | upper}}{{end}}{{end}}", "oneONEtwoTWO"),
        ("{{range $e := .Config.User}}{{$e}}{{else}}none{{$e}}{{end}}", "none"),
        ("{{with $c := .Config}}{{$c.Env}}{{.Tty}}{{end}}", "[A=1 B=2]false"),
        ("{{if $n := len .Names}}{{$n}}{{else}}{{$n}}{{end}}", "2"),
        ("{{$a := .Size}}{{range .Names}}{{$a}}{{end}}{{$a}}", "123412341234"),
        ("{{$a := 1}}{{if .ID}}{{$a := 2}}{{$a}}{{end}}{{$a}}", "21"),
        ("{{$a := 1}}{{$a := .ID | upper}}{{$a}}", "0123456789AB"),
        ("{{$a := 1}}{{if .ID}}{{$a = .Size}}{{end}}{{$a}}", "1234"),
        ("{{$a := 1}}{{if .ID}}{{$a := 2}}{{$a = 3}}{{$a}}{{end}}{{$a}}", "31"),
        ('{{$s := ""}}{{range .Names}}{{.}}{{$s}}{{$s = ","}} {{end}}', "one two, "),
        ("{{range $n := .Names}}{{$n = upper $n}}{{$n}}{{end}}", "ONETWO"),
        ("{{$a := 1}}{{with $a := 2}}{{$a = 3}}{{$a}}{{end}}{{$a}}", "31"),
        ("{{range $i, $n := .Names}}{{if $i}},{{end}}{{$n}}{{end}}", "one,two"),
        (
            "{{range $n := .Names}}{{range $.Names}}{{$n}}{{.}} {{end}}{{end}}",
            "oneone onetwo twoone twotwo ",
        ),
        ("{{index .Names 1}}", "two"),
        ('{{index .Labels "vendor"}}', "acme"),
        ("{{index .Config.Env 0 0}}", "A"),
        ("{{len .Names}}", "2"),
        ("{{.Names | len}}", "2"),
        ('{{join .Names ", "}}', "one, two"),
        ('{{.Names | join ", "}}', "one, two"),
        ('{{index (split .Name ":") 1}}', "1"),
        ("{{upper .Name | lower}}", "quay.io/a/b:1"),
        ("{{title .CreatedBy}}", "/bin/sh -c True"),
        ("{{println .Size .ID}}|", "1234 0123456789ab\n|"),
        ("{{print .Size .Size .ID}}", "1234 12340123456789ab"),
        ("{{slice .ID 2 4}}{{slice .ID 10}}", "23ab"),
        ("{{index (slice .Names 1) 0}}", "two"),
        ("{{.created_by}}", "/bin/sh -c true"),
        ("{{pad .ID 1 2}}|", " 0123456789ab  |"),
        ("{{truncate .ID 4}}", "0123"),
        ("{{.ID | truncate 4}}", "0123"),
        ('{{printf "%s-%05d" .ID .Size}}', "0123456789ab-01234"),
        ("{{range .Names}}<{{.}}>{{end}}", "<one><two>"),
        ("{{range .Names}}{{$.Size}}{{end}}", "12341234"),
        ("{{range .Config.User}}x{{else}}none{{end}}", "none"),
        ("{{range .Labels}}{{.}}{{end}}", "acme"),
        ("{{if .Size}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Config.User}}yes{{else}}no{{end}}", "no"),
        ("{{if eq .Size 1}}a{{else if eq .Size 1234}}b{{else}}c{{end}}", "b"),
        ("{{with .Config}}{{.Tty}}{{end}}", "false"),
        ("{{with .Config.User}}x{{end}}", ""),
        ("{{if and .Size (not .Config.Tty)}}y{{end}}", "y"),
        ("{{or .Config.User .Size}}", "1234"),
        ("{{if gt .Size 1000}}big{{end}}", "big"),
        ("{{if ne .Size 1}}{{true}}{{nil}}{{-5}}{{end}}", "true-5"),
    ],
)
def test_templates_render(template: str, text: str) -> None:
    assert render(template) == text


@pytest.mark.parametrize(
    ("template", "used"),
    [
        ("{{.Size}}", True),
        ("table {{.ID}} {{.size}}", True),
        ("{{if .ID}}{{.ID}}{{else}}{{pad (json .Size) 2 2}}{{end}}", True),
        ("{{range .Names}}{{$.Size}}{{end}}", True),
        ("{{with $all := $}}{{$all.Size}}{{end}}", True),
        ("{{$s := .Size}}{{$s = 1}}", True),
        ("{{json .}}", True),
        ("{{.ID}} Size {{.Config.Env}}{{len .Names}}", False),
    ],
)
def test_it_is_known_which_fields_a_template_uses(template: str, used: bool) -> None:
    assert Template.parse(template, RECORD.keys()).uses("Size") is used


def test_the_documentation_names_every_function() -> None:
    page = (REPOSITORY / "contrib" / "docs" / "look.md").read_text()
    listed = page[page.index("the functions `") :].split("`")[1]
    assert listed.split() == list(FUNCTIONS)


def test_printf_verbs_pad_cut_and_quote() -> None:
    text = render('{{printf "%-6s|%.2s|%q|%v|%x|%t|%%" .Size .ID .ID .Names 255 .Config.Tty}}')
    assert text == '1234  |01|"0123456789ab"|[one two]|ff|false|%'


def test_a_field_that_differs_in_case_alone_is_found() -> None:
    assert render("{{.id}}{{.config.tty}}") == "0123456789abfalse"


def test_a_missing_label_is_empty_but_a_missing_field_is_a_mistake() -> None:
    assert render('{{.Labels.none}}{{index .Labels "none"}}') == ""
    with pytest.raises(InvalidInputError, match="no field 'Evn'"):
        render("{{.Config.Evn}}")


def test_labels_are_found_by_their_exact_key_only() -> None:
    assert render("{{.Labels.Vendor}}") == ""


@pytest.mark.parametrize(
    ("template", "position", "problem"),
    [
        ("{{.Nope}}", 3, "no field 'Nope' (there are: ID, Name"),
        ("{{range .Names}}{{$.Nope}}{{end}}", 20, "no field 'Nope'"),
        ("{{if .Size}}{{else}}{{.Nope}}{{end}}", 23, "no field 'Nope'"),
        ("table {{.Nope}}", 9, "no field 'Nope'"),
        ("{{nope .ID}}", 3, "no function 'nope' (there are: and, eq"),
        ("{{.ID", 1, "{{ without }}"),
        ("x {{ }}", 3, "missing"),
        ("{{.ID | }}", 1, "missing"),
        ("{{.ID | .Size}}", 9, "not a function"),
        ("{{.ID .Size}}", 3, "not a function"),
        ("{{end}}", 1, "without a block"),
        ("{{if .ID}}", 1, "without {{end}}"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", 19, "second"),
        ("{{range .Names}}{{else if .ID}}{{end}}", 24, "{{else}} with 'if'"),
        ("{{(.ID}}", 3, "'(' without ')'"),
        ("{{.ID)}}", 6, "not understood"),
        ("{{len .ID ~}}", 11, "not understood"),
        ('{{"open}}', 3, "not understood"),
        ("{{len}}", 3, "len got 0 arguments"),
        ("{{$x}}", 3, "no variable $x"),
        ("{{range $x := .Names}}{{end}}{{$x}}", 32, "no variable $x"),
        ("{{if .ID}}{{$x := 1}}{{else}}{{$x}}{{end}}", 32, "no variable $x"),
        ("{{$x := $x}}", 9, "no variable $x"),
        ("{{$x = 1}}", 3, "no variable $x"),
        ("{{if .ID}}{{$x := 1}}{{end}}{{$x = 2}}", 31, "no variable $x"),
        ("{{$x := 1}}{{$x =}}", 12, "a field or function is missing"),
        ("{{$x := 1}}{{$x = .Nope}}", 19, "no field 'Nope'"),
        ("{{.ID = 1}}", 3, "'.ID' is not a function"),
        ("{{len .ID = 1}}", 11, "not understood"),
        ("{{=}}", 3, "not understood"),
        ("{{$x :=}}", 1, "a field or function is missing"),
        ("{{$i, $x := .Names}}", 3, "no variable $i"),
        ("{{range $i, $j, $x := .Names}}{{end}}", 9, "no variable $i"),
        ("{{.ID , .Name}}", 3, "'.ID' is not a function"),
        ("{{:= .ID}}", 3, "not understood"),
        ("{{len , .ID}}", 7, "not understood"),
        ("{{index .Names 7}}", 3, "index 7 of a list with 2 items"),
        ("{{index .Labels .}}", 3, "a map where text is needed"),
        ("{{upper .Size}}", 3, "a number where text is needed"),
        ("{{.Size.Nope}}", 8, "without fields"),
        ("{{range .Size}}{{end}}", 1, "range needs a list"),
        ('{{printf "%d" .ID}}', 3, "text where a number is needed"),
        ('{{printf "%s"}}', 3, "no argument"),
        ('{{printf "x" .ID}}', 3, "too many"),
        ('{{printf "%y" .ID}}', 3, "%y"),
        ("{{lt .ID .Size}}", 3, "text compared with a number"),
    ],
)
def test_a_mistake_is_named_with_its_position(template: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        render(template)
    message = caught.value.message
    assert f"character {position}:" in message
    assert problem in message
    assert "\n" not in message


def test_unknown_fields_are_found_before_there_is_any_record() -> None:
    with pytest.raises(InvalidInputError):
        Template.parse("{{if .ID}}{{else}}{{upper .Nope}}{{end}}", RECORD.keys())


def test_a_table_has_a_header_of_titles_and_aligned_columns() -> None:
    template = Template.parse(r"table {{.ID}}\t{{.CreatedBy}}\t{{.Size}}", RECORD.keys())
    assert template.lines([RECORD], titles={"ID": "IMAGE ID"}) == [
        "IMAGE ID       CREATED BY        SIZE",
        "0123456789ab   /bin/sh -c true   1234",
    ]


def test_blanks_separate_the_columns_of_a_table_without_tabs() -> None:
    template = Template.parse("table {{.ID}} {{.Name}}", RECORD.keys())
    assert template.lines([RECORD])[0] == "ID             NAME"


def test_functions_in_a_table_leave_the_header_alone() -> None:
    template = Template.parse(
        r'table {{index (split .Name ":") 0}}\t{{join .Names ","}}'
        r"\t{{range .Names}}{{.}}{{end}}\t{{if .Size}}{{.Size}}{{end}}\t{{len .Names}}"
    )
    header, row = template.lines([RECORD])
    assert header.split() == ["NAME", "NAMES", "NAMES", "SIZE", "NAMES"]
    assert row.split() == ["quay.io/a/b", "one,two", "onetwo", "1234", "2"]


def test_a_table_of_nothing_is_its_header_and_without_heading_nothing() -> None:
    template = Template.parse("table {{.ID}}")
    assert template.lines([]) == ["ID"]
    assert template.lines([], heading=False) == []


def test_data_cannot_break_a_table() -> None:
    template = Template.parse(r"table {{.A}}\t{{.B}}")
    assert template.lines([{"A": "x\ty\n", "B": "\x1b"}])[1] == "x\\ty\\n   \\x1b"


def test_values_go_through_the_escape_and_the_templates_own_text_does_not() -> None:
    template = Template.parse("{{.A}}\x1b[0m")
    assert template.render({"A": "\x1b[31m"}, printable) == "\\x1b[31m\x1b[0m"


@pytest.mark.parametrize(
    ("field", "title"), [("ID", "ID"), ("CreatedBy", "CREATED BY"), ("size", "SIZE")]
)
def test_titles_are_split_at_capitals(field: str, title: str) -> None:
    assert column_title(field) == title


@pytest.mark.parametrize(
    "template",
    [
        "{{if .ID}}" * 40 + "{{end}}" * 40,
        "{{" + "(" * 60 + ".ID" + ")" * 60 + "}}",
        "{{.ID" + " | len" * 200 + "}}",
        "x" * 20_000,
        '{{printf "%9999d" .Size}}',
        "{{pad .ID 5000 0}}",
    ],
)
def test_templates_beyond_the_limits_are_refused(template: str) -> None:
    with pytest.raises(InvalidInputError):
        render(template)


def test_a_template_cannot_work_for_ever() -> None:
    loops = "{{range $.Names}}" * 25 + "x" + "{{end}}" * 25
    with pytest.raises(InvalidInputError, match="more than"):
        render(loops)
    silent = "{{$n := .Names}}" + "{{range $n}}" * 25 + "{{end}}" * 25
    with pytest.raises(InvalidInputError, match="more than"):
        render(silent)


def test_a_template_cannot_double_a_text_for_ever() -> None:
    doubling = '{{with printf "%s%s" . .}}' * 22 + "{{.}}" + "{{end}}" * 22
    with pytest.raises(InvalidInputError, match="a text of more than"):
        render("{{with .ID}}" + doubling + "{{end}}")


_PIECES = st.sampled_from(
    [
        *(f"{name} " for name in FUNCTIONS),
        *("{{", "}}", "{{- ", " -}}", "{{if ", "{{range ", "{{with ", "{{end}}", "{{else}}"),
        *("$x", "$x := ", "$x, $y := ", "$y", ":=", ", "),
        *(".ID", ".Names", ".Labels", ".Config", ".Env", ".Size", "$", ".", "(", ")", "|", " "),
        *('"x"', '"%s%d"', "`", '"', "0", "-1", "7", "\\t", "table ", "true", "nil", "/*", "*/"),
    ]
)


@given(st.lists(_PIECES | st.text(max_size=3), max_size=25).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_renders_or_is_refused_with_one_sentence(text: str) -> None:
    try:
        Template.parse(text, RECORD.keys()).lines([RECORD])
    except InvalidInputError as error:
        refusal = error.message
    else:
        return
    assert refusal.startswith("--format template")
