"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="The API's own object.")]
OnlyIds = Annotated[bool, typer.Option("-q", "--quiet", help="Ids only, a line each.")]
JobName = Annotated[str, typer.Argument(help="Job id, a prefix of it, its suffix, or @last.")]
OnDisk = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]
ExampleFile = Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False)]
TrainerSettings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value of SFTConfig; may be repeated.")
]
LoraRank = Annotated[int | None, typer.Option(help="Train a LoRA adapter of this rank.")]
EffectiveBatch = Annotated[
    int | None, typer.Option(min=1, help="Rows of a step; the plan chooses how they are split.")
]
