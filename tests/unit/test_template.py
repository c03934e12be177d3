"""Templates: what they can say, and that there is no way out and no way to use up the machine."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidTemplate
from core.template import compile_template

ROW: dict[str, Any] = {
    "text": "a<b",
    "numbers": list(range(3_000)),
    "meta": {"items": "field", "lang": "en", "nothing": None},
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    "a column": "spaced",
}


def render(source: str, row: dict[str, Any] = ROW) -> str:
    return compile_template(source).render(row)


def doubled(first: str, step: str, last: str, times: int = 40) -> str:
    """A template that doubles a value `times` times: `A` is the old name, `B` the new one."""
    steps = (step.replace("A", f"a{n}").replace("B", f"a{n + 1}") for n in range(times))
    return first.replace("A", "a0") + "".join(steps) + last.replace("A", f"a{times}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain\n", "plain\n"),
        ("{{ text }}", "a<b"),
        ("{{ row['a column'] }}", "spaced"),
        ("{{ meta.items }} {{ meta.lang }}", "field en"),
        ("{{ text|upper }}{{ text|length }}{{ ' x '|trim }}", "A<B3x"),
        ("{{ messages[0]|tojson }}", '{"role": "user", "content": "hi"}'),
        ("{{ text|tojson }}{{ '\u00e9'|tojson }}", '"a<b""\u00e9"'),
        ("{{ nope|default('d') }}{{ meta.nothing|default('e', true) }}", "de"),
        ("{{ nope is defined }}", "False"),
        ("{{ messages|join('/', attribute='content') }}", "hi/ho"),
        ("{{ numbers|first }} {{ numbers|last }} {{ numbers[:2] }}", "0 2999 [0, 1]"),
        ("{{ text.replace|default('no') }}", "no"),
        ("{{ text|replace('<', '-') }}", "a-b"),
        ("{% for key, value in meta|items %}{{ key }},{% endfor %}", "items,lang,nothing,"),
        ("{% for key in meta.keys() %}{{ key }},{% endfor %}", "items,lang,nothing,"),
        (
            "{% for m in messages %}{{ loop.index }}{{ m.role }}"
            "{{ ';' if not loop.last else '' }}{% endfor %}",
            "1user;2assistant",
        ),
        ("{% set a = text ~ 1 ~ none %}{{ a }}", "a<b1None"),
        ("{{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.5 * 2 }} {{ '-' * 3 }}", "3 2 1024 3.0 ---"),
        ("{{ text in ('a<b', 'c') and 'a' in text }}", "True"),
        ("{% for n in range(3) if n is odd %}{{ n }}{% endfor %}", "1"),
        ("{{ ' a b '.strip().split()|join('+') }}", "a+b"),
        ("{% if false %}{{ 9**(9**9) }}{% endif %}ok", "ok"),
        ("{% with a = 1 %}{{ a }}{% endwith %}", "1"),
    ],
)
def test_a_template_says_what_it_should(source: str, text: str) -> None:
    assert render(source) == text


def test_a_column_wins_over_a_name_of_ours() -> None:
    assert render("{{ range }}{{ row }}", {"range": "a", "row": "b"}) == "ab"


def test_a_template_renders_any_number_of_rows() -> None:
    """The budget is one row's, not the template's."""
    template = compile_template("{% for n in range(900) %}x{% endfor %}{{ text }}")

    assert {template.render({"text": "a"}) for _ in range(200)} == {"x" * 900 + "a"}


def test_a_row_is_never_changed() -> None:
    row = {"xs": [1], "m": {"a": 1}}

    for source in ("{{ m.clear() }}", "{{ xs.append(2) }}", "{{ row.pop('xs') }}"):
        with pytest.raises(InvalidTemplate):
            render(source, row)
    assert row == {"xs": [1], "m": {"a": 1}}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "a\n{{ nope }}",
            'template line 2: there is no column "nope"; the columns of the row are "text"',
        ),
        ("a\n\n{{ meta.nope }}", 'template line 3: an object has no "nope"'),
        ("{{ messages[9].role }}", "template line 1: a list has no 9"),
        ("x\n{% if %}", "template line 2: "),
        ("{% for m in messages %}", "template line 1: "),
        ("{{ text|reverse }}", "template line 1: there is no filter reverse; there are "),
        ("{{ text is sameas 1 }}", "template line 1: there is no test sameas"),
        ("{{ text + 1 }}", "template line 1: "),
        ("{{ 1 / 0 }}", "template line 1: division by zero"),
        ("{{ numbers[::0] }}", "template line 1: slice step cannot be zero"),
        ("{{ text.upper }}", "is it missing its parentheses?"),
        ("{% for a in 5 %}{% endfor %}", "'int' object is not iterable"),
        ("{{ 5|length }}", "object of type 'int' has no len()"),
        ("\ud800", "half of a surrogate pair"),
    ],
)
def test_a_mistake_is_named_with_its_line(source: str, words: str) -> None:
    with pytest.raises(InvalidTemplate) as raised:
        render(source)

    assert words in raised.value.message
    assert raised.value.param == "template"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ row['__class__'] }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ text.upper.__self__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
        "{{ text|attr('format') }}",
        "{{ ['{0.__class__}']|map('format', 1)|list }}",
        "{{ messages|sort(attribute='__class__') }}",
        "{{ messages|join(attribute='__class__') }}",
        "{{ messages|default|first|list|attr('x') }}",
        "{% include 'a' %}",
        "{% import 'a' as b %}",
        "{% from 'a' import b %}",
        "{% extends 'a' %}",
        "{% block a %}{% endblock %}",
        "{% macro a() %}{% endmacro %}",
        "{% filter upper %}{% endfilter %}",
        "{% for m in messages %}{{ loop.__class__ }}{% endfor %}",
        "{% for m in messages %}{{ loop._iterator }}{% endfor %}",
        "{{ text|'#paid' }}",
        "{{ environment }}",
        "{{ context }}",
    ],
)
def test_there_is_no_way_out(source: str) -> None:
    with pytest.raises(InvalidTemplate):
        render(source)


@pytest.fixture
def limited() -> Iterator[None]:
    """Less memory than a bomb takes: what gets through becomes a MemoryError, not a swap."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + 512 * 2**20, before[1])
    )
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


