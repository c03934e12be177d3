"""Whether a job can train on a file, from the file's report alone."""

from collections.abc import Mapping
from typing import Any

from core.dataset.report import ColumnReport, FileReport, ShapeName
from core.dataset.shapes import quoted
from core.errors import InvalidArgument, InvalidFile

DEFAULT_TEXT_FIELD = "text"
MAX_SHOWN_COLUMNS = 20


CHATS = ("messages", "conversations")
COLUMNS_OF: Mapping[ShapeName, Mapping[str, tuple[str, ...]]] = {
    "messages": {"messages": ("list",)},
    "conversations": {"conversations": ("list",)},
    "prompt_completion": {"prompt": ("string", "list"), "completion": ("string", "list")},
    "alpaca": {"instruction": ("string",), "output": ("string",)},
    "input_ids": {"input_ids": ("list",)},
}
"""The columns that every row of a shape has, and their types."""


def check_usable(
    report: FileReport,
    *,
    text_field: str | None,
    template: bool,
    param: str,
    shape: ShapeName | None = None,
) -> None:
    """Raise InvalidFile when a job with these settings cannot use the file.

    `text_field` is the user's `training.dataset_text_field`; `param` is the field that names the
    file, like `training_file`.
    """
    if template:
        return
    if shape is not None and shape in COLUMNS_OF:
        _check_shape(report, shape, param)
        return
    name = text_field or DEFAULT_TEXT_FIELD
    column = report.columns.get(name)
    has_own_shape = report.shape in COLUMNS_OF and shape is None
    if has_own_shape and (text_field is None or (column is None and name == DEFAULT_TEXT_FIELD)):
        return
    flaw = _flaw(name, column, report.rows)
    if flaw is None:
        return
    names = [quoted(other) for other in report.columns]
    more = ", ..." if len(names) > MAX_SHOWN_COLUMNS else ""
    raise InvalidFile(
        f"{flaw} The columns are {', '.join(names[:MAX_SHOWN_COLUMNS])}{more}. {_fix(report)}",
        param=param,
    )


def check_mask(
    report: FileReport,
    training: Mapping[str, Any],
    *,
    template: bool,
    shape: ShapeName | None = None,
) -> None:
    """Raise InvalidArgument when what is to be trained on is not in rows of this shape."""
    name = _read_as(report, training, template=template, shape=shape)
    has_messages = name == "alpaca" or _has_messages(report, name)
    if training.get("assistant_only_loss") and not has_messages:
        raise InvalidArgument(
            f'"assistant_only_loss" needs messages; the rows are of the shape {name}.',
            param="training.assistant_only_loss",
        )
    if training.get("completion_only_loss") and name not in ("prompt_completion", "alpaca"):
        raise InvalidArgument(
            '"completion_only_loss" needs rows with a prompt and a completion; these are of the '
            f"shape {name}.",
            param="training.completion_only_loss",
        )


def needs_chat_template(
    report: FileReport,
    training: Mapping[str, Any],
    *,
    template: bool,
    shape: ShapeName | None = None,
) -> bool:
    """Whether only a chat template makes a text of these rows."""
    return _has_messages(report, _read_as(report, training, template=template, shape=shape))


def _read_as(
    report: FileReport, training: Mapping[str, Any], *, template: bool, shape: ShapeName | None
) -> str | None:
    """The shape that a job takes the rows for."""
    text_field = training.get("dataset_text_field")
    is_text = template or (
        shape is None and text_field is not None and text_field in report.columns
    )
    return "text" if is_text else shape or report.shape


def _has_messages(report: FileReport, name: str | None) -> bool:
    return name in CHATS or (
        name == "prompt_completion" and "list" in report.columns["completion"].types
    )


def _check_shape(report: FileReport, shape: ShapeName, param: str) -> None:
    for name, types in COLUMNS_OF[shape].items():
        column = report.columns.get(name)
        good = sum(column.types.get(kind, 0) for kind in types) if column else 0
        if good < report.rows:
            where = "no row" if not good else f"only {good:,} of {report.rows:,} rows"
            raise InvalidFile(
                f'The shape "{shape}" needs a {" or ".join(types)} in the column '
                f"{quoted(name)}; {where} has one.",
                param=param,
            )


def _flaw(name: str, column: ColumnReport | None, rows: int) -> str | None:
    """Why a column cannot be trained on."""
    if column is None:
        return f"The rows have no {quoted(name)}."
    if column.types.get("string", 0) == rows:
        return None
    if column.first_missing_line is not None:
        return f"Line {column.first_missing_line} has no {quoted(name)}."
    if column.first_null_line is not None:
        return f"{quoted(name)} is null in line {column.first_null_line}."
    others = ", ".join(kind for kind in column.types if kind != "string")
    return f"{quoted(name)} is not a string in every row (but: {others})."


def _fix(report: FileReport) -> str:
    texts = [
        quoted(name)
        for name, column in report.columns.items()
        if _flaw(name, column, report.rows) is None
    ]
    if not texts:
        return "None has a string in every row: give a template that makes a text of a row."
    return (
        f"Set training.dataset_text_field to one with a string in every row "
        f"({', '.join(texts[:MAX_SHOWN_COLUMNS])}), or give a template."
    )
