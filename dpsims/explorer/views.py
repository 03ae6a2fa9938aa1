"""What the discriminator sees, laid over an image.

H and W height and width, K classes.
"""

import numpy as np

from dpsims.explorer.pictures import tinted
from dpsims.images import to_tensor
from dpsims.labels import VOID, LabelSpace
from dpsims.models import Discriminator
from dpsims.synthesis import discriminator_view

IMAGE, CLASSES, FAKE = "image", "classes", "fake"
VIEWS = (("the image", IMAGE), ("discriminator: classes", CLASSES), ("discriminator: fakes", FAKE))
FAKE_COLOUR = (214, 39, 40)


def view(
    kind: str, image: np.ndarray, labels: np.ndarray, discriminator: Discriminator, space: LabelSpace, share: float
) -> tuple[np.ndarray, str]:
    """An image under what the discriminator says of it.

    Args:
        kind: `CLASSES`, the most likely class of each pixel in its colour; or `FAKE`, the probability of "fake" as the
            opacity of red.
        image: (H, W, 3) uint8.
        labels: (H, W) ids that the image was drawn for.
        discriminator: in evaluation mode.
        space: the classes.
        share: opacity, 0 to 1.

    Returns:
        (H, W, 3) uint8, and what it says, in words.
    """
    seen, fake = (part[0].numpy(force=True) for part in discriminator_view(discriminator, to_tensor(image[None])))
    if kind == FAKE:
        red = np.broadcast_to(np.uint8(FAKE_COLOUR), image.shape)
        return tinted(image, red, share * fake), f"red is what the discriminator finds fake, {fake.mean():.0%}"
    known = labels != VOID
    right = float((seen == labels)[known].mean()) if known.any() else 0.0
    return tinted(image, space.colourise(seen), share), f"the discriminator names {right:.0%} as the map does"
