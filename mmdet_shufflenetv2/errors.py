"""The errors that a command shows as one message, without a traceback."""


class UserError(ValueError):
    """Something given from outside cannot work; the message says what would.

    Every error of this package that names a user's file, option or record
    derives from it.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a word on how to go on."""
