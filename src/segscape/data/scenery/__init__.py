"""The parts of the procedural scenes: a camera and canvas, noise textures, nature, town and traffic."""
