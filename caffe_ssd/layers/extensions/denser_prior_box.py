"""PriorBox with `denser_prior_boxes`: each prior again, half a cell further down.

Spec: other-forks.md section 11.3. From TextBoxes++.
Quirk: the second prior's centre is a whole cell below the cell's beginning, whatever `offset` is.
"""

from __future__ import annotations

from caffe_ssd.layers.prior_box import PriorBox, prior_box, read_cell_sizes
from caffe_ssd.layers.registry import LayerSpec, register_layer

LOWER = 1.0


@register_layer(
    "PriorBox",
    bottoms=2,
    when=lambda param: param.prior_box_param.denser_prior_boxes,
    told_by="denser_prior_boxes: true",
)
def _build(spec: LayerSpec) -> PriorBox:
    param = spec.param.prior_box_param
    sizes = [size for size in read_cell_sizes(param) for _ in range(2)]
    centers = [(param.offset, param.offset), (LOWER, param.offset)]
    return prior_box(spec, sizes, centers * (len(sizes) // 2))
