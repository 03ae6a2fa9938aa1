"""The exception that the command line turns into a one-line message, and the one that ends a stage of a GPU session."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file, the value and the remedy."""


class OutOfTime(BaseException):
    """The session's time is over; `str` says where the stage stands. No `except Exception` is to swallow it."""
