"""`tuneyard`: submit jobs, watch them, take home what they learned; and start the service.

Text for people goes to standard error, data to standard output.
"""

import sys
from collections.abc import Callable

import typer

from cli.commands import doctor, follow, jobs, operate, submit
from cli.commands.checkpoints import checkpoints, pull
from cli.commands.files import files
from cli.commands.models import models
from cli.commands.workers import workers
from cli.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    help="Fine-tune open models on your own machine.",
    pretty_exceptions_enable=False,
)
jobs_group = typer.Typer(no_args_is_help=True, help="Trainings.")
NOUNS = {
    "db": operate.database,
    "jobs": jobs_group,
    "files": files,
    "checkpoints": checkpoints,
    "models": models,
    "workers": workers,
    "keys": operate.keys,
}
OF_JOBS: dict[str, Callable[..., None]] = {
    "events": follow.list_events,
    "metrics": jobs.show_metrics,
    "delete": jobs.delete,
    "open": jobs.open_page,
    "create": submit.submit,
    "plan": submit.plan,
    "list": jobs.list_jobs,
    "show": jobs.show,
    "watch": follow.watch,
    "wait": jobs.wait,
    "logs": follow.logs,
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": submit.retry,
}
SHORT: dict[str, Callable[..., None]] = {
    "api": doctor.call_api,
    "doctor": doctor.doctor,
    "up": operate.up,
    "plan": submit.plan,
    "submit": submit.submit,
    "list": jobs.list_jobs,
    "show": jobs.show,
    "watch": follow.watch,
    "logs": follow.logs,
    "pull": pull,
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": submit.retry,
    "wait": jobs.wait,
}
"""Those without a noun, for what people do every day."""
for name, command in SHORT.items():
    app.command(name)(command)
for name, command in OF_JOBS.items():
    jobs_group.command(name)(command)
jobs_group.command("ls", hidden=True)(jobs.list_jobs)
for name, group in NOUNS.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command; an expected failure is one sentence and one next step."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"{error.hint}\n")
        sys.exit(error.code)


if __name__ == "__main__":
    main()
