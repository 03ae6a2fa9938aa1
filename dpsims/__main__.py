"""`python -m dpsims`: the same as the console script."""

from dpsims.cli import app

if __name__ == "__main__":  # not in the processes that `dpsims prepare` starts
    app(prog_name="dpsims")
