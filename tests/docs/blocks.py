"""What the pages show in code blocks: commands, Python, files, and text.

```sh blocks hold commands. A title names what they lack here (`title="needs COCO"`). Python
blocks with a file name for a title are files. Text blocks are synopses and what is printed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
# Pages that are made from the code and whose commands are tested as such are read, too.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("sh", "python", "text")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<head>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_HEAD = re.compile(r'(?P<language>\w*)(?: title="(?P<title>[^"]+)")?')
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_HEREDOC = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """One code block.

    Args:
        page: where it stands, relative to the project.
        line: of its first line of code.
        language: as its fence says.
        title: as its fence says, or empty.
        text: the code.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def is_file(self) -> bool:
        """Whether it is the content of the file that its title names."""
        return re.fullmatch(r"\S+\.\w+", self.title) is not None

    @property
    def lacks(self) -> str:
        """What its commands need and a test does not have; empty where they can run."""
        return self.title.removeprefix("needs ") if self.title.startswith("needs ") else ""


@dataclass(frozen=True)
class Command:
    """One command of a block.

    Args:
        block: where it stands.
        line: of the page.
        text: the whole command, several lines joined.
    """

    block: Block
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """The command as a shell would split it, without comments."""
        return shlex.split(self.text, comments=True)

    @property
    def is_script(self) -> bool:
        """Whether a shell must run it: it feeds a program from the page or another program."""
        return bool(_HEREDOC.search(self.text)) or " | " in self.text or "{" in self.text

    @property
    def place(self) -> str:
        """For messages and names of tests."""
        return f"{self.block.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """The code blocks of a page in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        head = _HEAD.fullmatch(match["head"].strip())
        assert head, f"{path}: the code block begins with {match['head']!r}"
        page = path.relative_to(ROOT).as_posix()
        line = text.count("\n", 0, match.start("text")) + 1
        code = dedent(match["text"]) if match["indent"] else match["text"]
        found.append(Block(page, line, head["language"], head["title"] or "", code))
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block."""
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        text = line
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1]
        if heredoc := _HEREDOC.search(text):
            for _, more in lines:
                text += f"\n{more}"
                if more == heredoc[1]:
                    break
        if text.strip() and not text.lstrip().startswith("#"):
            yield Command(block, number, text)


def inline(path: Path) -> Iterator[str]:
    """The code spans of a page, outside of its blocks."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    for match in _INLINE.finditer(text):
        yield " ".join(match[1].replace("\\|", "|").split())
