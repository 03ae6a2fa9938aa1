"""The one exception that the command line turns into a one-line message."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file, the value and the remedy."""
