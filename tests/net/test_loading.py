"""A load says how much of the net it filled, and refuses what cannot be meant."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_ssd.errors import WeightsError
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.loading import load_weights, load_whole
from caffe_ssd.net.weights import save_binary, save_hdf5
from caffe_ssd.proto.caffe_pb2 import TEST, NetParameter, NetState
from caffe_ssd.proto.text import parse_text

INPUT = """
layer { name: "x" type: "Input" top: "x"
  input_param { shape { dim: 1 dim: 2 dim: 3 dim: 5 } } }
"""
CONV = """
layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
  convolution_param {{ num_output: {2} kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
"""


def net(*names: str) -> Net:
    """A chain of convolutions; the channels differ from one to the next."""
    text = INPUT
    for i, (bottom, name) in enumerate(zip(("x", *names), names, strict=False)):
        text += CONV.format(name, bottom, i + 3)
    return build_net(parse_text(text, NetParameter()), NetState(phase=TEST))


def saved(path: Path, *names: str) -> Path:
    (save_hdf5 if path.suffix == ".h5" else save_binary)(net(*names), path)
    return path


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_all_some_none(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    path = saved(tmp_path / name, "a", "b", "c")
    caplog.set_level(logging.INFO, "caffe_ssd")
    load_weights(net("a", "b", "c"), [path], advice="")
    assert f"Filled all 3 learnable layers from {path}" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    load_weights(net("a", "b", "k"), [path], advice="")
    assert caplog.records[-1].levelno == logging.WARNING
    assert "fills 2 of 3 learnable layers, not k; they keep their initial" in caplog.text
    with pytest.raises(WeightsError, match=r"fills 2 of 3 .*, not k\. Look\. With allow_unfilled"):
        load_weights(net("a", "b", "k"), [path], advice="Look.", needs_all=True)
    with pytest.raises(
        WeightsError,
        match=r"fills 0 of 2 learnable layers: the file has a, b, c, the net wants k, l\. Look\.$",
    ):
        load_weights(net("k", "l"), [path], advice="Look.")


def test_several_files_count_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = saved(tmp_path / "1.caffemodel", "a")
    second = saved(tmp_path / "2.caffemodel.h5", "other", "b")
    with caplog.at_level(logging.INFO, "caffe_ssd"):
        load_weights(net("a", "b"), [first, second], advice="", needs_all=True)
    assert f"Filled all 2 learnable layers from {first}, {second}" in caplog.text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.caffemodel", "a")
    names = [f"layer{i}" for i in range(30)]
    with pytest.raises(WeightsError, match=r"layer18, layer19 and 10 more"):
        load_weights(net(*names), [path], advice="")


def test_a_net_without_blobs_wants_nothing(tmp_path: Path) -> None:
    load_weights(net(), [saved(tmp_path / "w.caffemodel", "a")], advice="", needs_all=True)


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, name: str, value: float) -> None:
    broken = net("a", "b")
    with torch.no_grad():
        broken.layers[2].blobs[1][2] = value
    (save_hdf5 if name.endswith(".h5") else save_binary)(broken, tmp_path / name)
    target = net("a", "b")
    before = [blob.detach().clone() for blob in target.parameters()]
    with pytest.raises(WeightsError, match=r"w\.caffemodel.* not finite in layer b: "):
        load_weights(target, [tmp_path / name], advice="")
    torch.testing.assert_close(list(target.parameters()), before, rtol=0, atol=0)


def test_whole_or_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.caffemodel", "a", "b")
    target = net("a", "k")
    before = [blob.detach().clone() for blob in target.parameters()]
    with pytest.raises(WeightsError, match=r"fills 1 of 2 learnable layers, not k\. Why\."):
        load_whole(target, path, "Why.")
    torch.testing.assert_close(list(target.parameters()), before, rtol=0, atol=0)
