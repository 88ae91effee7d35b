"""The catalogue of published models: scores, sizes, and the commands that train and use each.

* tables      the papers' numbers, a row for each training
* ablations   DSOD's ablation table
* nets        the nets of the rows, built to be looked at
"""

from caffe.catalogue.ablations import ABLATIONS, AblationRow
from caffe.catalogue.nets import Map, Model, Models, body_settings, look_at
from caffe.catalogue.published import PAPERS, Published
from caffe.catalogue.tables import CATALOGUE, FAMILIES

__all__ = [
    "ABLATIONS",
    "CATALOGUE",
    "FAMILIES",
    "PAPERS",
    "AblationRow",
    "Map",
    "Model",
    "Models",
    "Published",
    "body_settings",
    "look_at",
]
