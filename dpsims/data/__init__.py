"""Data sets: the procedural ones, prepared folders, and the batches that training reads."""
