"""A net as an SVG picture: boxes and links, what belongs together folded, heads at the side."""
