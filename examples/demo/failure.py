"""What can go wrong in the demo."""


class DemoFailure(Exception):
    """One sentence of what went wrong, and the next step if there is one."""

    def __init__(self, message: str, hint: str = ""):
        self.message = message
        self.hint = hint
        super().__init__(message)
