"""Every command and snippet of README and docs/ runs, or is at least understood by its parser.

A page's commands and snippets run in order, in a folder that has what they name (house.py). Blocks
whose title says what they need (`title="needs COCO"`) are only parsed: flags must exist and values
be allowed. Code spans in the text may use no flag that the action lacks.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Command, blocks, commands, inline
from tests.docs.running import flags_of, run, run_in_shell, understand

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUNNABLE = sorted(
    {
        block.page
        for block in BLOCKS
        if block.language in ("sh", "python") and not block.lacks and not block.is_file
    }
)
# Pages whose commands train or prepare engines.
LONG = (
    "docs/engines.md",
    "docs/export.md",
    "docs/holding_a_model.md",
    "docs/reproducing_a_paper.md",
    "docs/training.md",
    "docs/write_a_backbone.md",
)
# What no quick test runs. Scripts that a page has made before are there when its test runs.
PARSED = [
    command
    for block in BLOCKS
    if block.language == "sh" and (block.lacks or block.page in LONG)
    for command in commands(block)
    if block.lacks or not re.match(r"python (?!examples/)\w+\.py", command.text)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.page}:{block.line}"
        assert not block.title or block.is_file or block.lacks, f"{block.page}:{block.line}"
        if block.language == "python" and block.title != "old_script.py":  # Python 2
            compile(block.text, f"{block.page}:{block.line}", "exec")
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    indented = re.findall(r"\n\n {4,}(?![-*|]|\d+\. )\S.*", outside)
    in_lists = re.findall(r"^(?:[-*]|\d+\.) ", outside, re.MULTILINE)
    assert not indented or in_lists, f"{page.name}: code blocks stand between fences"


@pytest.mark.parametrize("command", PARSED, ids=lambda each: each.place)
def test_what_is_not_run_at_once_is_understood(command: Command, house: Path) -> None:
    if command.is_script:
        subprocess.run(["bash", "-n"], input=command.text, text=True, check=True)
    else:
        understand(command.words)


@pytest.mark.parametrize("page", [page for page in RUNNABLE if page not in LONG])
def test_what_a_page_says_works(page: str, house: Path) -> None:
    follow(page, house)


@pytest.mark.slow
@pytest.mark.parametrize("page", LONG)
def test_what_a_longer_page_says_works(page: str, house: Path) -> None:
    follow(page, house)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_actions_and_flags_in_the_text_exist(page: Path) -> None:
    known: dict[str, set[str]] = {}
    synopses = [block.text for block in blocks(page) if block.language == "text"]
    lines = [line for text in synopses for line in text.splitlines()]
    for span in [*inline(page), *lines]:
        if not (match := re.match(r"caffe ([a-z_]+(?: [a-z]+)?)(?= |$)", span)):
            continue
        action = match[1]
        if action not in known:
            known[action] = flags_of(action)
        for flag in re.findall(r"(?<=[\s\[|])--?([a-z][\w-]*)", span):
            name = flag.replace("-", "_")
            assert name in known[action] or name == "help", f"{page.name}: `{span}`"


def follow(page: str, folder: Path) -> None:
    """Do what a page says, from top to bottom."""
    names: dict[str, object] = {
        "image": np.zeros((3, 32, 48), np.float32),
        "pictures": torch.zeros(2, 3, 32, 48),
        "array": np.zeros((40, 60, 3), np.uint8),
        "show": lambda picture: None,
    }
    for block in blocks(ROOT / page):
        if block.lacks:
            continue
        if block.is_file:
            target = folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
        elif block.language == "sh":
            for command in commands(block):
                obey(command, folder)


def obey(command: Command, folder: Path) -> None:
    """Run one command; it must succeed."""
    if command.is_script:
        run_in_shell(command, folder)
    elif command.words[0] == "cd":
        os.chdir(command.words[1])
    else:
        status = run([os.path.expanduser(word) for word in command.words])
        assert status == 0, f"{command.place}: exit status {status}"
