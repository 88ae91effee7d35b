"""The weights of a binary net whose other fields are not those of SSD-Caffe.

Spec: other-forks.md, first page. Forks gave the same numbers to different fields, so a file of
another fork may hold under a number what its type here cannot be read from. What weights need,
names and blobs, has the same numbers everywhere; a schema of these alone reads every such file.
"""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from caffe_ssd.proto.caffe_pb2 import DESCRIPTOR, NetParameter

_KEPT = {
    "NetParameter": {"name", "layer", "layers"},
    "LayerParameter": {"name", "type", "bottom", "top", "blobs"},
    "V1LayerParameter": {"name", "type", "bottom", "top", "blobs", "layer"},
}


def parse_weights(data: bytes) -> NetParameter:
    """Read names, types, bottoms, tops and blobs of a net's layers, and nothing else.

    Raises:
        DecodeError: not even that can be read.
    """
    reduced = _reduced_net()()
    reduced.ParseFromString(data)
    reduced.DiscardUnknownFields()
    return NetParameter.FromString(reduced.SerializeToString())


@cache
def _reduced_net() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb)
    for message in file.message_type:
        kept = _KEPT.get(message.name)
        if kept is not None:
            fields = [field for field in message.field if field.name in kept]
            del message.field[:]
            message.field.extend(fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
