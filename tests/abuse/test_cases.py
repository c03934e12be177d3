"""What an attacker with a good key sends, by surface, each with its one right answer.

`docs/security.md` names the tests that hold the cases which are not here.
"""

from typing import Any

import pytest

from core import isolated
from core.jobs import list_jobs
from tests.api.conftest import JOBS, NO_JOB, Site, problem_of

HOOKS = "/v1/webhook_endpoints"
HUGE = 2**64
NOT_ITS_OWN = "\N{DIVISION SLASH}"


def case(*values: Any, id: str) -> Any:
    """One row of a table."""
    return pytest.param(*values, id=id)


ARGUMENTS = [
    case("training", {"output_dir": "/etc"}, "forbidden_argument", "output_dir", id="a path"),
    case("training", {"resume_from_checkpoint": "/x"}, "forbidden_argument",
         "resume_from_checkpoint", id="a checkpoint of theirs"),
    case("training", {"deepspeed": "/etc/passwd"}, "forbidden_argument", "deepspeed",
         id="a file to open"),
    case("training", {"report_to": "all"}, "forbidden_argument", "report_to", id="all trackers"),
    case("training", {"report_to": ["none"]}, "forbidden_argument", "report_to", id="a list"),
    case("training", {"push_to_hub": True}, "forbidden_argument", "push_to_hub", id="push"),
    case("training", {"push_to_hub": 0}, "forbidden_argument", "push_to_hub", id="0 for false"),
    case("training", {"trust_remote_code": True}, "forbidden_argument", "trust_remote_code",
         id="foreign code"),
    case("training", {"torch_compile_backend": "os.system"}, "forbidden_argument",
         "torch_compile_backend", id="a backend by name"),
    case("training", {"optim": "adamw; import os"}, "invalid_argument", "optim", id="code"),
    case("training", {"learning_rate": True}, "invalid_argument", "learning_rate", id="true"),
    case("training", {"learning_rate": []}, "invalid_argument", "learning_rate", id="a list of 0"),
    case("training", {"seed": HUGE}, "invalid_argument", "seed", id="2**64"),
    case("training", {"dataloader_num_workers": 10**6}, "invalid_argument",
         "dataloader_num_workers", id="a million workers"),
    case("training", {"lr_scheduler_kwargs": {"__class__": 1}}, "unknown_argument",
         "lr_scheduler_kwargs", id="a name within"),
    case("peft", {"r": 10**7}, "invalid_argument", "r", id="rank 10**7"),
    case("peft", {"r": True}, "invalid_argument", "r", id="rank true"),
    case("peft", {"target_modules": ".*"}, "invalid_argument", "target_modules", id="a pattern"),
    case("peft", {"target_modules": ["(a+)+$"]}, "invalid_argument", "target_modules[0]",
         id="a slow pattern"),
    case("peft", {"task_type": "SEQ_CLS"}, "forbidden_argument", "task_type", id="another task"),
    case("peft", {"megatron_core": "os"}, "forbidden_argument", "megatron_core", id="a module"),
    case("peft", {"corda_config": {"cache_file": "/x"}}, "forbidden_argument", "corda_config",
         id="a pickle to load"),
    case("peft", {"auto_mapping": {"parent_library": "os"}}, "forbidden_argument",
         "auto_mapping", id="an import"),
    case("peft", {"layer_replication": [[0, 10**9]]}, "forbidden_argument", "layer_replication",
         id="layers without end"),
]  # fmt: skip

HARMLESS = [
    case("training", "report_to", "none", id="report_to"),
    case("training", "push_to_hub", False, id="push_to_hub"),
    case("training", "hub_token", None, id="hub_token"),
    case("training", "disable_tqdm", True, id="disable_tqdm"),
    case("training", "gradient_checkpointing_kwargs", {"use_reentrant": False}, id="kwargs"),
    case("peft", "task_type", "CAUSAL_LM", id="task_type"),
    case("peft", "peft_type", "LORA", id="peft_type"),
    case("peft", "inference_mode", False, id="inference_mode"),
]

FIELDS = [
    case({"status": "succeeded"}, "unknown_argument", "status", id="the status"),
    case({"project_id": "other"}, "unknown_argument", "project_id", id="the project"),
    case({"attempt": 9}, "unknown_argument", "attempt", id="the attempt"),
    case({"id": NO_JOB}, "unknown_argument", "id", id="the id"),
    case({"__proto__": {}}, "unknown_argument", "__proto__", id="a prototype"),
]

MODELS = [
    "..", ".", "~/x", "~root", "http://127.0.0.1/x", "file:///etc/passwd", "a/b/c", "local/..",
    "local/.", "local/~", "local/tiny/../tiny", "a\\b", "hf://x/y", "-x/y", "x/..", "a" * 97,
    f"local{NOT_ITS_OWN}tiny", "local/tiny\n", " local/tiny", "jobs/../x",
]  # fmt: skip

