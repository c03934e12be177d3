"""Files of examples: what they must look like, checked line by line while they arrive."""

from core.dataset.jsonl import JsonlValidator
from core.dataset.report import ColumnReport, FileReport, LineError
from core.dataset.usable import check_usable

__all__ = ["ColumnReport", "FileReport", "JsonlValidator", "LineError", "check_usable"]
