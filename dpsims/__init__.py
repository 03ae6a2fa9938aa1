"""DP-SIMS: semantic image synthesis with a pre-trained backbone in the discriminator.

Importing this package is cheap: no torch, no network. `load_generator` is imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsims.synthesis import load_generator

__version__ = "0.1.0"
__all__ = ["__version__", "load_generator"]


def __getattr__(name: str) -> Any:
    if name == "load_generator":
        from dpsims.synthesis import load_generator

        return load_generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
