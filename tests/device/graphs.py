"""What is tried of CUDA graphs on the simulated device; see scenarios.py and test_graphs.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from caffe.models.dsod_recipes import DSOD
from caffe.models.recipe import make_nets
from torch import Tensor

from caffe_ssd.errors import CaffeError
from caffe_ssd.layers.registry import Layer, LayerSpec, SourceLayer, register_layer
from caffe_ssd.net import Net, NetResult, captured
from caffe_ssd.net.without_data import images, label_blob, objects
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net
from caffe_ssd.solver import Solver
from tests.support.simulated_device import WAITS

DEVICE = torch.device("cuda:0")
DROPOUT = 'type: "Dropout" dropout_param { dropout_ratio: 0.3 }'
SETTINGS = """
base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 random_seed: 1 max_iter: 100
lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 7 snapshot_after_train: false
"""


class Varied(SourceLayer):
    """Another batch in every pass, with more or fewer objects.

    Args:
        size: of its square pictures.
    """

    boxes_top = 1
    sizes: Sequence[int] = (2,)  # images of a batch, in turn
    label: int | None = None  # of all objects
    newest = 0  # batch that was made

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.batch = 0

    def top_shapes(self, *bottoms: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (self.sizes[0], 3, self.size, self.size), (1, 1, 1, 8)

    def forward(self) -> tuple[Tensor, Tensor]:
        seed = Varied.newest = self.batch
        self.batch += 1
        count = self.sizes[seed % len(self.sizes)]
        found = objects(count, per_image=(1, 3, 11)[seed % 3], num_classes=6, seed=seed)
        label = label_blob(found)
        if self.label is not None:
            label[..., 1] = self.label
        return images(count, size=self.size, seed=seed), label

    def seek(self, batch: int) -> None:
        self.batch = batch


class Moody(Layer):
    """Multiplies by what it counts on the host, which no graph would see."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, bottom: Tensor) -> Tensor:
        self.count += 1
        return bottom * (1 + 0.5 * self.count)


class Honest(Moody):
    """Says so."""

    can_repeat = False


class Seasonal(Layer):
    """Does something else from a certain batch on."""

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom * (2 if Varied.newest > 8 else 1)


class Asking(Layer):
    """Asks the device before it goes on."""

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom if bool(bottom.sum() > 0) else 2 * bottom


class _AskInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> Tensor:
        return diffs[0] if bool(diffs[0].sum() > 0) else 1 * diffs[0]


class AskingBack(Layer):
    """Asks the device in the backward pass."""

    def forward(self, bottom: Tensor) -> Tensor:
        return _AskInBackward.apply(bottom)


@register_layer("Varied", bottoms=0, tops=2)
def _build_varied(spec: LayerSpec) -> Varied:
    return Varied(96)


for kind in (Moody, Honest, Seasonal, Asking, AskingBack):
    register_layer(kind.__name__)(lambda spec, kind=kind: kind())


@dataclass(kw_only=True)
class Way:
    """How to train.

    Args:
        iter_size: passes of an iteration.
        groups: whether they are made as one.
        channels_last: as the flag.
        checkpoint: as the flag.
        bf16: as the flag.
        settings: more of the solver's.
        before_loss: a layer put in the way of the loss's locations, as text.
        loss: more of the loss's settings.
        sizes: images of a batch, in turn.
        most_graphs: shapes that are captured.
        check_every: replays, of which one is compared.
    """

    iter_size: int = 1
    groups: bool = False
    channels_last: bool = False
    checkpoint: bool = False
    bf16: bool = False
    settings: str = ""
    before_loss: str = ""
    loss: str = ""
    sizes: Sequence[int] = (2,)
    most_graphs: int = captured.MOST_GRAPHS
    check_every: int = captured.CHECK_EVERY


class Noting(Solver):
    """Keeps the losses of its passes."""

    def __init__(self, param: SolverParameter) -> None:
        self.losses: list[Tensor] = []
        super().__init__(param, device=DEVICE)

    def forward_backward(self, net: Net) -> NetResult:
        result = super().forward_backward(net)
        self.losses.append(result.loss.detach())
        return result

    def outcome(self) -> list[Tensor]:
        """Losses, weights, statistics and history."""
        weights = [entry.blob.detach() for entry in self.net.learnable]
        return [x.cpu() for x in (torch.stack(self.losses), *weights, *self.updater.history)]


def train_net(way: Way) -> NetParameter:
    """The demo's net on varied batches."""
    made = make_nets(DSOD.recipe("shapes", "tiny"), "")["train"]
    net = upgrade_net(NetParameter.FromString(made.SerializeToString()))
    net.layer[0].Clear()
    parse_text('name: "data" type: "Varied" top: "data" top: "label"', net.layer[0])
    *others, loss = net.layer
    assert loss.type == "MultiBoxLoss"
    loss.multibox_loss_param.MergeFrom(parse_text(way.loss, type(loss.multibox_loss_param)()))
    if not way.before_loss:
        return net
    between = parse_text('name: "between" top: "between"' + way.before_loss, type(loss)())
    between.bottom.append(loss.bottom[0])
    loss.bottom[0] = "between"
    whole = NetParameter(name=net.name)
    whole.layer.extend([*others, between, loss])
    return whole


