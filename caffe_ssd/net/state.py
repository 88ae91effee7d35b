"""What of a prototxt becomes a net: `include` and `exclude` rules against a NetState.

Spec: caffe-net.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, NetStateRule


def filter_net(
    param: NetParameter, state: NetState, note: Callable[[str], None] | None = None
) -> NetParameter:
    """The net without the layers whose rules do not fit the state; it carries that state.

    Args:
        param: an upgraded net.
        state: what the rules are held against.
        note: told about every rule that is looked at and not met, in the words of the log.

    Raises:
        LayerParamError: a layer has both kinds of rules.
    """
    filtered = NetParameter()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    filtered.state.CopyFrom(state)
    filtered.layer.extend(layer for layer in param.layer if _is_kept(layer, state, note))
    return filtered


def without_result_files(param: NetParameter) -> NetParameter:
    """A copy of a net that saves no detections.

    A generated deploy net names the folder of its results and the files that describe the test
    set; a net for pictures needs none of them.
    """
    plain = NetParameter()
    plain.CopyFrom(param)
    for layer in plain.layer:
        if layer.HasField("detection_output_param"):
            layer.detection_output_param.ClearField("save_output_param")
    return plain


def _is_kept(layer: LayerParameter, state: NetState, note: Callable[[str], None] | None) -> bool:
    if layer.include and layer.exclude:
        raise LayerParamError(
            f"has {len(layer.include)} include and {len(layer.exclude)} exclude rules; "
            "give one kind only",
            layer=layer.name,
            layer_type=layer.type,
        )

    def is_met(rule: NetStateRule) -> bool:
        complaint = _complaint(rule, state)
        if complaint and note is not None:
            note(f"The NetState {complaint} specified by a rule in layer {layer.name}")
        return not complaint

    if layer.include:
        return any(map(is_met, layer.include))
    return not any(map(is_met, layer.exclude))


def _complaint(rule: NetStateRule, state: NetState) -> str:
    """The first condition of a rule that does not hold; nothing if all do, as in an empty rule."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return f"phase ({state.phase}) differed from the phase ({rule.phase})"
    if rule.HasField("min_level") and state.level < rule.min_level:
        return f"level ({state.level}) is below the min_level ({rule.min_level})"
    if rule.HasField("max_level") and state.level > rule.max_level:
        return f"level ({state.level}) is above the max_level ({rule.max_level})"
    for stage in rule.stage:
        if stage not in state.stage:
            return f"lacks the stage {stage!r}"
    for stage in rule.not_stage:
        if stage in state.stage:
            return f"has the stage {stage!r}, which is a not_stage"
    return ""