CHAT_TEMPLATES = [
    case("{{ 9 ** (9 ** 9) }}", id="a number without end"),
    case("{{ 'a' * 10 ** 10 }}", id="a text of 10 GB"),
    case("{{ '%9000000000d' | format(1) }}", id="a format of 9 GB"),
    case("{{ 'a' | center(10 ** 10) }}", id="a filter of 10 GB"),
    case("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", id="3000 parentheses"),
    case("{% for %}", id="no loop"),
    case(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        id="loops in loops",
    ),
    case("{% if x %}" * 500 + "{% endif %}" * 500, id="500 levels"),
]

ROW_TEMPLATES = [
    case("{{ ''.__class__.__mro__ }}", id="a class"),
    case("{{ cycler.__init__.__globals__ }}", id="globals"),
    case("{{ self._TemplateReference__context }}", id="the context"),
    case("{{ '{0.__class__}'.format(1) }}", id="format"),
    case("{{ text | attr('__class__') }}", id="attr"),
    case("{{ ['{0.__class__}'] | map('format', 1) | join }}", id="map"),
    case("{% include '/etc/passwd' %}", id="include"),
    case("{% import 'os' as os %}", id="import"),
    case("{% extends 'x' %}", id="extends"),
    case("{% for a in range(1000) %}{% for b in range(1000) %}{{ a }}{% endfor %}{% endfor %}",
         id="loops in loops"),
    case("{{ text * 10 ** 10 }}", id="a text of 10 GB"),
    case("{{ 9 ** (9 ** 9) }}", id="a number without end"),
    case("{{ '%1000000000d' | format(1) }}", id="a format of 1 GB"),
    case("{{ lipsum(n=10 ** 6) }}", id="lipsum"),
    case("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", id="recursion"),
    case("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", id="3000 parentheses"),
]  # fmt: skip

HUB = [
    case("/hf/local/tiny/resolve/main/..%2f..%2fetc%2fpasswd", 404, id="up"),
    case("/hf/local/tiny/resolve/main/%252e%252e%252fx", 404, id="escaped twice"),
    case("/hf/local/tiny/resolve/main//etc/passwd", 404, id="an absolute path"),
    case("/hf/local/tiny/resolve/main/..\\x", 404, id="a backslash"),
    case("/hf/local/tiny/resolve/main/;/../x", 404, id="a semicolon"),
    case("/hf/local/tiny/resolve/main/config.json.", 404, id="a dot at the end"),
    case("/hf/local/tiny/resolve/main/CON", 404, id="a device"),
    case("/hf/local/tiny/resolve/main/%E2%88%95etc", 404, id="another slash"),
    case("/hf/local/tiny/resolve/main/" + "a" * 5000, 404, id="a long path"),
    case("/hf/local/tiny/resolve/main/a%00b", 400, id="NUL"),
    case("/hf/local/tiny/resolve/..%2fmain/config.json", 404, id="up in a revision"),
    case("/hf/api/models/local/tiny/tree/main/..%2f..", 404, id="a tree above"),
    case("/hf/api/models/local/../revision/main", 404, id="a name above"),
]

URLS = [
    *[case(f"https://{host}/", "address_not_allowed", id=host) for host in (
        "127.0.0.1", "127.1", "0", "0x7f000001", "017700000001", "2130706433", "127.0.0.1.",
        "10.0.0.1", "169.254.169.254", "100.64.0.1", "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]",
        "[64:ff9b::7f00:1]", "localhost", "a.localhost", "localhost.",
        "127\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}1",
    )],
    case("http://127.0.0.1:6379/", "address_not_allowed", id="a broker's port"),
    case("http://8.8.8.8/", "address_not_allowed", id="in the clear"),
    *[case(url, "invalid_argument", id=url) for url in (
        "https://user@example.com/", "https://user:password@example.com/", "file:///etc/passwd",
        "gopher://x/", "ftp://example.com/", "https://example.com:6379/\r\nX: 1", "https://",
        "https:///x", "javascript:alert(1)",
    )],
    case("https://\uff11\uff12\uff17.0.0.1/", "invalid_argument", id="wide digits"),
]  # fmt: skip


def _nothing_was_made(site: Site) -> None:
    with site.database.read() as session:
        assert list_jobs(session) == []
    assert site.client.get(HOOKS).json()["data"] == []


@pytest.mark.parametrize(("kind", "values", "code", "name"), ARGUMENTS)
def test_no_argument_reaches_beyond_the_training(
    site: Site, kind: str, values: dict[str, Any], code: str, name: str
) -> None:
    error = problem_of(site.post_job(**{kind: values}), 400)

    assert (error["code"], error["param"]) == (code, f"{kind}.{name}")
    _nothing_was_made(site)


@pytest.mark.parametrize(("kind", "name", "value"), HARMLESS)
def test_what_is_so_anyway_may_be_said(site: Site, kind: str, name: str, value: object) -> None:
    response = site.post_job(**{kind: {name: value}})

    assert response.status_code == 200, response.text
    events = site.client.get(f"{JOBS}/{response.json()['id']}/events").json()["data"]
    (said,) = [event["message"] for event in events if f'"{name}"' in event["message"]]
    assert said.endswith("here anyway; leave it out.")