def solver(way: Way, *, graph: bool = True) -> Noting:
    """A solver of the demo's net."""
    param = parse_text(SETTINGS + way.settings, SolverParameter())
    param.iter_size = way.iter_size
    param.train_net_param.CopyFrom(train_net(way))
    Varied.sizes, Varied.label = way.sizes, None
    captured.MOST_GRAPHS, captured.CHECK_EVERY = way.most_graphs, way.check_every
    made = Noting(param)
    if way.groups:
        made.use_groups()
    if way.bf16:
        made.net.use_bfloat16()
    if way.channels_last:
        made.net.use_channels_last()
    if way.checkpoint:
        made.net.use_checkpoints()
    if graph:
        made.use_cuda_graph()
    return made


def compared(have: Noting, want: Noting) -> dict[str, Any]:
    """Whether two trainings are equal to the last bit, and how much of the first was captured."""
    pairs = zip(have.outcome(), want.outcome(), strict=True)
    assert have.captured is not None
    return {
        "equal": all(torch.equal(a, b) for a, b in pairs),
        "losses": [each.outcome()[0].tolist() for each in (have, want)],
        "graphs": have.captured.num_graphs,
    }


def trained(way: Way, count: int) -> dict[str, Any]:
    """Iterations with and without graphs."""
    pair = solver(way), solver(way, graph=False)
    for each in pair:
        torch.manual_seed(1)  # both draw from one stream
        each.step(count)
    return compared(*pair)


def graph_ways(*names: str) -> dict[str, Any]:
    """Trainings in several ways."""
    ways = {
        "plain": (Way(), 9),
        "iter_size": (Way(iter_size=2), 5),
        "groups": (Way(iter_size=3, groups=True), 6),
        "checkpoint": (Way(checkpoint=True), 7),
        "channels_last": (Way(channels_last=True), 7),
        "bf16": (Way(bf16=True), 7),
        "sizes": (Way(sizes=(2, 3)), 12),
        "few": (Way(most_graphs=1), 9),
        "dropout": (Way(before_loss=DROPOUT), 7),
        "debug_info": (Way(settings="display: 2 debug_info: true"), 7),
        "adam": (Way(settings='type: "Adam" momentum2: 0.999 clip_gradients: 1'), 7),
    }
    return {name: trained(*ways[name]) for name in names}


def graph_waits() -> dict[str, int]:
    """What an iteration waits for that is replayed and not compared."""
    found = solver(Way())
    found.step(8)
    WAITS.clear()
    found.step(3)
    return dict(WAITS)


def graph_resumed() -> dict[str, Any]:
    """A training stopped half-way and resumed, beside one without graphs that went on."""
    settings = 'snapshot_prefix: "net"'
    first, whole = solver(Way(settings=settings)), solver(Way(), graph=False)
    whole.step(11)
    first.step(6)
    _, state = first.snapshot()
    resumed = solver(Way(settings=settings))
    resumed.restore(state)
    resumed.losses = list(first.losses)
    resumed.step(5)
    return compared(resumed, whole)


def said(way: Way, spoil: Callable[[Noting], None] = lambda made: None, count: int = 9) -> str:
    """What is said where a training cannot go on, or not after what was done to it."""
    try:
        made = solver(way)
        made.step(6)
        spoil(made)
        made.step(count - 6)
        made.watchdog.read()
    except CaffeError as error:
        return f"{type(error).__name__} {error}"
    return ""


def graph_errors() -> dict[str, str]:
    """What cannot be captured."""
    mining = "mining_type: MAX_NEGATIVE nms_param { nms_threshold: .5 top_k: 10 }"
    return {
        "moody": said(Way(before_loss='type: "Moody"')),
        "seasonal": said(Way(before_loss='type: "Seasonal"', check_every=2), count=14),
        "honest": said(Way(before_loss='type: "Honest"')),
        "asking": said(Way(before_loss='type: "Asking"')),
        "slow backward": said(Way(before_loss='type: "AskingBack"')),
        "nms": said(Way(loss=mining)),
    }


def graph_faults() -> dict[str, str]:
    """A label and weights that are wrong from some iteration on."""

    def weights(made: Noting) -> None:
        with torch.no_grad():
            made.net.learnable[0].blob.fill_(float("nan"))

    found = {"nan": said(Way(), weights)}
    found["label"] = said(Way(), lambda made: setattr(Varied, "label", 6))
    found["background"] = said(Way(), lambda made: setattr(Varied, "label", 0))
    return found


SCENARIOS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (graph_ways, graph_waits, graph_resumed, graph_errors, graph_faults)
}
