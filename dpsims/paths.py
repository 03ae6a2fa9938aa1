"""Where things lie. Notebooks, tests and commands run in different folders, so nothing depends on the current one."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout, with notebooks and data beside the package
DATA = ROOT / "data"
BACKBONES = DATA / "backbones"  # shipped: discriminator encoders made by `dpsims pretrain`
CHECKPOINTS = DATA / "checkpoints"  # shipped: trained models
EVALUATORS = DATA / "evaluators"  # shipped: evaluation networks made by `dpsims train-evaluators`
LABELS = DATA / "labels"  # class tables
CACHE = Path(os.environ.get("DPSIMS_CACHE", DATA / "cache"))  # prepared data sets, ignored by git
