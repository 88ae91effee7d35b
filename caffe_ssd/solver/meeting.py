"""Where the processes of a training meet, whatever earlier attempts have left there.

`torchrun` starts all processes again when one is lost, and gives them the store of the attempt
before: whoever looks up an address in it finds that of a dead process, and waits. No number tells
the attempts apart either, as the agents of several machines count by themselves. So the root
chooses a name for each attempt, and hands it to those that are alive and say so.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

_PAUSE_S = 0.02


def meeting_store(address: str, rank: int, world_size: int, patience_s: float) -> Store:
    """A store that only the living processes of this attempt share.

    Args:
        address: of the store that all attempts share, as `init_process_group` takes it.
        rank: of this process; 0 is the root.
        world_size: how many there are.
        patience_s: how long to wait for the others.

    Raises:
        RuntimeError: the store cannot be reached, or the others do not come.
        ValueError: the address makes no sense.
    """
    timeout = timedelta(seconds=patience_s)
    store, _, _ = next(rendezvous(address, rank, world_size, timeout=timeout))
    store.set_timeout(timeout)
    attempt = _invite(store, world_size, patience_s) if rank == 0 else _come(store, rank)
    return PrefixStore(attempt, store)


def _come(store: Store, rank: int) -> str:
    """Ask the root for the attempt's name."""
    me = secrets.token_hex(8)  # whoever had this rank before did not have this name
    store.set(f"caffe/waiting/{rank}", me)
    attempt: str = store.get(f"caffe/invited/{me}").decode()
    store.set(_arrived(attempt, rank), "")
    return attempt


def _invite(store: Store, world_size: int, patience_s: float) -> str:
    """Tell everybody who waits, those of earlier attempts too, until all ranks have arrived."""
    attempt = f"caffe/{secrets.token_hex(8)}"
    invited = set()
    missing = list(range(1, world_size))
    deadline = time.monotonic() + patience_s
    while missing := [rank for rank in missing if not store.check([_arrived(attempt, rank)])]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"rank {', '.join(map(str, missing))} did not come")
        for rank in missing:
            if not store.check([f"caffe/waiting/{rank}"]):
                continue
            name = store.get(f"caffe/waiting/{rank}").decode()
            if name not in invited:
                store.set(f"caffe/invited/{name}", attempt)
                invited.add(name)
        time.sleep(_PAUSE_S)
    return attempt


def _arrived(attempt: str, rank: int) -> str:
    return f"{attempt}/arrived/{rank}"
