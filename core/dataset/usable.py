"""Whether a job can train on a file, before any worker sees it."""

from core.dataset.report import FileReport
from core.errors import InvalidFile

DEFAULT_TEXT_FIELD = "text"
"""SFTConfig's own default of dataset_text_field."""


def check_usable(report: FileReport, *, text_field: str | None, template: bool, param: str) -> None:
    """InvalidFile when the file has nothing that this job could train on; it names the fix."""
    if template:
        return
    if text_field is None and report.shape != "columns":
        return
    name = text_field or DEFAULT_TEXT_FIELD
    is_chat = report.shape in ("messages", "prompt_completion")
    if is_chat and name == DEFAULT_TEXT_FIELD and name not in report.columns:
        return
    column = report.columns.get(name)
    if column is None:
        known = ", ".join(f'"{known}"' for known in list(report.columns)[:20])
        raise InvalidFile(
            f'The rows have no column "{name}"; they have {known}. '
            "Set training.dataset_text_field to one of them, or give a template.",
            param=param,
        )
    if column.rows < report.rows:
        line = column.first_missing_line
        raise InvalidFile(f'line {line}: "{name}" is missing; each row needs it.', param=param)
    if column.first_null_line is not None:
        raise InvalidFile(
            f'line {column.first_null_line}: "{name}" is null; a string is needed.', param=param
        )
    if not column.is_text:
        found = ", ".join(sorted(set(column.types) - {"string"}))
        raise InvalidFile(f'"{name}" holds {found} in some rows; strings are needed.', param=param)
