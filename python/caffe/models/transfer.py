"""A trained model as the start of one with other classes.

Only the class predictions depend on the classes. Their outputs, ordered by prior and then by class,
are picked by a class map, or left out and learnt anew; everything else stays as it is.
"""

import io

import numpy as np
from google.protobuf.message import DecodeError

from caffe.models.files import write_whole
from caffe.proto import caffe_pb2

CONF = "_mbox_conf"
COORDINATES = 4


def read_class_map(path, num_classes):
    """Return the old label of each new label, from lines of `old,new,name`.

    Args:
        path: e.g. data/coco/coco_voc_map.txt.
        num_classes: of the new model, background included.

    Raises:
        ValueError: the file cannot be read, a line is malformed, or a new label is not there.
    """
    try:
        with io.open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except EnvironmentError as error:
        raise ValueError("cannot read class map {}: {}".format(path, error.strerror))
    old_labels = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            old, new = (int(part) for part in line.split(",")[:2])
        except ValueError:
            wanted = "expected old label,new label,name"
            raise ValueError("{}:{}: {}, got {!r}".format(path, number, wanted, line))
        old_labels[new] = old
    if sorted(old_labels) != list(range(num_classes)):
        raise ValueError(
            ("class map {} has the new labels {}, but the model has labels 0 to {}").format(
                path, sorted(old_labels), num_classes - 1
            )
        )
    return [old_labels[label] for label in range(num_classes)]


def read_model(path):
    """Return the NetParameter of a caffemodel.

    Raises:
        ValueError: the file cannot be read, or is no binary caffemodel.
    """
    net = caffe_pb2.NetParameter()
    try:
        with io.open(path, "rb") as file:
            net.ParseFromString(file.read())
    except EnvironmentError as error:
        raise ValueError("cannot read model {}: {}".format(path, error.strerror))
    except DecodeError:
        raise ValueError("{} is no binary caffemodel".format(path))
    return net


def write_model(path, net):
    """Write a caffemodel through a temporary file beside it."""
    write_whole(path, net.SerializeToString())


def count_classes_of(net):
    """Return the number of classes that a trained detector tells apart, background included.

    Raises:
        ValueError: the model has no prediction layers of the multibox head.
    """
    sizes = {layer.name: layer.blobs[0].shape.dim[0] for layer in net.layer if layer.blobs}
    for name, size in sizes.items():
        boxes = sizes.get(name.replace(CONF, "_mbox_loc"))
        if name.endswith(CONF) and boxes is not None:
            return int(size) // (int(boxes) // COORDINATES)
    raise ValueError("the model has no layers *_mbox_loc and *_mbox_conf to count its classes by")


def has_head_batch_norm(net):
    """Return whether a trained detector has batch norm, or group norm, behind its predictions.

    None where the model has no predictions at all.
    """
    names = [layer.name for layer in net.layer]
    if not any(name.endswith(CONF) for name in names):
        return None
    return any(name.endswith((CONF + "_bn", CONF + "_gn")) for name in names)


def with_classes(net, old_labels):
    """Return a model that predicts only some of its classes, in a new order.

    Args:
        net: the trained detector.
        old_labels: for each new label the old one.

    Raises:
        ValueError: a label that the model does not have.
    """
    num_classes = count_classes_of(net)
    if max(old_labels) >= num_classes:
        raise ValueError(
            "label {} is none of the model's 0 to {}".format(max(old_labels), num_classes - 1)
        )
    picked = caffe_pb2.NetParameter()
    picked.CopyFrom(net)
    for layer in picked.layer:
        if CONF in layer.name:
            for blob in layer.blobs:
                _pick(blob, num_classes, old_labels)
    return picked


def _pick(blob, num_classes, labels):
    """Keep some classes of a blob whose first axis is priors x classes."""
    shape = list(blob.shape.dim)
    if shape[0] % num_classes != 0:
        return  # BatchNorm's factor
    values = np.array(blob.data, dtype=np.float32).reshape([-1, num_classes] + shape[1:])
    kept = values[:, labels]
    del blob.data[:]
    blob.data.extend(kept.ravel().tolist())
    blob.shape.dim[0] = kept.shape[0] * kept.shape[1]


def class_layers(net):
    """Return the names of the layers with weights that depend on a trained detector's classes."""
    return [layer.name for layer in net.layer if CONF in layer.name and layer.blobs]


def without_classes(net):
    """Return a model that has forgotten its class predictions."""
    kept = caffe_pb2.NetParameter()
    kept.CopyFrom(net)
    del kept.layer[:]
    kept.layer.extend(layer for layer in net.layer if CONF not in layer.name)
    return kept
