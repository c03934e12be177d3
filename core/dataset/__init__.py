"""Files of examples: JSON lines, checked as they stream in, in constant memory."""

from core.dataset.report import FileReport, LineError
from core.dataset.usable import check_usable
from core.dataset.validator import JsonlValidator

__all__ = ["FileReport", "JsonlValidator", "LineError", "check_usable"]
