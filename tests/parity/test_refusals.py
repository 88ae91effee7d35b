"""What the reference refuses is refused here, by an error that says where and what is allowed.

Every entry of the recorded refusals is run the way a user meets it: files on disk, `caffe.Net` or
`caffe.get_solver`, then as many passes as it takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest

from caffe_ssd.errors import CaffeError, LayerError
from tests.support.golden import GOLDEN

Entry = Mapping[str, Any]


def recorded(part: str) -> list[Entry]:
    """The refusals recorded for `layers` or `solvers`."""
    entries: list[Entry] = json.loads((GOLDEN / part / "errors.json").read_text())
    return entries


def entry_id(entry: Entry) -> str:
    return str(entry["name"])


# How a message says what would be right.
RULE = re.compile(
    r"must|may|needs?\b|needed|takes|[Aa]llowed|[Kk]nown: |known types: |Expected"
    r"|give|set |remove|keep only|create|rename|spelling|cannot work in place|sys\.path|begin at"
    r"|makes this file"
)

# Errors of the graph, which belong to a blob or to several layers: they quote its name.
GRAPH = {
    "Net_unknown_bottom": ("z", "a"),
    "Net_bottom_produced_later": ("y", "a"),
    "Net_top_produced_twice": ("y", "b"),
    "Net_overwritten_after_use": ("y", "c"),
    "Net_in_place_position": ("x", "a"),
    "Net_duplicate_input": ("x", "input"),
}

# Errors of the text stand at a line and a column of it.
TEXT = {
    "Net_unknown_field": "net.prototxt:9:3: ",
    "Net_unknown_enum": "net.prototxt:9:25: ",
    "Net_syntax_error": "net.prototxt:2:25: ",
    "Solver_unknown_field": "solver.prototxt:6:1: ",
}

# What concerns a whole file names the file, and a file that cannot be used its path.
FILE = {
    "Net_layer_and_layers": "net.prototxt: ",
    "Net_input_shape_count": "net.prototxt: ",
    "Solver_net_file_missing": "none.prototxt: ",
    "Solver_snapshot_folder_missing": "no/such/folder/s' ",
}


def check_message(entry: Entry, error: CaffeError) -> None:
    """The message names the place and the rule, in one line."""
    name, message = entry["name"], str(error)
    assert "\n" not in message
    assert RULE.search(message), message
    if name in GRAPH:
        assert all(f"'{word}'" in message for word in GRAPH[name]), message
    elif name in TEXT or name in FILE:
        assert (TEXT | FILE)[name] in message
    elif "solver" in entry:
        assert re.match(r"\S*solver\.prototxt: ", message), message
    else:
        assert isinstance(error, LayerError)
        assert message.startswith(tuple(places(entry["prototxt"]))), message


def places(text: str) -> Iterator[str]:
    """`layer 'name' (Type): ` of every layer in a prototxt."""
    for layer in text.split("layer {")[1:]:
        name = re.search(r'name: *"(.*?)"', layer)[1]
        layer_type = re.search(r'type: *"(.*?)"', layer)
        yield f"layer {name!r} ({layer_type[1]}): " if layer_type else f"layer {name!r}: "


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text.replace("@NET@", f"{folder}/net.prototxt").replace("@DIR@", str(folder)))
    return str(path)


def run_net(entry: Entry, path: str) -> None:
    net = caffe.Net(path, getattr(caffe, entry["phase"]))
    assert entry["stage"] != "init", "accepted"
    for name, shape in entry["inputs"].items():
        net.blobs[name].reshape(*shape)
        net.blobs[name].data[...] = np.asarray(entry.get("fill", {}).get(name, 0), np.float32)
    net.forward()
    assert entry["stage"] == "backward", "accepted"
    net.backward()


@pytest.mark.parametrize("entry", recorded("layers"), ids=entry_id)
def test_net_is_refused(entry: Entry, tmp_path: Path) -> None:
    path = write(tmp_path, "net.prototxt", entry["prototxt"])
    with pytest.raises(CaffeError) as caught:
        run_net(entry, path)
    check_message(entry, caught.value)


@pytest.mark.parametrize("entry", recorded("solvers"), ids=entry_id)
def test_solver_is_refused(entry: Entry, tmp_path: Path) -> None:
    write(tmp_path, "net.prototxt", entry["prototxt"])
    path = write(tmp_path, "solver.prototxt", entry["solver"])
    with pytest.raises(CaffeError) as caught:
        caffe.get_solver(path)
    check_message(entry, caught.value)


def test_every_recorded_refusal_is_here() -> None:
    names = [entry["name"] for part in ("layers", "solvers") for entry in recorded(part)]
    assert len(names) == len(set(names)) == 233
    assert {*GRAPH, *TEXT, *FILE} <= set(names)
