"""Caffe's log: the text of every line, the file and line number it carried, and the glog prefix.

Spec: caffe-net.md section 20. This is the only file that writes the format;
`tools/training_log.py` reads it:

    I0704 09:15:02.120034  4321 solver.cpp:243] Iteration 100, loss = 4.71

A `Line` is one kind of message. Its `write` sends the text through the standard `logging` module,
with the reference's `file:line` attached for `GlogFormatter`. Numbers look as C++ prints them.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from google.protobuf.message import Message

from caffe_ssd.proto.text import format_text

logger = logging.getLogger(__name__)

_LETTERS = {
    logging.DEBUG: "I",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}
# Lines of other parts, which know nothing of Caffe's source files.
_SOURCES_BY_START = {
    "Ignoring source layer": "net.cpp:761",
    "Opened lmdb": "db_lmdb.cpp:35",
}


@dataclass(frozen=True)
class Line:
    """One kind of log line.

    Args:
        source: the reference's `file:line`.
        template: the text, with fields in braces.
        level: a level of the `logging` module.
    """

    source: str
    template: str
    level: int = logging.INFO

    def write(self, **fields: object) -> None:
        """Log the line with these fields; floats are printed by `cpp_number`."""
        if logger.isEnabledFor(self.level):
            text = self.template.format_map({k: _printed(v) for k, v in fields.items()})
            logger.log(self.level, "%s", text, extra={"caffe_source": self.source})


def cpp_number(value: float) -> str:
    """A number with 6 significant digits, as a C++ stream prints it: 0.1, 1e-05, 5.43211, nan."""
    return f"{value:g}"


def loss_suffix(value: float, weight: float | None) -> str:
    """What follows an output's value when the output is part of the loss, else nothing."""
    if not weight:
        return ""
    with np.errstate(all="ignore"):
        product = float(np.float32(value) * np.float32(weight))
    return f" (* {cpp_number(weight)} = {cpp_number(product)} loss)"


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape with its number of elements: `8 3 300 300 (2160000)`."""
    count = int(np.prod(shape, dtype=np.int64))
    return "".join(f"{size} " for size in shape) + f"({count})"


def write_outputs(
    line: Line, values: Mapping[str, Sequence[float]], weights: Mapping[str, float]
) -> None:
    """Log one line per element of the outputs; elements are numbered through all outputs."""
    elements = [(name, value) for name, some in values.items() for value in some]
    for i, (name, value) in enumerate(elements):
        suffix = loss_suffix(value, weights.get(name))
        line.write(index=i, name=name, value=value, suffix=suffix)


def message_text(message: Message) -> str:
    """A message as text with whole floats written as C++ does: `lr_mult: 1`, not 1.0."""
    text = format_text(message).rstrip("\n")
    return re.sub(r"^( *\w+: -?\d+)\.0$", r"\1", text, flags=re.MULTILINE)


class GlogFormatter(logging.Formatter):
    """Puts glog's prefix before each record: level and date, time, thread, file and line."""

    def format(self, record: logging.LogRecord) -> str:
        """The prefix and the message; see `logging.Formatter.format`."""
        now = datetime.fromtimestamp(record.created)
        letter = _LETTERS.get(record.levelno, "I")
        thread = f"{threading.get_native_id():5d}"
        prefix = f"{letter}{now:%m%d %H:%M:%S.%f} {thread} {_source(record)}] "
        return prefix + super().format(record)


def _source(record: logging.LogRecord) -> str:
    source = getattr(record, "caffe_source", None)
    if isinstance(source, str):
        return source
    message = record.getMessage()
    for start, source in _SOURCES_BY_START.items():
        if message.startswith(start):
            return source
    return f"{record.filename}:{record.lineno}"


def _printed(value: object) -> object:
    return cpp_number(value) if isinstance(value, float) else value


# Construction of the solver.
SOLVER_PARAMETERS = Line("solver.cpp:63", "Initializing solver from parameters: \n{text}")
TRAIN_NET_PARAM = Line("solver.cpp:92", "Creating training net specified in train_net_param.")
TRAIN_NET_FILE = Line("solver.cpp:96", "Creating training net from train_net file: {path}")
NET_PARAM = Line("solver.cpp:101", "Creating training net specified in net_param.")
NET_FILE = Line("solver.cpp:106", "Creating training net from net file: {path}")
TEST_NET = Line("solver.cpp:196", "Creating test net (#{index}) specified by {source}")
SCAFFOLDING_DONE = Line("solver.cpp:75", "Solver scaffolding done.")

