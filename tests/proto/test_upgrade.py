"""Old nets come out as the reference upgrades them."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from caffe_ssd.errors import ProtoError, SolverError
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter, V1LayerParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net, upgrade_solver
from tests.support.golden import GOLDEN


def net(text: str) -> NetParameter:
    return parse_text(text, NetParameter())


def test_current_nets_stay_and_are_copied() -> None:
    old = net('name: "n" force_backward: true layer { name: "l" type: "ReLU" }')
    new = upgrade_net(old)
    assert new == old
    new.layer[0].name = "changed"
    assert old.layer[0].name == "l"


def test_input_is_never_changed() -> None:
    old = net("""input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
        layers { layer { name: "c" type: "conv" kernelsize: 3 } bottom: "x" top: "c" }""")
    before = old.SerializeToString()
    assert upgrade_net(old).layer[1].type == "Convolution"
    assert old.SerializeToString() == before


V0 = """
name: "v0" input: "x" input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 7 force_backward: true
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "x" top: "padded" }
layers {
  layer {
    name: "c" type: "conv" num_output: 4 kernelsize: 5 group: 2 stride: 3 biasterm: false
    weight_filler { type: "xavier" } blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
    blobs { num: 1 channels: 1 height: 1 width: 2 data: 5 data: 6 }
  }
  bottom: "padded" top: "c"
}
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1 }
  bottom: "c" top: "p" }
layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 2 beta: 0.5 k: 3 }
  bottom: "p" top: "n" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.25 scale: 3 } bottom: "n" top: "n" }
layers { layer { name: "f" type: "innerproduct" num_output: 5 biasterm: true
  bias_filler { value: 0.5 } } bottom: "n" top: "f" }
