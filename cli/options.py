"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from cli.completion import complete_files, complete_jobs, complete_models, complete_workers

AsJson = Annotated[bool, typer.Option("--json", help="The API's own object.")]
OnlyIds = Annotated[bool, typer.Option("-q", "--quiet", help="Ids only, a line each.")]
JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="Job id, a prefix of it, its suffix, or @last.",
        autocompletion=complete_jobs,
    ),
]
JobNames = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB", autocompletion=complete_jobs, help="Ids, prefixes, suffixes, or @last."
    ),
]
FileName = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="File id, a prefix of it, its filename, or @last.",
        autocompletion=complete_files,
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=complete_models)]
WorkerName = Annotated[str, typer.Argument(metavar="WORKER", autocompletion=complete_workers)]
OnDisk = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]
FREE_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context of commands that take every argument of the trainer as an option of its own."""
