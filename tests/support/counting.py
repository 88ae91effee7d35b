"""The size of all blobs of a net."""

from __future__ import annotations

from caffe_ssd.net.cost import net_cost, net_to_look_at
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.upgrade import upgrade_net


def count_floats(param: NetParameter) -> int:
    """How many numbers the layers of a net keep."""
    net = net_to_look_at(upgrade_net(param), NetState(phase=Phase.TEST))
    return net_cost(net).num_parameters
