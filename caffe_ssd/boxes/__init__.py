"""Pure functions on boxes: overlap, coding, priors, matching, mining, NMS, average precision.

Boxes are [xmin, ymin, xmax, ymax], normalised to [0, 1] unless a name ends in `_px`.
"""
