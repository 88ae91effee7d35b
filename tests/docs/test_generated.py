"""The generated pages of docs/ say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from caffe_ssd.proto.caffe_pb2 import DESCRIPTOR
from caffe_ssd.proto.extensions import LAYER_TYPES, is_extension

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "layers.md").read_text(encoding="utf-8")


def test_layers_page_is_current() -> None:
    document = runpy.run_path(str(DOCS / "make_layers.py"))["document"]
    assert document() == TEXT, "docs/layers.md is out of date; run `make docs`"


def test_models_page_is_current() -> None:
    document = runpy.run_path(str(DOCS / "make_models.py"))["document"]
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    assert document() == page, "docs/models.md is out of date; run `make docs`"


def test_every_extension_is_on_its_page() -> None:
    page = (DOCS / "extensions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert named >= LAYER_TYPES
    for message in DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            if is_extension(field) and not field.name.endswith("_param"):
                assert field.name in named, field.full_name


def test_every_link_of_the_layers_page_leads_somewhere() -> None:
    anchors = {title.lower() for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\((.*?)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (DOCS / target).is_file(), target
