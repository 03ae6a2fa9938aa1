"""`python -m dpsims`: the same as the console script."""

from dpsims.cli import app

app(prog_name="dpsims")
