"""Files of examples: what they must look like, checked row by row while they arrive."""

from core.dataset.jsonl import JsonlValidator
from core.dataset.report import ColumnReport, FileReport, FormatName, LineError, ShapeName
from core.dataset.usable import check_mask, check_usable, needs_chat_template
from core.dataset.validate import FileValidator

__all__ = [
    "ColumnReport",
    "FileReport",
    "FileValidator",
    "FormatName",
    "JsonlValidator",
    "LineError",
    "ShapeName",
    "check_mask",
    "check_usable",
    "needs_chat_template",
]
