"""Class names and splits of YOLO's folders: data.yaml, classes.txt, obj.names.

Of data.yaml only `names`, `path`, `train`, `val`, `test` and `kpt_shape` matter, in the ways that
people and programs write them; a value that is not understood is an error that shows its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from caffe_ssd.datasets.folder import Folder
from caffe_ssd.errors import DataError
from caffe_ssd.files import read_text

_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
_KEY = re.compile(r"([A-Za-z_]\w*)\s*:(?:\s+(.*)|\s*)$")
_NUMBERED = re.compile(r"""["']?(\d+)["']?\s*:\s*(.*)$""")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


@dataclass(kw_only=True)
class YoloNames:
    """What stands beside the labels.

    Args:
        names: of the classes from 0.
        source: the file that has them; nothing if there is none.
        splits: picture -> train, val or test.
        has_key_points: the labels go on behind the box.
    """

    names: list[str] = field(default_factory=list)
    source: str = ""
    splits: dict[str, str] = field(default_factory=dict)
    has_key_points: bool = False

    def name_of(self, label: int) -> str:
        """The class's name.

        Raises:
            DataError: there are names, but none for it.
        """
        if not self.source:
            return str(label)
        if label >= len(self.names):
            raise DataError(
                f"class {label} has no name: {self.source} names {len(self.names)} classes from 0"
            )
        return self.names[label]


def class_names(folder: Folder) -> YoloNames:
    """Read what a folder has.

    Raises:
        DataError: data.yaml is not understood.
    """
    for name in folder.ending(".yaml", ".yml"):
        values = _read_yaml(folder.path(name))
        if "names" in values:
            return YoloNames(
                names=_as_names(values["names"], name),
                source=name,
                splits=_splits(folder, name, values),
                has_key_points="kpt_shape" in values,
            )
    for name in folder.names:
        base = PurePosixPath(name).name
        if base in _NAME_FILES or base.endswith(".names"):
            lines = [line.strip() for line in read_text(folder.path(name)).splitlines()]
            return YoloNames(names=[line for line in lines if line], source=name)
    return YoloNames()


def quoted(name: str) -> str:
    """A name as YAML's double-quoted text."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _as_names(value: object, source: str) -> list[str]:
    if isinstance(value, dict) and sorted(value) == list(range(len(value))):
        return [value[label] for label in range(len(value))]
    if isinstance(value, list):
        return value
    raise DataError(
        f"{source}: names is {str(value)[:60]!r}; need a list, or 0: name, 1: name, ..."
    )


def _splits(folder: Folder, source: str, values: dict[str, object]) -> dict[str, str]:
    """Pictures that `train: FOLDER or LIST` and so on name; paths that lead nowhere name none."""
    found: dict[str, str] = {}
    home = PurePosixPath(source).parent
    for key, split in _SPLITS.items():
        value = values.get(key)
        for place in value if isinstance(value, list) else [value]:
            for picture in _pictures_at(folder, home, str(place or "")):
                found.setdefault(picture, split)
    return found


def _pictures_at(folder: Folder, home: PurePosixPath, place: str) -> Iterator[str]:
    """Roboflow writes `../train/images` for a folder beside data.yaml; others the whole path."""
    parts = [p for p in place.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    for start in range(len(parts)):
        path = home.joinpath(*parts[start:])
        if folder.holds(path.as_posix()):
            for line in read_text(folder.path(path.as_posix())).splitlines():
                if picture := folder.picture_named(line.strip(), path.as_posix()):
                    yield picture
            return
        below = [name for name in folder.pictures if name.startswith(f"{path.as_posix()}/")]
        if below:
            yield from below
            return


def _read_yaml(path: str) -> dict[str, object]:
    """The top-level keys of a simple YAML file with plain values, lists and numbered maps."""
    lines = [_without_comment(line) for line in read_text(path).splitlines()]
    values: dict[str, object] = {}
    at = 0
    while at < len(lines):
        match = _KEY.match(lines[at])
        at += 1
        if match is None:
            continue
        text = (match[2] or "").strip()
        below: list[str] = []
        while at < len(lines) and (not lines[at] or lines[at][0] in " \t-]}"):
            below.append(lines[at].strip())
            at += 1
        is_flow = text[:1] in ("[", "{")
        values[match[1]] = _flow(" ".join([text, *below]), path) if is_flow else _block(text, below)
    return values


def _block(text: str, below: list[str]) -> object:
    lines = [line for line in below if line]
    if text or not lines:
        return _scalar(text)
    if all(line.startswith("- ") or line == "-" for line in lines):
        return [_scalar(line[1:].strip()) for line in lines]
    numbered = [_NUMBERED.match(line) for line in lines]
    if all(numbered):
        return {int(match[1]): _scalar(match[2]) for match in numbered if match is not None}
    return None


def _flow(text: str, path: str) -> object:
    text = text.strip()
    if text[-1] != {"[": "]", "{": "}"}[text[0]]:
        raise DataError(f"{path}: {text[:60]!r} is not understood; write a name per line: '- name'")
    items = [item for item in _items(text[1:-1]) if item]
    if text[0] == "[":
        return [_scalar(item) for item in items]
    numbered = [_NUMBERED.match(item) for item in items]
    if not all(numbered):
        return None
    return {int(match[1]): _scalar(match[2]) for match in numbered if match is not None}


def _items(text: str) -> Iterator[str]:
    """Split at commas outside quotes."""
    item, quote = "", ""
    for character in text:
        if character == "," and not quote:
            yield item.strip()
            item = ""
            continue
        if character == quote:
            quote = ""
        elif character in "\"'" and not quote and item.strip()[-1:] in ("", ":"):
            quote = character
        item += character
    yield item.strip()


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _without_comment(line: str) -> str:
    """The line without what follows a `#` outside quotes."""
    quote = ""
    for at, character in enumerate(line):
        if character == quote:
            quote = ""
        elif character in "\"'" and not quote and (at == 0 or line[at - 1] in " [{,:"):
            quote = character
        elif character == "#" and not quote and (at == 0 or line[at - 1] in " \t"):
            return line[:at].rstrip()
    return line.rstrip()
