"""How close two sets of pictures are: the feature networks, the distances, and the real images compared with."""