layers { layer { name: "cat" type: "concat" concat_dim: 0 } bottom: "f" bottom: "f" top: "cat" }
"""
V2 = """
name: "v0" force_backward: true
layer { name: "input" type: "Input" top: "x"
  input_param { shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer {
  name: "c" type: "Convolution" bottom: "x" top: "c"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  blobs { num: 1 channels: 1 height: 1 width: 2 data: 5 data: 6 }
  convolution_param { num_output: 4 kernel_size: 5 group: 2 stride: 3 bias_term: false pad: 2
    weight_filler { type: "xavier" } }
}
layer { name: "p" type: "Pooling" bottom: "c" top: "p"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "n" type: "LRN" bottom: "p" top: "n"
  lrn_param { local_size: 3 alpha: 2 beta: 0.5 k: 3 } }
layer { name: "d" type: "Dropout" bottom: "n" top: "n" dropout_param { dropout_ratio: 0.25 }
  transform_param { scale: 3 } }
layer { name: "f" type: "InnerProduct" bottom: "n" top: "f"
  inner_product_param { num_output: 5 bias_term: true bias_filler { value: 0.5 } } }
layer { name: "cat" type: "Concat" bottom: "f" bottom: "f" top: "cat"
  concat_param { concat_dim: 0 } }
"""


def test_v0() -> None:
    assert upgrade_net(net(V0)) == net(V2)


@pytest.mark.parametrize(
    ("v0", "v2"),
    [
        (
            """type: "data" source: "s" batchsize: 3 rand_skip: 4 scale: 0.5 meanfile: "m"
            cropsize: 7 mirror: true""",
            """type: "Data" data_param { source: "s" batch_size: 3 rand_skip: 4 }
            transform_param { scale: 0.5 mean_file: "m" crop_size: 7 mirror: true }""",
        ),
        (
            'type: "images" source: "s" shuffle_images: true new_height: 5 new_width: 6',
            """type: "ImageData" image_data_param { source: "s" shuffle: true
            new_height: 5 new_width: 6 }""",
        ),
        (
            """type: "window_data" source: "s" det_fg_threshold: 0.6 det_bg_threshold: 0.1
            det_fg_fraction: 0.2 det_context_pad: 3 det_crop_mode: "square" cropsize: 8""",
            """type: "WindowData" window_data_param { source: "s" fg_threshold: 0.6
            bg_threshold: 0.1 fg_fraction: 0.2 context_pad: 3 crop_mode: "square" }
            transform_param { crop_size: 8 }""",
        ),
        (
            'type: "hdf5_output" hdf5_output_param { file_name: "o" }',
            'type: "HDF5Output" hdf5_output_param { file_name: "o" }',
        ),
        (
            'type: "infogain_loss" source: "h"',
            """type: "InfogainLoss"
            infogain_loss_param { source: "h" }""",
        ),
        ('type: "hdf5_data" batchsize: 2', 'type: "HDF5Data" hdf5_data_param { batch_size: 2 }'),
        ('type: "softmax_loss"', 'type: "SoftmaxWithLoss"'),
    ],
)
def test_v0_settings(v0: str, v2: str) -> None:
    assert upgrade_net(net(f"layers {{ layer {{ {v0} }} }}")) == net(f"layer {{ {v2} }}")


def test_v0_settings_without_meaning_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        new = upgrade_net(net('layers { layer { name: "r" type: "relu" group: 2 } }'))
    assert new == net('layer { name: "r" type: "ReLU" }')
    assert "'r': group means nothing to a V0 layer of type 'relu'" in caplog.text


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ('layers { layer { name: "l" type: "covn" } }', "unknown V0 layer type 'covn'; did you me"),
        ('layers { layer { name: "l" type: "relu" } bottom: "y" }', "'l': bottom 'y' is produced"),
        (
            """layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "y" }
            layers { layer { name: "r" type: "relu" } bottom: "y" top: "r" }""",
            "padding layer 'p' feeds layer 'r' of type 'relu'; only conv and pool",
        ),
        (
            """layers { layer { name: "p" type: "padding" } bottom: "x" top: "y" top: "z" }
            layers { layer { name: "c" type: "conv" } bottom: "y" top: "c" }""",
            "padding layer 'p' has 1 bottoms and 2 tops",
        ),
    ],
)
def test_v0_refusals(layers: str, complaint: str) -> None:
    with pytest.raises(ProtoError, match=complaint):
        upgrade_net(net(f'input: "x" {layers}'))


def test_v1() -> None:
    old = net("""
        state { level: 3 }
        layers { name: "d" type: DATA top: "x" include { phase: TRAIN }
          data_param { source: "s" scale: 0.5 mean_file: "m" crop_size: 7 mirror: true }
          transform_param { scale: 9 mean_value: 4 } }
        layers { name: "w" type: WINDOW_DATA window_data_param { crop_size: 3 } }
        layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { pad: 1 }
          blobs { data: 1 } param: "a" param: "b" blobs_lr: 0 weight_decay: 3 weight_decay: 4
          weight_decay: 5 blob_share_mode: PERMISSIVE }
        layers { name: "l" type: SOFTMAX_LOSS bottom: "c" loss_weight: 2 exclude { stage: "s" }
          loss_param { ignore_label: 4 } }
        layers { name: "none" type: NONE }""")
    want = net("""
        state { level: 3 }
        layer { name: "d" type: "Data" top: "x" include { phase: TRAIN } data_param { source: "s" }
          transform_param { scale: 0.5 mean_file: "m" crop_size: 7 mirror: true mean_value: 4 } }
        layer { name: "w" type: "WindowData" window_data_param { }
          transform_param { crop_size: 3 } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { pad: 1 }
          blobs { data: 1 }
          param { name: "a" lr_mult: 0 decay_mult: 3 share_mode: PERMISSIVE }
          param { name: "b" decay_mult: 4 } param { decay_mult: 5 } }
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" loss_weight: 2
          exclude { stage: "s" } loss_param { ignore_label: 4 } }
        layer { name: "none" type: "" }""")
    assert upgrade_net(old) == want


def test_every_v1_field_and_type_is_known() -> None:
    old = NetParameter()
    for value in V1LayerParameter.LayerType.values():
        old.layers.add(type=value)
    for field in V1LayerParameter.DESCRIPTOR.fields:
        if field.message_type is not None and field.name.endswith("_param"):
            getattr(old.layers.add(), field.name).SetInParent()
    new = upgrade_net(old)
    assert len({layer.type for layer in new.layer}) == len(V1LayerParameter.LayerType.values())
    for before, after in zip(old.layers, new.layer, strict=True):
        kept = [field.name for field, _ in before.ListFields() if field.name != "type"]
        assert [f.name for f, _ in after.ListFields() if f.name != "type"] == kept


def test_data_transform_of_current_layers_stays() -> None:
    old = net('layer { type: "Data" data_param { scale: 2 } }')
    assert upgrade_net(old) == old


def test_mixed_kinds_are_refused() -> None:
    with pytest.raises(ProtoError, match=r"1 `layer` and 2 old-style `layers`"):
        upgrade_net(net("layer { } layers { } layers { }"))


def test_input_shape_wins_over_input_dim() -> None:
    old = net("""input: "a" input: "b" input_shape { dim: 5 } input_shape { dim: 3 dim: 2 }
        input_dim: 1 layer { name: "l" }""")
    want = net("""layer { name: "input" type: "Input" top: "a" top: "b"
        input_param { shape { dim: 5 } shape { dim: 3 dim: 2 } } } layer { name: "l" }""")
    assert upgrade_net(old) == want


def test_inputs_without_shapes_are_dropped() -> None:
    assert upgrade_net(net('input: "a" layer { name: "l" }')) == net('layer { name: "l" }')


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ("input_shape { dim: 5 }", r"2 inputs \(a, b\) but 1 input_shape"),
        ("input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5", "but 5 input_dim"),
    ],
)
def test_too_few_input_shapes(shapes: str, complaint: str) -> None:
    with pytest.raises(ProtoError, match=complaint):
        upgrade_net(net(f'input: "a" input: "b" {shapes}'))


@pytest.mark.parametrize(("given", "kept"), [(1, 1), (2, 2), (3, 0), (4, 4)])
def test_batch_norm_params(given: int, kept: int) -> None:
    text = 'layer {{ type: "{}" {} }}'
    old = net(text.format("BatchNorm", "param { lr_mult: 0 } " * given))
    assert len(upgrade_net(old).layer[0].param) == kept
    other = net(text.format("Scale", "param { lr_mult: 0 } " * given))
    assert upgrade_net(other) == other


@pytest.mark.parametrize("old", SolverParameter.SolverType.keys())
def test_solver_types(old: str) -> None:
    solver = SolverParameter(solver_type=SolverParameter.SolverType.Value(old))
    new = upgrade_solver(solver)
    assert new.type.upper() == old
    assert not new.HasField("solver_type")
    assert solver.HasField("solver_type")


def test_solver_with_both_types() -> None:
    solver = SolverParameter(type="SGD", solver_type=SolverParameter.ADAM)
    with pytest.raises(SolverError, match="'SGD' and the deprecated solver_type: ADAM"):
        upgrade_solver(solver)


@pytest.mark.parametrize("case", ["v0_layers", "v1_layers", "v1_losses"])
def test_recorded_old_nets_have_the_recorded_layers(case: str) -> None:
    with np.load(GOLDEN / "layers" / "Net" / f"{case}.npz") as recorded:
        new = upgrade_net(net(str(recorded["prototxt"])))
        wanted = [name for name in recorded["layer_names"].tolist() if "_split" not in name]
    unconditional = [layer.name for layer in new.layer if not layer.include and not layer.exclude]
    assert set(unconditional) <= set(wanted)
    assert [layer.name for layer in new.layer if layer.name in wanted] == wanted
