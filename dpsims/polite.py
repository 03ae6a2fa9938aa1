"""How a command that cannot do what it was asked ends: one line that says why, and an exit code.

Bad input (`InputError`) ends in one line on standard error and exit code 2; Ctrl-C in exit code 130.
"""

import errno
import sys
from typing import Any

import typer

from dpsims.errors import InputError

# a folder that the user chose cannot hold the results; any other OSError is a bug and keeps its traceback
UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG,
}  # fmt: skip


class PoliteGroup(typer.core.TyperGroup):
    """Turns what a user can cause into a line that a user can read."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Runs the command; raises `typer.Exit` with the code for what went wrong."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter.__base__ as error:  # click's UsageError, under whichever name typer has it
            command = (error.ctx or ctx).command_path
            print(f"dpsims: {error.format_message().rstrip('.')}; see {command} --help", file=sys.stderr)
            raise typer.Exit(2) from None
        except InputError as error:
            print(f"dpsims: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            print(f"dpsims: {error.filename}: {error.strerror}; choose a folder that can be written", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("\ndpsims: interrupted; what was finished is kept", file=sys.stderr)
            raise typer.Exit(130) from None
