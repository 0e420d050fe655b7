"""How much the pictures of one layout differ: perceptual distances, and their means over pictures and classes."""
