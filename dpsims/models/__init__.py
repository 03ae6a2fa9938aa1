"""The paper's networks: generator, and discriminator with its frozen backbone."""

from dpsims.models.backbone import Backbone
from dpsims.models.conditioning import FeatureConditioning
from dpsims.models.discriminator import Discriminator
from dpsims.models.generator import Generator

__all__ = ["Backbone", "Discriminator", "FeatureConditioning", "Generator"]
