"""Weights into and out of a net, as caffemodel and as HDF5."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from caffe_ssd.errors import FileError, ProtoError, WeightsError
from caffe_ssd.net.weights import (
    copy_trained,
    copy_trained_file,
    fill_blobs,
    load_hdf5,
    save_binary,
    save_hdf5,
)
from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter
from caffe_ssd.proto.text import parse_text
from tests.support.golden import GOLDEN

SNAPSHOTS = GOLDEN / "logs" / "classification" / "snapshots"


class FakeNet:
    """A net as far as weights are concerned; every value starts as -1."""

    def __init__(self, layers: Sequence[tuple[str, Sequence[nn.Parameter]]]) -> None:
        self.layers = layers

    def layer_blobs(self) -> Sequence[tuple[str, Sequence[nn.Parameter]]]:
        return self.layers

    def to_proto(self, with_diff: bool = False) -> NetParameter:
        message = NetParameter()
        for name, blobs in self.layers:
            fill_blobs(message.layer.add(name=name), blobs, diff=with_diff)
        return message

    def values(self) -> dict[str, list[list[float]]]:
        return {n: [b.detach().flatten().tolist() for b in blobs] for n, blobs in self.layers}


def blob(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, -1.0))


def some_net() -> FakeNet:
    return FakeNet([("data", []), ("conv", [blob(2, 1, 1, 3), blob(2)]), ("ip", [blob(3, 2)])])


def counted(shape: Sequence[int], start: float = 0.0) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + start


def message(**layers: Sequence[np.ndarray]) -> NetParameter:
    net = NetParameter()
    for name, arrays in layers.items():
        net.layer.add(name=name).blobs.extend([array_to_blob(array) for array in arrays])
    return net


def test_layers_are_found_by_name(caplog: pytest.LogCaptureFixture) -> None:
    net = some_net()
    conv = [counted((2, 1, 1, 3)), counted((2,), 10)]
    with caplog.at_level(logging.INFO):
        report = copy_trained(net, message(split=[], conv=conv, loss=[], data=[]), "m")
    assert net.values() == {"data": [], "conv": [[0, 1, 2, 3, 4, 5], [10, 11]], "ip": [[-1] * 6]}
    assert report.copied == ("conv",)
    assert report.ignored == ("split", "loss")
    assert report.untouched == ("ip",)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["Ignoring source layer split", "Ignoring source layer loss"]


def test_parameters_keep_identity_type_and_gradient_flag() -> None:
    target = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64), requires_grad=False)
    copy_trained(FakeNet([("ip", [target])]), message(ip=[counted((2, 3))]), "m")
    assert target.dtype == torch.float64
    assert target.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert not target.requires_grad
    assert target.grad is None


def test_first_of_two_layers_of_a_name_is_loaded_and_the_last_entry_wins() -> None:
    net = FakeNet([("a", [blob(2)]), ("a", [blob(3)])])
    source = message(a=[counted((2,))])
    source.layer.extend(message(a=[counted((2,), 5)]).layer)
    assert copy_trained(net, source, "m").copied == ("a",)
    assert net.layers[0][1][0].tolist() == [5, 6]
    assert net.layers[1][1][0].tolist() == [-1, -1, -1]


def test_shared_blobs_take_the_last_write() -> None:
    shared = blob(2)
    net = FakeNet([("a", [shared]), ("b", [shared])])
    source = message(b=[counted((2,), 3)], a=[counted((2,), 7)])
    assert copy_trained(net, source, "m").untouched == ()
    assert shared.tolist() == [7, 8]
    assert copy_trained(net, message(b=[counted((2,))]), "m").untouched == ()


@pytest.mark.parametrize(
    ("legacy", "shape", "fits"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), True),
        ((1, 1, 1, 6), (6,), True),
        ((1, 1, 2, 3), (2, 3), True),
        ((1, 1, 1, 1), (), True),
        ((6, 1, 1, 1), (6,), False),
        ((1, 6, 1, 1), (6,), True),
        ((1, 1, 3, 2), (2, 3), False),
        ((1, 2, 3, 4), (1, 1, 2, 3, 4), False),
    ],
)
def test_legacy_shapes(legacy: tuple[int, ...], shape: tuple[int, ...], fits: bool) -> None:
    net = FakeNet([("l", [blob(*shape)])])
    values = counted(legacy)
    source = NetParameter()
    axes = dict(zip(("num", "channels", "height", "width"), legacy, strict=True))
    source.layer.add(name="l").blobs.add(data=values.ravel(), **axes)
    if fits:
        copy_trained(net, source, "m")
        assert net.values()["l"] == [values.ravel().tolist()]
    else:
        with pytest.raises(WeightsError, match="shape mismatch"):
            copy_trained(net, source, "m")


def test_current_shapes_must_be_identical() -> None:
    source = message(conv=[counted((2, 1, 1, 3)), counted((1, 1, 1, 2))], ip=[counted((2, 3))])
    net = some_net()
    with pytest.raises(WeightsError) as caught:
        copy_trained(net, source, "old.caffemodel")
    assert str(caught.value).startswith(
        "Cannot copy param 1 weights from layer 'conv'; shape mismatch. The source has "
        "1 1 1 2 (2), the net wants 2 (2). (weights from old.caffemodel)\n"
        "  Cannot copy param 0 weights from layer 'ip'; shape mismatch."
    )
    assert {v for values in net.values().values() for blob in values for v in blob} == {-1}


@pytest.mark.parametrize(
    "source",
    [message(conv=[counted((2, 1, 1, 3))]), message(conv=[]), message(data=[counted((2,))])],
)
def test_number_of_blobs_must_be_equal(source: NetParameter) -> None:
    complaint = f"^Incompatible number of blobs for layer {source.layer[0].name}"
    with pytest.raises(WeightsError, match=complaint):
        copy_trained(some_net(), source, "m")


def test_faults_are_listed_with_advice() -> None:
    source = message(conv=[counted((2, 1, 1, 3))])
    with pytest.raises(WeightsError) as caught:
        copy_trained(some_net(), source, "m", advice="Do something.")
    assert str(caught.value) == (
        "Incompatible number of blobs for layer conv: the source has 1 blob: 2 1 1 3 (6), the net "
        "wants 2 blobs: 2 1 1 3 (6); 2 (2). (weights from m)\n  Do something."
    )
    net = FakeNet([(f"l{i}", [blob(2)]) for i in range(30)])
    source = message(**{f"l{i}": [counted((3,))] for i in range(30)})
    with pytest.raises(WeightsError, match=r"'l19'; .*\n  10 more layers do not fit\.$"):
        copy_trained(net, source, "m")


def test_number_of_values_is_checked_before_anything_is_copied() -> None:
    source = message(ip=[counted((3, 2))])
    source.layer.add(name="conv").blobs.extend([array_to_blob(counted((2, 1, 1, 3)))] * 2)
    source.layer[1].blobs[1].CopyFrom(array_to_blob(counted((2,))))
    source.layer[1].blobs[0].data.append(9)
    net = some_net()
    with pytest.raises(WeightsError, match=r"param 0 of layer 'conv': .* 6 values, its data has 7"):
        copy_trained(net, source, "m")
    assert net.values()["ip"] == [[-1] * 6]


def test_doubles_and_diffs() -> None:
    net = some_net()
    source = NetParameter()
    entry = source.layer.add(name="ip").blobs.add(double_data=range(6), diff=range(6, 12))
    entry.shape.dim.extend([3, 2])
    copy_trained(net, source, "m")
    (target,) = net.layers[2][1]
    assert target.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert target.grad is not None
    assert target.grad.tolist() == [[6, 7], [8, 9], [10, 11]]


def test_messages_written_and_read_back(tmp_path: Path) -> None:
    net = some_net()
    copy_trained(net, message(ip=[counted((3, 2))]), "m")
    net.layers[2][1][0].grad = torch.ones(3, 2)
    save_binary(net, tmp_path / "m.caffemodel", diff=True)
    again = some_net()
    copy_trained_file(again, tmp_path / "m.caffemodel")
    assert again.values() == net.values()
    assert again.layers[2][1][0].grad.tolist() == [[1, 1]] * 3
    assert again.layers[1][1][1].grad.tolist() == [0, 0]


def test_fill_blobs_replaces() -> None:
    layer = LayerParameter(name="l")
    fill_blobs(layer, [blob(2, 3), blob(4)])
    fill_blobs(layer, [torch.tensor([1.5, 2.5], dtype=torch.bfloat16)])
    assert layer == parse_text(
        'name: "l" blobs { shape { dim: 2 } data: 1.5 data: 2.5 }', LayerParameter()
    )


def hdf5(path: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("data")
        for name, values in datasets.items():
            file[f"data/{name.replace('__', '/')}"] = values
    return path


def test_hdf5_round_trip_with_shared_blobs(tmp_path: Path) -> None:
    path = tmp_path / "m.caffemodel.h5"
    shared = blob(2, 3)
    layers = [
        ("data", []),
        ("a", [shared, blob(2)]),
        ("b", [shared, blob(5)]),
        ("in/1x1", [blob()]),
    ]
    net = FakeNet(layers)
    with torch.no_grad():
        shared.copy_(torch.arange(6.0).reshape(2, 3))
    shared.grad = torch.full((2, 3), 4.0)
    save_hdf5(net, path, diff=True)
    with h5py.File(path) as file:
        assert sorted(file["data"]) == ["a", "b", "data", "in"]
        assert list(file["data/data"]) == []
        assert list(file["data/b"]) == ["1"]
        assert list(file["diff/b"]) == ["0", "1"]
        assert file["data/a/0"].dtype == np.dtype("<f4")
        assert file["diff/b/0"][1, 2] == 4
    want = net.values()
    with torch.no_grad():
        for _, blobs in layers:
            for entry in blobs:
                entry.fill_(-2)
    report = load_hdf5(net, path)
    assert net.values() == want
    assert (report.copied, report.ignored, report.untouched) == (("a", "b", "in/1x1"), (), ())


def test_hdf5_takes_integers_other_shapes_and_the_last_layer_of_a_name(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "m.h5", a__0=np.arange(6).reshape(2, 3), other__0=np.zeros(2))
    net = FakeNet([("a", [blob(5)]), ("a", [blob(3, 2)])])
    report = copy_trained_file(net, path)
    assert net.layers[1][1][0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert net.layers[0][1][0].tolist() == [-1] * 5
    assert report.ignored == ("other",)


@pytest.mark.parametrize(
    ("datasets", "complaint"),
    [
        ({"ip__0": counted((6,)), "ip__1": counted((2,))}, "Incompatible number .* layer ip"),
        ({"conv__0": counted((6,))}, "Incompatible number .* layer conv"),
        ({"ip__0": counted((7,))}, r"'ip'; shape mismatch. .* 7 \(7\), the net wants 3 2 \(6\)"),
        ({"ip__0": np.array([b"text"] * 6)}, r"param 0 of layer 'ip': .* \|S4, not numbers"),
    ],
)
def test_hdf5_refusals(tmp_path: Path, datasets: dict[str, np.ndarray], complaint: str) -> None:
    net = some_net()
    path = hdf5(tmp_path / "m.h5", **datasets)
    with pytest.raises(WeightsError, match=complaint):
        load_hdf5(net, path)
    assert net.values() == some_net().values()


def test_hdf5_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^Could not open file .*none\.h5"):
        copy_trained_file(some_net(), tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ProtoError, match=r"text\.h5: not an HDF5 file"):
        copy_trained_file(some_net(), tmp_path / "text.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(WeightsError, match="has no group /data"):
        copy_trained_file(some_net(), tmp_path / "empty.h5")


def test_hdf5_cannot_hold_two_layers_of_a_name(tmp_path: Path) -> None:
    net = FakeNet([("a", [blob(2)]), ("a", [blob(3)])])
    with pytest.raises(WeightsError, match="two layers are named 'a'"):
        save_hdf5(net, tmp_path / "m.h5")
    assert os.listdir(tmp_path) == []


def net_like(weights: NetParameter) -> FakeNet:
    return FakeNet(
        [(layer.name, [blob(*b.shape.dim) for b in layer.blobs]) for layer in weights.layer]
    )


def test_recorded_binary_snapshot() -> None:
    path = SNAPSHOTS / "cls_iter_30.caffemodel"
    weights = read_weights(path)
    net = net_like(weights)
    report = copy_trained_file(net, path)
    assert (report.copied, report.ignored, report.untouched) == (("conv1", "ip1"), (), ())
    for (_, blobs), layer in zip(net.layer_blobs(), weights.layer, strict=True):
        for have, want in zip(blobs, layer.blobs, strict=True):
            np.testing.assert_array_equal(have.detach().numpy(), blob_to_array(want), strict=True)
        again = LayerParameter()
        fill_blobs(again, blobs)
        assert list(again.blobs) == list(layer.blobs)


def test_recorded_hdf5_snapshot_both_ways(tmp_path: Path) -> None:
    path = SNAPSHOTS / "cls_h5_iter_30.caffemodel.h5"
    net = net_like(read_weights(SNAPSHOTS / "cls_iter_30.caffemodel"))
    report = copy_trained_file(net, path)
    assert (report.copied, report.ignored, report.untouched) == (("conv1", "ip1"), (), ())
    save_hdf5(net, tmp_path / "again.h5")
    with h5py.File(path) as want, h5py.File(tmp_path / "again.h5") as have:
        names: list[str] = []
        want.visit(names.append)
        found: list[str] = []
        have.visit(found.append)
        assert found == names
        for name in names:
            if isinstance(want[name], h5py.Dataset):
                assert have[name].dtype == want[name].dtype
                np.testing.assert_array_equal(have[name][()], want[name][()], strict=True)


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_what_does_not_fit_can_be_skipped(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"w.{suffix}"
    other = FakeNet([("conv", [blob(2, 1, 1, 3), blob(5)]), ("ip", [blob(3, 2)])])
    with torch.no_grad():
        for _, blobs in other.layers:
            for values in blobs:
                values.fill_(7)
    (save_hdf5 if suffix.endswith("h5") else save_binary)(other, path)
    net = some_net()
    with caplog.at_level(logging.WARNING):
        copy_trained_file(net, path, skip_misfits=True)
    assert net.values() == {"data": [], "conv": [[-1] * 6, [-1] * 2], "ip": [[7] * 6]}
    (record,) = caplog.records
    assert record.message.startswith(
        "Skipped: Cannot copy param 1 weights from layer 'conv'; shape mismatch."
    )