LOOPS = "{% for a in numbers %}{% for b in numbers %}{% for c in numbers %}{% endfor %}"


@pytest.mark.usefixtures("limited")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ 9**(9**9) }}", id="power"),
        pytest.param("{{ 'a' * 10**10 }}", id="text times number"),
        pytest.param("{{ [1] * 10**10 }}", id="list times number"),
        pytest.param("{{ '%1000000000d' % 1 }}", id="percent"),
        pytest.param("{{ '%1000000000d'|format(1) }}", id="format"),
        pytest.param("{{ lipsum(n=10**6) }}", id="lipsum"),
        pytest.param("{{ [1]|slice(10**9)|list }}", id="slice"),
        pytest.param("{{ 'a'.center(10**9) }}{{ 'a'.ljust(10**9) }}", id="center"),
        pytest.param("{{ 'a'.zfill(10**9) }}", id="zfill"),
        pytest.param("{{ '\t'.expandtabs(10**9) }}", id="expandtabs"),
        pytest.param("{{ text|indent(10**9) }}", id="indent"),
        pytest.param("{{ numbers|tojson(indent=10**6) }}", id="tojson indent"),
        pytest.param("{{ text|wordwrap(1) }}", id="wordwrap"),
        pytest.param("{{ range(1001) }}", id="long range"),
        pytest.param(
            "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
            id="nested ranges",
        ),
        pytest.param(LOOPS + "{% endfor %}{% endfor %}", id="nested loops over data"),
        pytest.param(
            "{% for x in [1] recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}",
            id="recursive loop",
        ),
        pytest.param("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", id="macro"),
        pytest.param("{% set n = namespace(a='a') %}", id="namespace"),
        pytest.param(
            "{{ range(1000)|join('x' * 100000) }}",
            id="join",
        ),
        pytest.param("{{ ('a' * 10000)|replace('a', 'b' * 10000) }}", id="replace"),
        pytest.param("{{ ('a' * 10000)|replace('', 'b' * 10000) }}", id="replace nothing"),
        pytest.param("{% for n in range(500) %}{{ 'y' * 4000 }}{% endfor %}", id="output"),
        pytest.param(
            doubled("{% set A = 'xxxxxxxx' %}", "{% set B = A ~ A %}", "{{ A|length }}"), id="~"
        ),
        pytest.param(
            doubled("{% set A = 'xxxxxxxx' %}", "{% set B = A + A %}", "{{ A|length }}"), id="+"
        ),
        pytest.param(
            doubled("{% set A = [1] %}", "{% set B = A + A %}", "{{ A|length }}"), id="list + list"
        ),
        pytest.param(
            doubled("{% set A = 'xxxx' %}", "{% set B = [A, A]|join %}", "{{ A|length }}"),
            id="joined twice",
        ),
        pytest.param(
            doubled("{% set A = 2 %}", "{% set B = A * A %}", "{{ A }}"), id="number squared"
        ),
        pytest.param(
            doubled("{% set A = [1] %}", "{% set B = [A, A] %}", "{{ A }}"), id="nested list shown"
        ),
        pytest.param(
            doubled("{% set A = [1] %}", "{% set B = [A, A] %}", "{{ A|tojson }}"),
            id="nested list as JSON",
        ),
        pytest.param(
            doubled("{% set A = [1] %}", "{% set B = {'a': A, 'b': A} %}", "{{ A == 1 }}"),
            id="nested object compared",
        ),
        pytest.param(
            doubled("{% set A = 't' %}", "{% set B = (A, A) %}", "{{ row[A] }}"),
            id="nested tuple hashed",
        ),
        pytest.param(
            doubled("{% set A = 't' %}", "{% set B = {A: A}|items|first %}", "{{ row[A] }}"),
            id="nested key hashed",
        ),
        pytest.param(
            doubled("{% set A %}xxxx{% endset %}", "{% set B %}{{A}}{{A}}{% endset %}", "{{ A }}"),
            id="block set",
        ),
        pytest.param("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", id="parentheses"),
        pytest.param("{{ " + "1+" * 20_000 + "1 }}", id="long sum"),
        pytest.param("{{ " + "not " * 5_000 + "1 }}", id="not not"),
        pytest.param("{{ text" + ".a" * 5_000 + " }}", id="long path"),
        pytest.param("{% if 1 %}" * 3_000 + "{% endif %}" * 3_000, id="nested ifs"),
        pytest.param("{{ 1" + "0" * 5_000 + " }}", id="long number"),
        pytest.param("x" * 65_537, id="source"),
        pytest.param("\u20ac" * 30_000, id="source in bytes"),
    ],
)
def test_a_template_cannot_use_up_the_machine(source: str) -> None:
    with pytest.raises(InvalidTemplate):
        render(source)


def test_slices_and_comparisons_of_long_texts_are_paid_for() -> None:
    row = {"long": "x" * 1_000_000, "numbers": list(range(10_000))}

    for work in ("{% set y = long[::-1] %}", "{% if long == 'x' %}{% endif %}"):
        with pytest.raises(InvalidTemplate, match="too much work"):
            render("{% for n in numbers %}" + work + "{% endfor %}", row)


def test_a_long_row_that_is_used_plainly_is_affordable() -> None:
    row = {"messages": [{"role": "user", "content": "x" * 1_000}] * 900}

    text = render(
        "{% for m in messages %}{% if m.role == 'user' %}<{{ m.content.strip() ~ '>' }}"
        "{% endif %}{% endfor %}",
        row,
    )

    assert len(text) == 900 * 1_002
