"""How good generated images are: segmentation, Fréchet distance, diversity, and the rows to read them beside."""
