"""Which layers of a prototxt belong to a net: `include` and `exclude` rules against a NetState.

Spec: caffe-net.md section 3.
"""

from __future__ import annotations

from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, NetStateRule


def filter_net(param: NetParameter, state: NetState) -> NetParameter:
    """The net without the layers whose rules do not fit the state; it carries that state.

    Raises:
        LayerParamError: a layer has both kinds of rules.
    """
    filtered = NetParameter()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    filtered.state.CopyFrom(state)
    filtered.layer.extend(layer for layer in param.layer if _is_kept(layer, state))
    return filtered


def _is_kept(layer: LayerParameter, state: NetState) -> bool:
    if layer.include and layer.exclude:
        raise LayerParamError(
            f"has {len(layer.include)} include and {len(layer.exclude)} exclude rules; "
            "give one kind only",
            layer=layer.name,
            layer_type=layer.type,
        )
    if layer.include:
        return any(_is_met(rule, state) for rule in layer.include)
    return not any(_is_met(rule, state) for rule in layer.exclude)


def _is_met(rule: NetStateRule, state: NetState) -> bool:
    """Whether every condition the rule states holds; an empty rule always does."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    stages = set(state.stage)
    return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)
