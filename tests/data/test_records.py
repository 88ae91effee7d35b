"""Record sources against recorded databases, and what they refuse."""

from __future__ import annotations

import json
import os
import pickle
import zlib

import lmdb
import numpy as np
import pytest

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.records import LmdbSource, open_source
from caffe_ssd.data.samples import parse_classification, parse_detection
from caffe_ssd.errors import DataError
from caffe_ssd.proto.caffe_pb2 import DataParameter
from tests.data.databases import datum, picture, write_lmdb
from tests.support.golden import GOLDEN, SHARED_GOLDEN, needs_shared


def data_param(source, backend=DataParameter.LMDB):
    return DataParameter(source=str(source), backend=backend)


@needs_shared
def test_recorded_databases():
    facts = json.loads((GOLDEN / "data" / "db_facts.json").read_text())
    for name, database in facts.items():
        source = LmdbSource(SHARED_GOLDEN / "data" / name)
        assert len(source) == len(database["records"])
        for index, record in enumerate(database["records"]):
            assert source.keys()[index].decode() == record["key"]
            assert zlib.crc32(source[index]) == record["value_crc32"]
            check_record(source[index], record)
        assert not (SHARED_GOLDEN / "data" / name / "lock.mdb").exists()


def check_record(value, facts):
    sample = (parse_detection if facts["has_type"] else parse_classification)(value)
    image = decode_datum(sample.datum)
    assert image.shape[:2] == (facts["datum"]["height"], facts["datum"]["width"])
    if "decoded" in facts:
        assert zlib.crc32(image.tobytes()) == facts["decoded"]["crc32"]
    else:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        assert zlib.crc32(planes.tobytes()) == facts["datum"]["data_crc32"]
    assert sample.datum.label == facts["datum"]["label"]
    found = sample.annotations
    expected = [
        (group["label"], item["instance_id"], *item["bbox"], item["difficult"])
        for group in facts["groups"]
        for item in group["annotations"]
    ]
    assert len(found) == len(expected)
    if expected:
        rows = np.array(expected, np.float32)
        np.testing.assert_array_equal(found.rows(5)[:, 1:], rows)
        assert (found.rows(5)[:, 0] == 5).all()


def test_records_come_in_key_order(tmp_path):
    with lmdb.open(str(tmp_path)) as database, database.begin(write=True) as writing:
        for key in (b"10", b"09", b"2"):
            writing.put(key, key * 2)
    source = LmdbSource(tmp_path)
    assert [source[i] for i in range(3)] == [b"0909", b"1010", b"22"]
    assert source.first() == b"0909"


def test_two_sources_may_read_one_database(small_database):
    assert LmdbSource(small_database)[3] == LmdbSource(small_database)[3]


def test_a_source_survives_pickling(small_database):
    source = LmdbSource(small_database)
    first = source[0]
    assert pickle.loads(pickle.dumps(source))[0] == first


def test_a_replaced_database_is_read_anew(tmp_path):
    path = tmp_path / "db"
    old = LmdbSource(write_lmdb(path, [b"old"]))
    assert old[0] == b"old"
    path.rename(tmp_path / "moved")
    assert LmdbSource(write_lmdb(path, [b"new"]))[0] == b"new"
    assert old[0] == b"old"


def test_missing_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"'no/lmdb' does not exist \(from .*convert_annoset"):
        open_source(data_param("no/lmdb"))


def test_unset_source():
    with pytest.raises(DataError, match=r"data_param\.source is not set"):
        open_source(DataParameter())


def test_empty_database(tmp_path):
    with pytest.raises(DataError, match="has no records"):
        open_source(data_param(write_lmdb(tmp_path / "db", [])))


def test_folder_that_is_no_database(tmp_path):
    with pytest.raises(DataError, match=r"is not an LMDB: it has no file data\.mdb"):
        open_source(data_param(tmp_path))


def test_broken_database(tmp_path):
    (tmp_path / "data.mdb").write_bytes(os.urandom(9000))
    with pytest.raises(DataError, match="cannot be opened as an LMDB"):
        open_source(data_param(tmp_path))


def test_leveldb_by_its_files(tmp_path):
    (tmp_path / "MANIFEST-000002").touch()
    with pytest.raises(DataError, match=r"is a LevelDB.*convert_annoset --backend=lmdb"):
        open_source(data_param(tmp_path))


def test_leveldb_by_default(tmp_path, small_database):
    with pytest.raises(DataError, match=r"is an LMDB but .* \(its default\); write backend: LMDB"):
        open_source(DataParameter(source=small_database))
    with pytest.raises(DataError, match=r"backend LEVELDB is not supported"):
        open_source(data_param(tmp_path, DataParameter.LEVELDB))


def test_parsers_refuse_the_other_kind(small_database):
    plain = datum(picture()).SerializeToString()
    with pytest.raises(DataError, match=r"AnnotatedDatum"):
        parse_detection(plain)
    with pytest.raises(DataError, match="is not an AnnotatedDatum"):
        parse_detection(b"\xff\xff")
