"""pycaffe's solvers: the engine's loop, run through nets whose blobs scripts can read and write.

Spec: caffe-net.md section 13. `solver_mode` and `device_id` of the file have no effect here; the
mode set by `set_mode_cpu` or `set_mode_gpu` counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from caffe.mode import current_device, current_runtime
from caffe.pycaffe import Net
from caffe_ssd.errors import SolverError
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net import NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import naming_solver, read_solver
from caffe_ssd.solver.debug_info import log_all_params
from caffe_ssd.solver.hooks import Callback
from caffe_ssd.solver.prefix_lock import prefix_lock
from caffe_ssd.solver.solver import Solver as EngineSolver


class _BlobSolver(EngineSolver):
    """The engine's solver with every pass made by pycaffe nets."""

    def __init__(self, param: SolverParameter) -> None:
        self._faces: dict[int, Net] = {}
        super().__init__(param, runtime=current_runtime(), device=current_device())
        self.store_updates = True

    def face(self, net: EngineNet) -> Net:
        """The pycaffe view of one of the solver's nets."""
        if id(net) not in self._faces:
            self._faces[id(net)] = Net.of(net)
        return self._faces[id(net)]

    def flush(self) -> None:
        """Bring what scripts wrote into learnt blobs to the device."""
        for face in self._faces.values():
            face.flush_parameters()

    def step(self, count: int) -> None:
        self.flush()
        super().step(count)

    def snapshot(self) -> tuple[str, str]:
        self.flush()
        return super().snapshot()

    def restore(self, path: str | Path, *, strict: bool = False) -> None:
        self.flush()
        super().restore(path, strict=strict)

    def forward(self, net: EngineNet) -> NetResult:
        face = self.face(net)
        return self._result(face, face.run_forward())

    def forward_backward(self, net: EngineNet) -> NetResult:
        face = self.face(net)
        loss = face.run_forward()
        face.run_backward()
        if net.debug_info:
            log_all_params(net)
        return self._result(face, loss)

    def _result(self, face: Net, loss: float) -> NetResult:
        device = face.engine.device
        blobs = {name: face.blobs[name] for name in face.outputs}
        tensors = {n: b.data_memory.tensor(b.shape, device) for n, b in blobs.items()}
        return NetResult(loss=torch.tensor(loss), blobs=tensors, sources=face.source_values())


class Solver:
    """Trains the net of a solver file.

    Args:
        solver_file: prototxt of a SolverParameter.

    Attributes:
        net: the train net.
        test_nets: the test nets.

    Raises:
        CaffeError: a file cannot be read, or the settings are wrong; it is a RuntimeError.
    """

    type_name = ""

    def __init__(self, solver_file: str) -> None:
        param = read_solver(str(solver_file))
        if param.HasField("type") and self.type_name not in ("", param.type):
            raise SolverError(
                f"{solver_file}: type is {param.type!r}, but this is a {self.type_name}Solver; "
                "use caffe.get_solver(file)"
            )
        if self.type_name:
            param.type = self.type_name
        with naming_solver(str(solver_file)):
            self._solver = _BlobSolver(param)
        self.net = self._solver.face(self._solver.net)
        self.test_nets = [self._solver.face(net) for net in self._solver.test_nets]

    @property
    def iter(self) -> int:
        """The number of completed updates."""
        return self._solver.iter

    def step(self, count: int) -> None:
        """Make `count` updates, with the tests and snapshots that are due."""
        self._solver.step(count)

    def solve(self, resume_file: str | None = None) -> None:
        """Train to `max_iter`, from a solver state if one is given.

        Raises:
            SolverError: another process trains under the same `snapshot_prefix`.
        """
        param = self._solver.param
        writes = param.snapshot > 0 or param.snapshot_after_train
        with prefix_lock(param.snapshot_prefix if writes else ""):
            self._solver.solve(resume_file)

    def snapshot(self) -> None:
        """Write the weights and the solver state."""
        self._solver.snapshot()

    def restore(self, state_file: str) -> None:
        """Continue from a solver state."""
        self._solver.restore(state_file)

    def add_callback(
        self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]
    ) -> None:
        """Have functions called before the passes and before the update of every iteration."""

        def flushed(function: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                function()
                self._solver.flush()

            return call

        self._solver.callbacks.append(
            Callback(on_start=flushed(on_start), on_gradients_ready=flushed(on_gradients_ready))
        )


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    type_name = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type_name = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad."""

    type_name = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp."""

    type_name = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    type_name = "AdaDelta"


class AdamSolver(Solver):
    """Adam."""

    type_name = "Adam"


def get_solver(solver_file: str) -> Solver:
    """The solver whose class the file's `type` names; SGD if it names none.

    Raises:
        SolverError: no such type.
    """
    kind = read_solver(str(solver_file)).type
    classes = {cls.type_name: cls for cls in Solver.__subclasses__()}
    if kind not in classes:
        raise SolverError(f"{solver_file}: unknown type {kind!r}; allowed: {', '.join(classes)}")
    return classes[kind](solver_file)
