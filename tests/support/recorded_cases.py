"""Runs recorded cases of layers, nets and solvers the way a script does, through pycaffe.

A case is an `.npz` file: the prototxt, what to put into blobs, and what the reference computed. A
key is `<kind>:<name>`; `2|` and `3|` in front of it mean another pass through the same net.

| kind | of a net case |
|---|---|
| `file` | a text file beside the prototxt (`@DIR@` in it is their folder, which is on `sys.path`) |
| `in` | a blob to reshape and fill before the pass |
| `param`, `param_after` | a learnt blob before and after the forward pass, `<layer>:<index>` |
| `out` | a blob after the forward pass |
| `top_diff` | a diff to fill before the backward pass |
| `bottom_diff`, `param_diff` | diffs after it |

`outputs`, `layer_names`, `blob_names` and `param_names` are lists of the net, `net_args` further
arguments of it. A solver case has `solver` and `net`, `param0` before the first step, `in` with one
entry per call of `step` in axis 0 (or `memory_data` and `memory_label`, given once), `loss` after
each call, `param` and `iter` at the end. Where `snapshot_at` calls are done, a new solver goes on
from the snapshot; `history` is what that file holds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import caffe
import numpy as np

from caffe_ssd.solver.snapshot import read_state
from tests.support.golden import GOLDEN

RTOL, ATOL = 1e-4, 1e-5


class Case:
    """What one file holds.

    Args:
        path: the `.npz` file.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as data:
            self.entries: dict[str, np.ndarray] = dict(data)
        self.rtol = max(RTOL, float(self.get("rtol", 0)))
        self.atol = max(ATOL, float(self.get("atol", 0)))

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def get(self, key: str, default: Any = None) -> Any:
        """A number or text, without its array."""
        return self.entries[key][()] if key in self.entries else default

    def of(self, kind: str) -> Iterator[tuple[str, np.ndarray]]:
        """Names and values of a kind, which may begin with a pass: `2|in`."""
        start = f"{kind}:"
        return ((k[len(start) :], v) for k, v in self.entries.items() if k.startswith(start))

    def passes(self) -> list[str]:
        """What the keys of each pass begin with."""
        return ["", *sorted({key.split("|")[0] + "|" for key in self.entries if "|" in key})]

    def check(self, key: str, have: Any) -> None:
        """Compare a result with what is recorded under a key."""
        want = self.entries[key]
        if want.dtype.kind == "U":
            assert list(have) == want.tolist(), key
            return
        have = np.asarray(have)
        assert have.shape == want.shape, f"{key}: shape"
        np.testing.assert_allclose(have, want, rtol=self.rtol, atol=self.atol, err_msg=key)


def case_paths(part: str) -> list[Path]:
    """The files of a part of the recorded data, in order."""
    return sorted((GOLDEN / part).rglob("*.npz"))


def case_id(path: Path) -> str:
    """`<layer type>/<case>`, or the name of a solver case."""
    return "/".join(path.relative_to(GOLDEN).with_suffix("").parts[1:])


def write_prototxt(folder: Path, name: str, text: str) -> str:
    """Write a recorded prototxt with its paths filled in; returns the file's path."""
    path = folder / name
    path.write_text(text.replace("@NET@", f"{folder}/net.prototxt").replace("@DIR@", str(folder)))
    return str(path)


@contextmanager
def importable(folder: Path, names: list[str]) -> Iterator[None]:
    """Let Python layers import a case's modules, and forget these afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(Path(name).stem, None)


def learnt(net: caffe.Net, spec: str) -> Any:
    """The learnt blob `<layer>:<index>`."""
    layer, index = spec.rsplit(":", 1)
    return net.params[layer][int(index)]


def fill(array: Any, value: np.ndarray, what: str) -> None:
    """Overwrite a blob's data or diff; NumPy would stretch a value of another shape."""
    assert array.shape == value.shape, f"{what}: shape"
    array[...] = value


