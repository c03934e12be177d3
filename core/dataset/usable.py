"""Whether a job can train on a file, from the file's report alone."""

from core.dataset.report import ColumnReport, FileReport
from core.dataset.shapes import quoted
from core.errors import InvalidFile

DEFAULT_TEXT_FIELD = "text"
MAX_SHOWN_COLUMNS = 20


def check_usable(report: FileReport, *, text_field: str | None, template: bool, param: str) -> None:
    """Raise InvalidFile when a job with these settings cannot use the file.

    `text_field` is the user's `training.dataset_text_field`; `param` is the field that names the
    file, like `training_file`.
    """
    if template:
        return
    name = text_field or DEFAULT_TEXT_FIELD
    column = report.columns.get(name)
    has_own_shape = report.shape in ("messages", "prompt_completion")
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
