"""A runnable net: an ordinary PyTorch module built from a NetParameter.

Spec: caffe-net.md sections 5 to 10 and 12.

    text -> NetParameter -> upgrade -> filter by state -> splits -> plan -> Net -> passes

`steps` lists every layer of the net as the reference has it. `program` is what `forward` runs: the
same steps after exact rewrites (passes.py); runner.py runs either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from caffe_ssd.errors import CaffeError, NetError
from caffe_ssd.layers.failures import NAMED, check_top_sizes, layer_fault
from caffe_ssd.layers.registry import Layer, LayerSpec, Runtime, Shape, SourceLayer, build_layer
from caffe_ssd.layers.run_context import Groups, RunContext
from caffe_ssd.net.checkpoints import with_checkpoints
from caffe_ssd.net.grouped import Kind, grouped_program, value_kinds
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.passes import fuse_batch_norm, plain_program
from caffe_ssd.net.plan import AUTOMATIC, Step, Value, make_plan, naming, plan_backward
from caffe_ssd.net.result import NetResult, total_loss
from caffe_ssd.net.runner import Runner
from caffe_ssd.net.sharing import LearnableBlob, SharedBlobs
from caffe_ssd.net.splits import insert_splits
from caffe_ssd.net.state import filter_net
from caffe_ssd.net.weights import copy_trained, fill_blobs
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.extensions import extensions_in, summary

logger = logging.getLogger(__name__)


def build_net(param: NetParameter, state: NetState, runtime: Runtime | None = None) -> Net:
    """Build the net that an upgraded message describes in this state.

    Raises:
        NetError: the graph cannot be run.
        LayerError: one layer is refused.
    """
    return Net(insert_splits(filter_net(param, state)), Runtime() if runtime is None else runtime)


class Net(nn.Module):
    """See the module's docstring.

    Args:
        param: an upgraded, filtered net with splits, carrying its state.
        runtime: surroundings handed to the layers.
    """

    def __init__(self, param: NetParameter, runtime: Runtime) -> None:
        super().__init__()
        self.plan = plan = make_plan(param)
        if used := summary(extensions_in(param)):
            logger.warning(
                "net %r uses what the original SSD-Caffe does not know: %s", plan.name, used
            )
        self.name = plan.name
        self.phase = param.state.phase
        self.debug_info = param.debug_info  # for those who run the net; it logs nothing by itself
        self.runtime = runtime
        self.modules_by_layer = nn.ModuleDict()
        self._shapes: list[Shape] = [()] * len(plan.blob_names)
        shared = SharedBlobs()
        for step in plan.steps:
            with naming(step):
                layer = self._build(step, runtime)
                shared.add(step.param, layer)
        self.learnable: list[LearnableBlob] = shared.learnable
        self.shared_views = shared.views
        self._channels_last = False
        self._bfloat16 = False
        self.groups: Groups | None = None  # what the next pass stands for; see `use_groups`
        self.kinds: Mapping[Value, Kind] = {}
        self._other_sources: list[SourceLayer] = []
        self.keep_diffs = False  # True: clear_diffs zeroes in place, so that views stay live
        self.plan = plan_backward(plan, [len(layer.blobs) for layer in self.layers])
        self._load_inline_blobs()
        self._set_requires_grad()
        self.train(self.is_train)
        self._finals = {self.blob_names[b]: value for b, value in self.plan.final_values().items()}
        self._overwritten = self.plan.overwritten_weights()
        self._plain = plain_program(self.plan.steps, self.layers)
        self.program = fuse_batch_norm(self._plain)

    # Building ------------------------------------------------------------------------------------

    def _build(self, step: Step, runtime: Runtime) -> Layer:
        bottoms = tuple(self._shapes[value.blob] for value in step.bottoms)
        try:
            layer = build_layer(LayerSpec(param=step.param, bottoms=bottoms, runtime=runtime))
            tops = layer.top_shapes(*bottoms)
        except CaffeError:
            raise
        except NAMED as error:
            if step.param.type == "Python":  # the user's own code: its traceback is the help
                raise
            raise layer_fault(error, bottoms, "be built with") from error
        check_top_sizes(tops, lambda top: self.plan.readers(step.tops[top]))
        for value, shape in zip(step.tops, tops, strict=True):
            self._shapes[value.blob] = shape
        for i in layer.statistics:
            while len(step.param.param) <= i:
                step.param.param.add()
            if step.param.param[i].lr_mult != 0:
                step.param.param[i].lr_mult = 0
        self.modules_by_layer[self._module_key(step.param.name)] = layer
        return layer

    def _module_key(self, name: str) -> str:
        """The layer's name as PyTorch allows it: no dots, not empty, not taken."""
        key = name.replace(".", "_")
        while not key or key in self.modules_by_layer or hasattr(self.modules_by_layer, key):
            key += "_"
        return key

    def _load_inline_blobs(self) -> None:
        """A layer message may carry its blobs; they win over fillers."""
        carried = NetParameter()
        carried.layer.extend(step.param for step in self.steps if step.param.blobs)
        if carried.layer:
            copy_trained(self, carried, "the net definition")
        for step in self.steps:
            step.param.ClearField("blobs")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Net:
        """What `.to()`, `.cuda()` and their kin do; shared storage stays shared."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for view, owner in self.shared_views:  # PyTorch moves each of them by itself
            view.data = owner.data.view(view.shape)
            if owner.grad is not None:
                view.grad = owner.grad.view(view.shape)
        return self

    def _set_requires_grad(self) -> None:
        for entry in self.learnable:
            entry.blob.requires_grad_(entry.lr_mult != 0 or self.plan.force_backward)
        for view, owner in self.shared_views:
            view.requires_grad_(owner.requires_grad)

    # Looking -------------------------------------------------------------------------------------

    @property
    def is_train(self) -> bool:
        """Whether the net's phase is TRAIN."""
        return self.phase == 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """The layers as wired, Split layers included."""
        return self.plan.steps

    @property
    def layers(self) -> list[Layer]:
        """The layers' modules in order."""
        return list(self.modules_by_layer.values())  # type: ignore[arg-type]

    @property
    def sources(self) -> dict[str, SourceLayer]:
        """The layers that read data, by name."""
        pairs = zip(self.layer_names, self.layers, strict=True)
        return {name: layer for name, layer in pairs if isinstance(layer, SourceLayer)}

    @property
    def layer_names(self) -> list[str]:
        """The layers' names in order."""
        return [step.param.name for step in self.plan.steps]

    @property
    def blob_names(self) -> tuple[str, ...]:
        """The blobs' names in order of creation."""
        return self.plan.blob_names

    @property
    def blob_shapes(self) -> list[Shape]:
        """The blobs' shapes as set up, in order of creation."""
        return list(self._shapes)

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs that the caller feeds."""
        return [self.blob_names[blob] for blob in self.plan.inputs]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs nobody reads, in byte order."""
        return [self.blob_names[blob] for blob in self.plan.outputs]

    @property
    def plain_program(self) -> tuple[Instruction, ...]:
        """One instruction per layer, in order."""
        return self._plain

    def final_value(self, name: str) -> Value:
        """The last writing of the blob of that name.

        Raises:
            NetError: there is no such blob.
        """
        self._check_names("blob", [name], self.blob_names)
        return self._finals[name]

    @property
    def loss_weights(self) -> dict[str, float]:
        """The non-zero loss weights by blob name."""
        return {
            self.blob_names[value.blob]: weight
            for step in self.steps
            for value, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight
        }

    @property
    def device(self) -> torch.device:
        """Where the net's blobs lie."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def layer_blobs(self) -> Sequence[tuple[str, Sequence[nn.Parameter]]]:
        """Each layer's name and learnt blobs, in order; shared blobs appear in every sharer."""
        return [
            (name, list(layer.blobs))
            for name, layer in zip(self.layer_names, self.layers, strict=True)
        ]

    # Running -------------------------------------------------------------------------------------

    def context(self, again: NetResult | None = None) -> RunContext:
        """How a pass runs: where the net lies, and in the modes it was given.

        Args:
            again: of the pass that is repeated; None: it is a new one.
        """
        return RunContext(
            device=self.device,
            bfloat16=self._bfloat16,
            channels_last=self._channels_last,
            groups=self.groups if again is None else again.groups,
        )

    def forward(
        self,
        inputs: Mapping[str, Tensor] | None = None,
        keep: Collection[str] = (),
        runner: Runner | None = None,
    ) -> NetResult:
        """Run the whole net.

        Args:
            inputs: a tensor for each blob in `inputs`; one that is missing is fed zeros.
            keep: names of further blobs wanted in the result, with their final content; then the
                layers run one by one where the program leaves one of these blobs out.
            runner: what runs the program, in this net's `context()`; None for a plain one.

        Raises:
            NetError: an input or a wanted blob does not exist.
            LayerError: a layer cannot take the shapes it meets.
        """
        inputs = {} if inputs is None else inputs
        self._check_names("input", inputs, self.inputs)
        self._check_names("blob", keep, self.blob_names)
        fed = {Value(self.blob_names.index(name), 0): given for name, given in inputs.items()}
        runner = Runner(self.context().putting_off()) if runner is None else runner
        return self._run(fed, keep, runner)

    def repeat(self, sources: Mapping[Value, Tensor], runner: Runner) -> NetResult:
        """Run the net once more with what its sources made in another pass.

        Args:
            sources: of that pass's result.
            runner: see `forward`; in `context(result)`.
        """
        return self._run(sources, (), runner)

    def _run(self, fed: Mapping[Value, Tensor], keep: Collection[str], runner: Runner) -> NetResult:
        wanted = {self._finals[name]: name for name in [*self.outputs, *keep]}
        made = {value for op in self.program for value in op.tops} if keep else wanted.keys()
        program = self.program if wanted.keys() <= made else self._plain
        values: dict[Value, Tensor] = {}
        terms = runner.run(program, values, wanted=wanted, fed=fed)
        runner.context.settle()
        if runner.context.groups is not None:
            numbers = [value for value in wanted if self.kinds[value] is Kind.NUMBERS]
            values.update((value, values[value].mean()) for value in numbers)
        return NetResult(
            loss=total_loss(terms, runner.context, self.kinds, self._overwritten),
            blobs={name: values[value] for value, name in wanted.items()},
            sources=runner.sources,
            groups=runner.context.groups,
        )

    def _check_names(self, what: str, given: Collection[str], known: Collection[str]) -> None:
        unknown = [name for name in given if name not in known]
        if unknown:
            raise NetError(f"no {what} named {unknown[0]!r}; there are: {', '.join(known)}")

    def seek(self, batch: int) -> None:
        """Let every data layer go on behind its first `batch` batches."""
        for source in (*self.sources.values(), *self._other_sources):
            source.seek(batch)

    def use_groups(self, others: Sequence[Net] = (), ahead: int = 1) -> None:
        """Make passes possible that stand for several; call it before `use_checkpoints`.

        While `groups` is set, a pass reads a batch for each group, and its loss is the sum of what
        the groups' own passes would give, divided by the number of devices. Outputs that are
        scalars are then the mean over the groups, other ones lie end to end along axis 0.

        Args:
            others: nets of further devices, whose data this one reads, too.
            ahead: batches that each device reads for a pass.

        Raises:
            NetError: a layer cannot be run so; it is named.
        """
        self.kinds = value_kinds(self._plain, self._shapes)
        twins = [net.sources for net in others]
        self._other_sources = [source for sources in twins for source in sources.values()]
        for source in (*self.sources.values(), *self._other_sources):
            source.read_ahead(ahead)
        whole = fuse_batch_norm(self._plain)
        self._plain = grouped_program(self._plain, self.kinds, twins)
        self.program = grouped_program(whole, self.kinds, twins)

    def use_checkpoints(self) -> None:
        """Take less memory for a backward pass and more time; see checkpoints.py."""
        self.program = with_checkpoints(self.program, self._shapes)

    def use_channels_last(self) -> None:
        """Keep images and 4-D weights with channels innermost: quicker, but rounded otherwise."""
        self._channels_last = True
        shared = {id(blob) for pair in self.shared_views for blob in pair}
        for blob in self.parameters():
            if blob.dim() == 4 and id(blob) not in shared:
                blob.data = blob.data.contiguous(memory_format=torch.channels_last)

    def use_bfloat16(self) -> None:
        """Let convolutions and matrix products calculate in bfloat16; blobs stay float32."""
        self._bfloat16 = True

    def clear_diffs(self) -> None:
        """Forget all parameter gradients."""
        diffs = [entry.blob.grad for entry in self.learnable if entry.blob.grad is not None]
        if self.keep_diffs and diffs:
            torch._foreach_zero_(diffs)
        for entry in () if self.keep_diffs else self.learnable:
            entry.blob.grad = None
        self.tie_diffs()

    def tie_diffs(self) -> None:
        """Let parameters that share storage in different shapes accumulate one gradient."""
        for view, owner in self.shared_views:
            if owner.grad is None:
                owner.grad = torch.zeros_like(owner)
            view.grad = owner.grad.view(view.shape)

    # Weights -------------------------------------------------------------------------------------

    def share_from(self, other: Net) -> None:
        """Use the other net's blobs for every layer with the same name.

        Raises:
            NetError: two layers of one name hold blobs of different number or shape.
        """
        names = self.layer_names
        adopted: dict[int, nn.Parameter] = {}
        for name, blobs in other.layer_blobs():
            if name not in names:
                continue
            mine = self.layers[names.index(name)].blobs
            if [b.shape for b in mine] != [b.shape for b in blobs]:
                raise NetError(
                    f"layer {name!r} cannot share blobs: {[list(b.shape) for b in mine]} here, "
                    f"{[list(b.shape) for b in blobs]} in the other net"
                )
            for i, blob in enumerate(blobs):
                adopted[id(mine[i])] = blob
                mine[i] = blob
        self.learnable = [
            replace(entry, blob=adopted.get(id(entry.blob), entry.blob)) for entry in self.learnable
        ]

    def to_proto(self, with_diff: bool = False) -> NetParameter:
        """The net as a caffemodel holds it: every built layer with its blobs."""
        message = NetParameter(name=self.name)
        for step, layer in zip(self.steps, self.layers, strict=True):
            entry = message.layer.add()
            entry.CopyFrom(step.param)
            while AUTOMATIC in entry.top:
                entry.top.remove(AUTOMATIC)
            fill_blobs(entry, list(layer.blobs), diff=with_diff)
        return message
