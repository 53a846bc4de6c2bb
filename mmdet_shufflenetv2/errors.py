"""Errors that commands show as one message, without a traceback."""


class UserError(ValueError):
    """An unusable file, option or record; the message says what would work.

    Base class of every error of this package that names user input.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a message on how to resume."""