@pytest.mark.parametrize(("values", "code", "param"), FIELDS)
def test_what_the_service_decides_cannot_be_assigned(
    site: Site, values: dict[str, Any], code: str, param: str
) -> None:
    error = problem_of(site.post_job(**values), 400)

    assert (error["code"], error["param"]) == (code, param)
    _nothing_was_made(site)


@pytest.mark.parametrize("model", MODELS)
def test_the_name_of_a_model_is_never_a_path(site: Site, model: str) -> None:
    error = problem_of(site.post_job(model=model), 400)

    assert (error["code"], error["param"]) == ("invalid_argument", "model")
    _nothing_was_made(site)


@pytest.mark.parametrize("source", CHAT_TEMPLATES)
def test_a_chat_template_cannot_use_up_the_server(site: Site, source: str) -> None:
    error = problem_of(site.post_job(chat_template=source), 400)

    assert (error["code"], error["param"]) == ("invalid_template", "chat_template")
    _nothing_was_made(site)


def test_a_plan_tries_its_chat_template_within_walls_too(site: Site) -> None:
    body = {"model": "local/tiny", "chat_template": "{{ 'a' * 10 ** 10 }}"}

    error = problem_of(site.client.post("/v1/fine_tuning/plan", json=body), 400)

    assert (error["code"], error["param"]) == ("invalid_template", "chat_template")


def test_without_a_template_no_process_is_started(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what lets plans take milliseconds."""
    body = {"model": "local/tiny", "training_file": site.upload()}
    started: list[str] = []
    monkeypatch.setattr(isolated.Isolated, "__init__", lambda *_, **__: started.append("one"))

    # The plan comes as far as the model, which tells nothing of itself.
    error = problem_of(site.client.post("/v1/fine_tuning/plan", json=body), 400)
    site.submit(**body)

    assert error["param"] == "model"
    assert started == []


@pytest.mark.parametrize("source", ROW_TEMPLATES)
def test_a_template_neither_breaks_out_nor_uses_up_the_server(site: Site, source: str) -> None:
    error = problem_of(site.post_job(template=source), 400)

    assert (error["code"], error["param"]) == ("invalid_template", "template")
    _nothing_was_made(site)


@pytest.mark.parametrize(("path", "status"), HUB)
def test_no_path_of_the_hub_leaves_its_folder(site: Site, path: str, status: int) -> None:
    problem_of(site.client.get(path), status)


def _hook(url: str) -> dict[str, Any]:
    return {"name": "a", "url": url, "event_types": ["fine_tuning.job.succeeded"]}


@pytest.mark.parametrize(("url", "code"), URLS)
def test_no_webhook_is_made_for_what_is_not_public(site: Site, url: str, code: str) -> None:
    error = problem_of(site.client.post(HOOKS, json=_hook(url)), 400)

    assert (error["code"], error["param"]) == (code, "url")
    _nothing_was_made(site)


def test_a_webhook_is_not_led_inside_by_a_change(site: Site) -> None:
    """A name that is not known now is taken: it is looked at again when it is connected to."""
    made = site.client.post(HOOKS, json=_hook("https://receiver.invalid/")).json()

    response = site.client.post(f"{HOOKS}/{made['id']}", json={"url": "https://127.1/"})

    error = problem_of(response, 400)
    assert (error["code"], error["param"]) == ("address_not_allowed", "url")
    assert site.client.get(f"{HOOKS}/{made['id']}").json()["url"] == "https://receiver.invalid/"


def test_five_thousand_mistakes_are_answered_shortly(site: Site) -> None:
    body = {"model": "local/tiny", "training": {f"mistake_{number}": 1 for number in range(5000)}}

    response = site.client.post(JOBS, json=body)

    problem_of(response, 400)
    assert len(response.content) < 10_000


def test_a_body_of_too_many_values_is_refused_before_it_is_looked_at(site: Site) -> None:
    for values in (
        {"training": {f"k{number}": 1 for number in range(10_001)}},
        {"a": [0] * 20_001},
    ):
        error = problem_of(site.client.post(JOBS, json={"model": "local/tiny", **values}), 400)

        assert error["code"] == "invalid_argument"
        assert error["message"] == "The body has more than 20,000 names and values."


def test_a_hundred_thousand_keys_are_too_much(site: Site) -> None:
    body = {"model": "local/tiny", "training": {f"mistake_{number}": 1 for number in range(10**5)}}

    assert problem_of(site.client.post(JOBS, json=body), 413)["code"] == "too_large"


@pytest.mark.parametrize("count", [1001, 5000])
def test_a_form_of_too_many_fields_is_refused(site: Site, count: int) -> None:
    fields = {f"field_{number}": "1" for number in range(count)}

    problem_of(site.client.post("/v1/files", files={"file": b"{}"}, data=fields), 400)

    assert site.stored() == []


def test_a_line_without_an_end_is_refused(site: Site) -> None:
    content = b'{"text": "' + b"a" * 20 * 1024**2

    error = problem_of(site.post_file(content), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "file")
    assert site.stored() == []
