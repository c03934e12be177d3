"""Our logs: a line for each record, whatever strangers put into it."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """Shows what cannot be printed as an escape: ends of lines, commands of terminals and such.

    A traceback keeps its lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's naming
        """The line of a record."""
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in text
        )


def set_up_logging(level: int = logging.INFO) -> None:
    """Log to stderr, unless somebody has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