# Training.
RESTORING_FROM = Line("solver.cpp:303", "Restoring previous solver status from {path}")
SOLVING = Line("solver.cpp:294", "Solving {name}")
POLICY = Line("solver.cpp:295", "Learning Rate Policy: {policy}")
TRAIN_LOSS = Line("solver.cpp:243", "Iteration {iteration}, loss = {loss}")
TRAIN_OUTPUT = Line("solver.cpp:259", "    Train net output #{index}: {name} = {value}{suffix}")
LEARNING_RATE = Line("sgd_solver.cpp:138", "Iteration {iteration}, lr = {rate}")
MULTISTEP = Line("sgd_solver.cpp:47", "MultiStep Status: Iteration {iteration}, step = {step}")
PLATEAU = Line("sgd_solver.cpp:70", "Plateau Status: Iteration {iteration}, step = {step}")
PLATEAU_MINIMUM = Line(
    "sgd_solver.cpp:79",
    "Plateau Status: Iteration {iteration}, current minimum_loss = {minimum}",
)
CLIPPING = Line(
    "sgd_solver.cpp:121",
    "Gradient clipping: scaling down gradients (L2 norm {norm} > {limit}) by scale factor {scale}",
)
# The source lines of the four kinds about one blob are not on record.
DEBUG_TOP = Line("net.cpp:598", "    [Forward] Layer {layer}, top blob {blob} data: {value}")
DEBUG_PARAM = Line("net.cpp:609", "    [Forward] Layer {layer}, param blob {param} data: {value}")
DEBUG_BOTTOM_DIFF = Line(
    "net.cpp:626", "    [Backward] Layer {layer}, bottom blob {blob} diff: {value}"
)
DEBUG_PARAM_DIFF = Line(
    "net.cpp:637", "    [Backward] Layer {layer}, param blob {index} diff: {value}"
)
DEBUG_PARAMS = Line(
    "net.cpp:586",
    "    [Backward] All net params (data, diff): L1 norm = ({l1_data}, {l1_diff}); "
    "L2 norm = ({l2_data}, {l2_diff})",
)
FINAL_LOSS = Line("solver.cpp:332", "Iteration {iteration}, loss = {loss}")
STOPPED_EARLY = Line("solver.cpp:316", "Optimization stopped early.")
DONE = Line("solver.cpp:337", "Optimization Done.")

# Testing.
TESTING = Line("solver.cpp:358", "Iteration {iteration}, Testing net (#{index})")
DETECTION_TESTING = Line("solver.cpp:433", "Iteration {iteration}, Testing net (#{index})")
TEST_LOSS = Line("solver.cpp:414", "Test loss: {loss}")
TEST_OUTPUT = Line("solver.cpp:425", "    Test net output #{index}: {name} = {value}{suffix}")
TEST_MEAN_AP = Line("solver.cpp:546", "    Test net output #{index}: {name} = {value}")
CLASS_AP = Line("solver.cpp:540", "class{label}: {value}")
MISSING_DETECTIONS = Line("solver.cpp:520", "Missing true_pos for label: {label}", logging.WARNING)
TEST_INTERRUPTED = Line("solver.cpp:402", "Test interrupted.")
NOT_SHARED = Line("net.cpp:693", "Ignoring source layer {name}")

# Snapshots.
SNAPSHOT_BINARY = Line("solver.cpp:596", "Snapshotting to binary proto file {path}")
SNAPSHOT_HDF5 = Line("solver.cpp:606", "Snapshotting to HDF5 file {path}")
STATE_BINARY = Line("sgd_solver.cpp:307", "Snapshotting solver state to binary proto file {path}")
STATE_HDF5 = Line("sgd_solver.cpp:317", "Snapshotting solver state to HDF5 file {path}")
RESTORING = Line("sgd_solver.cpp:356", "SGDSolver: restoring history")

