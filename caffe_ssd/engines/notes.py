"""What the engine `auto` found out before, kept in the user's cache folder.

One small file per machine, net and kind of input; its name is a digest of all these. A file that
cannot be read, or makes no sense, counts as absent and is written again; where nothing can be
written, everything works, only without memory.

    $CAFFE_SSD_CACHE, or $XDG_CACHE_HOME/caffe-ssd, or ~/.cache/caffe-ssd
        engines/
            <digest>.json
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from caffe_ssd.errors import CaffeError
from caffe_ssd.files import atomic_write, read_text

logger = logging.getLogger(__name__)

_LONGEST = 1 << 16  # bytes
_WEIGHTS_KEPT = 16


@dataclass(frozen=True, kw_only=True)
class Note:
    """One finding.

    Args:
        engine: the name of the fastest.
        seconds: of the fastest pass, by name of the engine.
        agreed: digests of weights with which its results agreed with PyTorch's.
    """

    engine: str
    seconds: dict[str, float]
    agreed: list[str]

    def with_weights(self, digest: str) -> Note:
        """The note after agreement with other weights, too."""
        agreed = [*(each for each in self.agreed if each != digest), digest][-_WEIGHTS_KEPT:]
        return Note(engine=self.engine, seconds=self.seconds, agreed=agreed)


class NoteFile:
    """Where the finding about something is kept.

    Args:
        facts: what the finding is about: everything that may change it.
    """

    def __init__(self, facts: Mapping[str, object]) -> None:
        text = json.dumps(facts, sort_keys=True, default=str)
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        self.path = cache_folder() / "engines" / name

    def read(self) -> Note | None:
        """The finding; None if there is none, or what is there is damaged."""
        if not self.path.exists():
            return None
        try:
            return _note(json.loads(read_text(self.path, limit=_LONGEST)))
        except (CaffeError, ValueError, TypeError, KeyError, RecursionError):
            logger.info("%s is damaged and will be written again", self.path)
            return None

    def write(self, note: Note) -> None:
        """Keep a finding, if the folder can be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, json.dumps(asdict(note), indent=1) + "\n")
        except (OSError, CaffeError) as error:
            logger.info("What was measured is not kept: %s", error)


def cache_folder() -> Path:
    """The user's folder for what can be found out again; it may not exist."""
    own = os.environ.get("CAFFE_SSD_CACHE")
    if own:
        return Path(own)
    if sys.platform == "win32":
        above = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(above)) / "caffe-ssd"


def _note(data: dict[str, object]) -> Note:
    """What a file says.

    Raises:
        ValueError, TypeError, KeyError: it is no note.
    """
    engine, seconds, agreed = data["engine"], data["seconds"], data["agreed"]
    if not (isinstance(engine, str) and isinstance(seconds, dict) and isinstance(agreed, list)):
        raise ValueError("values of other types")
    times = {str(name): float(each) for name, each in seconds.items()}
    return Note(engine=engine, seconds=times, agreed=[str(each) for each in agreed])
