"""What simulated devices say to each other: gloo in NCCL's place, under NCCL's rules.

A group of the backend nccl carries tensors of this process's device and nothing else, one of gloo
tensors of the host. It knows nothing of streams: what is sent has arrived when the host goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class WrongPlaceError(RuntimeError):
    """A tensor that the group's backend does not carry."""


def patch_distributed(held: Callable[[Tensor], Tensor | None]) -> None:
    """Let groups carry tensors of simulated devices.

    Args:
        held: the tensor that one of a device stands for; None for those of the host.
    """

    def carried(x: Tensor, group: Any) -> Tensor:
        on_host = held(x)
        if group is not None:
            if on_host is not None:
                raise WrongPlaceError(f"gloo does not carry a tensor on {x.device}")
            return x
        here = torch.device("cuda", torch.cuda.current_device())
        if on_host is None or x.device != here:
            raise WrongPlaceError(f"NCCL on {here} does not carry a tensor on {x.device}")
        return on_host

    def started(backend: str, **how: Any) -> None:
        if backend != "nccl":
            raise WrongPlaceError(f"devices of CUDA talk by nccl, not {backend}")
        begin("gloo", **how)

    def all_reduce(x: Tensor, *args: Any, group: Any = None, **how: Any) -> Any:
        return reduce(carried(x, group), *args, group=group, **how)

    def broadcast(x: Tensor, src: int, group: Any = None, **how: Any) -> Any:
        return send(carried(x, group), src, group=group, **how)

    def all_gather(found: list[Tensor], x: Tensor, group: Any = None, **how: Any) -> Any:
        return gather([carried(y, group) for y in found], carried(x, group), group=group, **how)

    begin, reduce = dist.init_process_group, dist.all_reduce
    send, gather = dist.broadcast, dist.all_gather
    answers = {
        "init_process_group": started,
        "all_reduce": all_reduce,
        "broadcast": broadcast,
        "all_gather": all_gather,
    }
    for name, answer in answers.items():
        setattr(dist, name, answer)
