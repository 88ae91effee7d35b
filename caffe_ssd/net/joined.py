"""Several instructions of a program as one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn

from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import Runner, running_state


class JoinedLayers(nn.Module):
    """A layer that stands for some instructions; what is gained by it is up to the subclass.

    Args:
        program: the instructions, in order.
        bottoms: values they need from outside.
        tops: values needed behind them.
    """

    takes_context = True

    def __init__(
        self, program: Sequence[Instruction], bottoms: Sequence[Value], tops: Sequence[Value]
    ) -> None:
        super().__init__()
        self.program = with_last_uses(program)
        self.bottoms = bottoms
        self.tops = tops

    def one_by_one(self, bottoms: Sequence[Tensor], context: RunContext) -> tuple[Tensor, ...]:
        """The tops, by running the instructions."""
        values = dict(zip(self.bottoms, bottoms, strict=True))
        Runner(context).run(self.program, values, wanted=self.tops)
        return tuple(values[value] for value in self.tops)

    def running_state(self) -> Sequence[Tensor]:
        """What a forward pass changes; see `Layer.running_state`."""
        return running_state(self.program)


def joined(
    kind: Callable[[Sequence[Instruction], Sequence[Value], Sequence[Value]], JoinedLayers],
    ops: Sequence[Instruction],
    used_behind: Collection[Value],
) -> Instruction:
    """One instruction for some that follow each other.

    Args:
        kind: makes the layer.
        ops: the instructions.
        used_behind: values that others read; tops that nobody in `ops` reads are kept, too.
    """
    made = {value for op in ops for value in op.tops}
    read = {value for op in ops for value in op.bottoms}
    bottoms = tuple(dict.fromkeys(v for op in ops for v in op.bottoms if v not in made))
    tops = tuple(v for op in ops for v in op.tops if v in used_behind or v not in read)
    return Instruction(
        step=ops[0].step,
        layer=kind(ops, bottoms, tops),
        bottoms=bottoms,
        tops=tops,
        loss_weights=(0.0,) * len(tops),
        needs_backward=any(op.needs_backward for op in ops),
        propagate_down=(True,) * len(bottoms),
        parts=with_last_uses(ops),
    )
