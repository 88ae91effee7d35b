"""What a solver logs of an iteration that it displays, and of its learning rate.

Spec: caffe-net.md section 20; caffe-solver.md section 5.
"""

from __future__ import annotations

from caffe_ssd import log
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.policies import ScheduleState, needs_loss


def display_loss(net: Net, result: NetResult, iteration: int, loss: float) -> None:
    """Log the smoothed loss and every element of every output of the last pass."""
    log.TRAIN_LOSS.write(iteration=iteration, loss=loss)
    log.write_outputs(log.TRAIN_OUTPUT, output_values(net, result), net.loss_weights)


def output_values(net: Net, result: NetResult) -> dict[str, list[float]]:
    """Every element of every output, by name in the order of the log."""
    return {name: result.blobs[name].detach().flatten().tolist() for name in net.outputs}


def log_step(
    param: SolverParameter, iteration: int, before: ScheduleState, after: ScheduleState
) -> None:
    """Log that the rate's policy has gone a step further, if it has."""
    line = {"multistep": log.MULTISTEP, "plateau": log.PLATEAU}.get(param.lr_policy)
    if line is not None and after.current_step != before.current_step:
        line.write(iteration=iteration, step=after.current_step)


def display_rate(
    param: SolverParameter, iteration: int, schedule: ScheduleState, rate: float
) -> None:
    """Log the learning rate, and a recent minimum of the loss if the policy looks at it."""
    if needs_loss(param) and schedule.iter_last_event > iteration - param.display:
        log.PLATEAU_MINIMUM.write(iteration=iteration, minimum=schedule.minimum_loss)
    log.LEARNING_RATE.write(iteration=iteration, rate=rate)
