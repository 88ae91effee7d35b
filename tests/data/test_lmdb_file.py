"""The LMDB reader against the library that writes them, and against damage."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import lmdb
import pytest

from caffe_ssd.data.lmdb_file import LmdbFile
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.errors import CaffeError, DataError, FileError


def write(path, records, *, batch=100):
    with lmdb.open(str(path), map_size=1 << 28) as database:
        for start in range(0, len(records), batch):
            with database.begin(write=True) as writing:
                for key, value in records[start : start + batch]:
                    writing.put(key, value)
    return path / "data.mdb"


def some_records(count, seed=0):
    """Values of all kinds: empty, in a page of the tree, of pages of their own."""
    rng = random.Random(seed)
    sizes = [0, 1, 7, 900, 2000, 2040, 2100, 5000, 20000]
    keys = rng.sample(range(10**6), count)
    return [(b"%d" % key * rng.randint(1, 9), rng.randbytes(rng.choice(sizes))) for key in keys]


@pytest.mark.parametrize("count", [0, 1, 3, 700])
def test_reads_what_the_library_wrote(tmp_path, count):
    records = some_records(count)
    file = LmdbFile(str(write(tmp_path, records)))
    found = [(entry.key, file.value(entry)) for entry in file.entries()]
    assert found == sorted(records)
    assert file.num_entries == count
    first = file.first()
    assert (first is None) == (count == 0)
    assert first is None or (first.key, file.value(first)) == found[0]


def test_records_deleted_and_replaced(tmp_path):
    records = some_records(400)
    path = write(tmp_path, records)
    kept = dict(records)
    with lmdb.open(str(tmp_path), map_size=1 << 28) as database:
        for key, _ in records[::3]:
            with database.begin(write=True) as writing:
                writing.delete(key)
            del kept[key]
        with database.begin(write=True) as writing:
            writing.put(records[1][0], b"new")
        kept[records[1][0]] = b"new"
    file = LmdbFile(str(path))
    assert {entry.key: file.value(entry) for entry in file.entries()} == kept


def test_a_script_may_have_it_open_too(tmp_path):
    write(tmp_path, [(b"a", b"1")])
    with lmdb.open(str(tmp_path), readonly=True):
        assert LmdbSource(tmp_path)[0] == b"1"
        assert LmdbSource(tmp_path)[0] == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_reads_on(tmp_path):
    write(tmp_path, [(b"%04d" % i, b"%d" % i * 3000) for i in range(9)])
    source = LmdbSource(tmp_path)
    first = source[0]
    child = os.fork()
    if child == 0:
        os._exit(int(source[0] != first or source[8] != b"8" * 3000))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("share", [0.95, 0.6, 0.3])
def test_a_copy_that_was_cut_off(tmp_path, share):
    path = write(tmp_path, [(b"%06d" % i, b"x" * 3000) for i in range(300)])
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"data\.mdb: is cut off: it has \d+ of \d+ bytes; copy"):
        LmdbFile(str(path))
    with pytest.raises(DataError, match=r"cannot be opened as an LMDB: .*is cut off"):
        len(LmdbSource(tmp_path))


def test_cut_off_while_it_is_open(tmp_path):
    path = write(tmp_path, [(b"%06d" % i, b"x" * 3000) for i in range(300)])
    file = LmdbFile(str(path))
    entries = file.entries()
    os.truncate(path, 40_000)
    with pytest.raises(DataError, match="is cut off"):
        file.value(entries[-1])


@pytest.mark.parametrize("data", [b"", b"x" * 9000, b"\0" * 4096, os.urandom(9000)])
def test_other_files(tmp_path, data):
    path = tmp_path / "data.mdb"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not an LMDB, or damaged at its beginning"):
        LmdbFile(str(path))
    with pytest.raises(FileError, match="Could not open file"):
        LmdbFile(str(tmp_path / "none"))


def test_a_tree_that_bites_its_tail(tmp_path):
    path = write(tmp_path, some_records(700))
    data = bytearray(path.read_bytes())
    both = [struct.unpack_from("<Q", data, page * 4096 + 144)[0] for page in (0, 1)]
    root = struct.unpack_from("<Q", data, both.index(max(both)) * 4096 + 128)[0] * 4096
    node = root + struct.unpack_from("<H", data, root + 16)[0]
    struct.pack_into("<I", data, node, root // 4096)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a damaged LMDB: page \d+ stands twice in its tree"):
        LmdbFile(str(path)).entries()


def test_random_damage_is_an_error_or_does_not_matter(tmp_path):
    good = Path(write(tmp_path, some_records(60))).read_bytes()
    path = tmp_path / "data.mdb"
    rng = random.Random(1)
    tree = [
        p for p in range(0, len(good), 4096) if struct.unpack_from("<H", good, p + 10)[0] in (1, 2)
    ]
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.randint(1, 9)):
            data[rng.choice(tree) + rng.randrange(100)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            file = LmdbFile(str(path))
            for entry in file.entries():
                file.value(entry)
        except CaffeError:
            refused += 1
    assert refused > 100
