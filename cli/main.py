"""`tuneyard`: submit jobs, watch them, take home what they learned; and start the service.

Text for people goes to standard error, data to standard output.
"""

import importlib.metadata
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Annotated

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from cli.commands import account, doctor, follow, jobs, operate, submit
from cli.commands.checkpoints import checkpoints, pull
from cli.commands.files import files
from cli.commands.models import models
from cli.commands.workers import workers
from cli.errors import UserError
from cli.flags import flags
from cli.options import FREE_SETTINGS

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
jobs_group = typer.Typer(no_args_is_help=True, help="Trainings.")
Commands = dict[str, Callable[..., None]]
OF_JOBS: Commands = {
    "create": submit.submit,
    "plan": submit.plan,
    "list": jobs.list_jobs,
    "ls": jobs.list_jobs,
    "show": jobs.show,
    "watch": follow.watch,
    "wait": jobs.wait,
    "logs": follow.logs,
    "events": follow.list_events,
    "metrics": jobs.show_metrics,
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": submit.retry,
    "clone": submit.clone,
    "compare": jobs.compare,
    "open": jobs.open_page,
    "delete": jobs.delete,
}
SHORT: dict[str, Commands] = {
    "Every day": {
        "plan": submit.plan,
        "submit": submit.submit,
        "list": jobs.list_jobs,
        "show": jobs.show,
        "watch": follow.watch,
        "wait": jobs.wait,
        "logs": follow.logs,
        "cancel": jobs.cancel,
        "pause": jobs.pause,
        "resume": jobs.resume,
        "retry": submit.retry,
        "pull": pull,
    },
    "Your side": {
        "login": account.login,
        "logout": account.logout,
        "whoami": account.whoami,
        "doctor": doctor.doctor,
        "completion": doctor.completion,
        "api": doctor.call_api,
    },
    "The service, on its machine": {
        "up": operate.up,
        "server": operate.server,
        "worker": operate.worker,
    },
}
"""Those without a noun, by the panel of the help that they are in."""
NOUNS: dict[str, dict[str, typer.Typer]] = {
    "By noun": {
        "jobs": jobs_group,
        "files": files,
        "checkpoints": checkpoints,
        "models": models,
        "workers": workers,
    },
    "Your side": {"config": account.config},
    "The service, on its machine": {"db": operate.database, "keys": operate.keys},
}
TAKING_SETTINGS = (submit.plan, submit.submit, submit.clone, submit.retry)


def _add(
    group: typer.Typer, name: str, command: Callable[..., None], panel: str | None = None
) -> None:
    context = FREE_SETTINGS if command in TAKING_SETTINGS else None
    add = group.command(name, context_settings=context, hidden=name == "ls", rich_help_panel=panel)
    add(command)


for panel, commands in SHORT.items():
    for name, command in commands.items():
        _add(app, name, command, panel)
for name, command in OF_JOBS.items():
    _add(jobs_group, name, command)
for panel, groups in NOUNS.items():
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=panel)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"tuneyard {importlib.metadata.version('tuneyard')}\n")
        raise typer.Exit


@app.callback()
def before(
    is_debug: Annotated[
        bool, typer.Option("--debug", help="Print every request, and tracebacks.")
    ] = False,
    is_without_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Fine-tune open models on your own machine.

    Examples:
    tuneyard up
    tuneyard submit MODEL --file train.jsonl --watch
    tuneyard pull @last
    """
    flags.is_debug = flags.is_debug or is_debug
    flags.is_without_input = is_without_input


def main() -> None:
    """Run the command; an expected failure is one sentence and one next step."""
    sys.excepthook = _unexpected
    completion_init()
    try:
        app(prog_name="tuneyard")
    except UserError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"{error.hint}\n")
        if flags.is_debug:
            traceback.print_exception(error)
        sys.exit(error.code)


def _unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(f"Error: unexpected {kind.__name__}: {error}\n")
    if flags.is_debug:
        traceback.print_exception(kind, error, trace)
    else:
        sys.stderr.write("tuneyard --debug … shows where; please report it.\n")


if __name__ == "__main__":
    main()