# The command line tool.
USE_CPU = Line("caffe.cpp:210", "Use CPU.")
USING_GPUS = Line("caffe.cpp:214", "Using GPUs {ids}")
GPU_NAME = Line("caffe.cpp:219", "GPU {id}: {name}")
USE_ONE_CPU = Line("caffe.cpp:279", "Use CPU.")
USE_GPU = Line("caffe.cpp:276", "Use GPU with device ID {id}")
FINETUNING = Line("caffe.cpp:155", "Finetuning from {path}")
RESUMING = Line("caffe.cpp:241", "Resuming from {path}")
STARTING = Line("caffe.cpp:251", "Starting Optimization")
TOOL_DONE = Line("caffe.cpp:254", "Optimization Done.")
TEST_RUNNING = Line("caffe.cpp:285", "Running for {iterations} iterations.")
TEST_BATCH = Line("caffe.cpp:308", "Batch {batch}, {name} = {value}")
TEST_TOTAL_LOSS = Line("caffe.cpp:313", "Loss: {loss}")
TEST_MEAN = Line("caffe.cpp:325", "{name} = {value}{suffix}")
AP_VERSION = Line("caffe.cpp:325", "{name} by {version}:")
MEAN_AP = Line("caffe.cpp:325", "{name} mAP ({version}) = {value}")
TIME_FORWARD = Line("caffe.cpp:355", "Performing Forward")
TIME_INITIAL_LOSS = Line("caffe.cpp:360", "Initial loss: {loss}")
TIME_BACKWARD = Line("caffe.cpp:361", "Performing Backward")
TIME_BEGIN = Line("caffe.cpp:369", "*** Benchmark begins ***")
TIME_ITERATIONS = Line("caffe.cpp:370", "Testing for {iterations} iterations.")
TIME_ITERATION = Line("caffe.cpp:398", "Iteration: {iteration} forward-backward time: {ms} ms.")
TIME_PER_LAYER = Line("caffe.cpp:401", "Average time per layer: ")
TIME_LAYER_FORWARD = Line("caffe.cpp:404", "{layer:>10}\tforward: {ms} ms.")
TIME_LAYER_BACKWARD = Line("caffe.cpp:407", "{layer:>10}\tbackward: {ms} ms.")
TIME_MEAN_FORWARD = Line("caffe.cpp:412", "Average Forward pass: {ms} ms.")
TIME_MEAN_BACKWARD = Line("caffe.cpp:414", "Average Backward pass: {ms} ms.")
TIME_MEAN_BOTH = Line("caffe.cpp:416", "Average Forward-Backward: {ms} ms.")
TIME_TOTAL = Line("caffe.cpp:418", "Total Time: {ms} ms.")
TIME_END = Line("caffe.cpp:419", "*** Benchmark ends ***")

# Construction of a net; the texts are made by `net_log.py`.
RULE_NOT_MET = Line("net.cpp:322", "{text}")
NET_PARAMETERS = Line("net.cpp:58", "Initializing net from parameters: \n{text}")
CREATING = Line("layer_factory.hpp:77", "Creating layer {layer}")
CREATING_LAYER = Line("net.cpp:100", "Creating Layer {layer}")
BOTTOM = Line("net.cpp:434", "{layer} <- {blob}")
TOP = Line("net.cpp:408", "{layer} -> {blob}")
TOP_IN_PLACE = Line("net.cpp:395", "{layer} -> {blob} (in-place)")
DATA_SIZE = Line("data_layer.cpp:41", "output data size: {sizes}")
ANNOTATED_DATA_SIZE = Line("annotated_data_layer.cpp:62", "output data size: {sizes}")
SETTING_UP = Line("net.cpp:150", "Setting up {layer}")
TOP_SHAPE = Line("net.cpp:157", "Top shape: {shape}")
LOSS_WEIGHT = Line("net.cpp:160", "    with loss weight {weight}")
MEMORY = Line("net.cpp:165", "Memory required for data: {bytes}")
NEEDS_BACKWARD = Line("net.cpp:226", "{layer} needs backward computation.")
NO_BACKWARD = Line("net.cpp:228", "{layer} does not need backward computation.")
NET_OUTPUT = Line("net.cpp:270", "This network produces output {blob}")
NET_DONE = Line("net.cpp:283", "Network initialization done.")