def run_net_case(case: Case, folder: Path) -> None:
    """Build the net of a case, run all its passes and compare everything recorded.

    Args:
        case: the case.
        folder: an empty folder for its files.
    """
    files = dict(case.of("file"))
    for name, text in files.items():
        (folder / name).write_text(str(text))
    path = write_prototxt(folder, "net.prototxt", str(case.get("prototxt")))
    phase = getattr(caffe, str(case.get("phase", "TEST")))
    with importable(folder, list(files)):
        net = caffe.Net(path, phase, **json.loads(str(case.get("net_args", "{}"))))
        lists = {
            "outputs": net.outputs,
            "layer_names": net._layer_names,
            "blob_names": net.blobs,
            "param_names": [f"{name}:{i}" for name, p in net.params.items() for i in range(len(p))],
        }
        for key in lists.keys() & case.entries.keys():
            case.check(key, lists[key])
        for prefix in case.passes():
            run_pass(net, case, prefix)


def run_pass(net: caffe.Net, case: Case, prefix: str) -> None:
    """One forward pass, and a backward pass where diffs are recorded."""
    for name, value in case.of(f"{prefix}in"):
        net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value
    for spec, value in case.of(f"{prefix}param"):
        fill(learnt(net, spec).data, value, spec)
    net.forward()
    for name, _ in case.of(f"{prefix}out"):
        case.check(f"{prefix}out:{name}", net.blobs[name].data)
    for spec, _ in case.of(f"{prefix}param_after"):
        case.check(f"{prefix}param_after:{spec}", learnt(net, spec).data)
    kinds = tuple(f"{prefix}{kind}_diff:" for kind in ("top", "bottom", "param"))
    if not any(key.startswith(kinds) for key in case.entries):
        return
    for name, value in case.of(f"{prefix}top_diff"):
        fill(net.blobs[name].diff, value, name)
    net.backward()
    for name, _ in case.of(f"{prefix}bottom_diff"):
        case.check(f"{prefix}bottom_diff:{name}", net.blobs[name].diff)
    for spec, _ in case.of(f"{prefix}param_diff"):
        case.check(f"{prefix}param_diff:{spec}", learnt(net, spec).diff)


def new_solver(case: Case, folder: Path) -> Any:
    """A solver of a case, its memory data given."""
    write_prototxt(folder, "net.prototxt", str(case.get("net")))
    path = write_prototxt(folder, "solver.prototxt", str(case.get("solver")))
    solver = caffe.get_solver(path)
    if "memory_data" in case:
        arrays = (case.entries[f"memory_{name}"] for name in ("data", "label"))
        solver.net.set_input_arrays(*map(np.ascontiguousarray, arrays))
    return solver


def run_solver_case(case: Case, folder: Path) -> None:
    """Train as recorded, over a snapshot where there is one, and compare losses and weights.

    Args:
        case: the case.
        folder: an empty folder for its files.
    """
    solver = new_solver(case, folder)
    for spec, value in case.of("param0"):
        fill(learnt(solver.net, spec).data, value, spec)
    losses = []
    for call in range(len(case.entries["loss"])):
        if call == case.get("snapshot_at"):
            solver.snapshot()
            state = folder / str(case.get("snapshot_file"))
            history = read_state(state).history
            for index, _ in case.of("history"):
                case.check(f"history:{index}", history[int(index)])
            solver = new_solver(case, folder)
            solver.restore(str(state))
        for name, values in case.of("in"):
            solver.net.blobs[name].reshape(*values[call].shape)
            solver.net.blobs[name].data[...] = values[call]
        solver.step(int(case.get("step_size", 1)))
        losses.append(float(solver.net.blobs["loss"].data))
    case.check("loss", losses)
    case.check("iter", solver.iter)
    for spec, _ in case.of("param"):
        case.check(f"param:{spec}", learnt(solver.net, spec).data)
