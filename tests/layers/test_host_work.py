"""What layers make on the host, apart from the pass that asks for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffe_ssd.boxes.ground_truth import GroundTruth, read_ground_truth
from caffe_ssd.errors import LayerError
from caffe_ssd.layers.host_work import HostWork
from caffe_ssd.layers.run_context import RunContext
from tests.layers.test_multibox_loss import build, example

CPU = torch.device("cpu")


def ground_truth(label: Tensor) -> GroundTruth:
    return read_ground_truth(label, num_images=2, background_label_id=0, use_difficult=True)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "match_type: BIPARTITE",
        "use_prior_for_matching: false bp_inside: true",
        "mining_type: HARD_EXAMPLE sample_size: 4",
        "conf_loss_type: LOGISTIC",
    ],
)
def test_padding_changes_no_number(settings: str) -> None:
    found = []
    for length in (None, 16):
        loc, conf, priors, label = (x.detach() for x in example())
        loc.requires_grad_()
        conf.requires_grad_()
        context = RunContext(device=CPU)
        if length is not None:
            made = ground_truth(label).padded(length)
            assert made.length == length
            context.host_work = HostWork(steps=[], given=iter([made]))
        loss = build(settings)(loc, conf, priors, label, context=context)
        loss.backward()
        found.append([loss.detach(), loc.grad, conf.grad])
    for plain, padded in zip(*found, strict=True):
        assert torch.equal(plain, padded)


def test_who_notes_steps_wants_the_blob_of_a_source() -> None:
    context = RunContext(device=CPU, host_work=HostWork(steps=[]))
    label = example()[3]
    with pytest.raises(LayerError, match="a label that is not a data layer's own"):
        context.from_host(label, ground_truth)
    with pytest.raises(LayerError, match="decides on the host what the device has to do"):
        context.on_host(label)
    assert (
        RunContext(device=CPU).from_host(label, ground_truth).length == ground_truth(label).length
    )


def test_labels_that_are_no_class() -> None:
    label = example()[3].clone()
    assert ground_truth(label).is_plain
    label[0, 0, 0, 1] = -2
    assert not ground_truth(label).is_plain
