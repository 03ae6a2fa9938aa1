"""The seed of every image of an evaluation; it tells which map the image is for."""

MAX_MAPS, MAX_SAMPLES = 1_000_000, 1000  # `sample_seed` gives each map so many seeds of its own


def sample_seed(seed: int, map_index: int, draw: int) -> int:
    """Seed of draw number `draw` (< 1000) of map `map_index` (< 1,000,000) in an evaluation with `seed`: all differ."""
    return (seed * MAX_MAPS + map_index) * MAX_SAMPLES + draw


def map_and_draw(seed: int) -> tuple[int, int]:
    """The map and the number of the draw that `sample_seed` made a seed of."""
    return seed // MAX_SAMPLES % MAX_MAPS, seed % MAX_SAMPLES
