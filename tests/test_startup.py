"""What is not needed is not imported, and the garbage collector is put off only for a while."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from caffe_ssd.startup import Later, without_collection

UNNEEDED = """
import gc, sys
import caffe
print([name for name in ("h5py", "matplotlib", "onnx", "openvino", "rich") if name in sys.modules])
print(gc.isenabled())
import caffe_ssd.hdf5
print(caffe_ssd.hdf5.h5py.File.__name__, "h5py" in sys.modules)
"""


def test_importing_caffe_imports_nothing_that_it_may_not_need() -> None:
    command = [sys.executable, "-c", UNNEEDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "True", "File True"], done.stderr


def test_a_module_is_imported_when_something_of_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr("builtins.print", lambda *_: None)
    later = Later("this")
    assert "this" not in sys.modules
    assert later.s.startswith("Gur Mra bs Clguba")
    assert "this" in sys.modules
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = later.nothing
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _ = Later("no_such_module").anything


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(KeyError), without_collection():
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
