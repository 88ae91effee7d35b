"""`caffe examples`: the list, the files written, and what it refuses to overwrite."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd import distribution
from caffe_ssd.cli.main import main
from caffe_ssd.distribution import shipped_files

ROOT = Path(__file__).resolve().parents[2]


def files_in(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_lists_every_script_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["examples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    scripts = [file for file in shipped_files(ROOT) if file.suffix in (".py", ".sh")]
    assert [line.split("  ")[0].strip() for line in lines[: len(scripts)]] == [
        script.as_posix() for script in scripts
    ]
    assert all(len(line.split("  ", 1)[1].strip()) > 20 for line in lines[: len(scripts)])
    assert "label maps of VOC0712, VOC0712Plus, VOC12, coco" in lines[-2]


def test_writes_them_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "folder"
    assert main(["examples", str(target)]) == 0
    files = shipped_files(ROOT)
    assert files_in(target) == {file: (ROOT / file).read_bytes() for file in files}
    assert f"wrote {len(files)} files to examples/ and data/ in {target}" in capsys.readouterr().out
    (target / files[0]).unlink()
    assert main(["examples", str(target)]) == 0
    assert "wrote 1 files" in capsys.readouterr().out


def test_what_a_user_has_changed_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = tmp_path / "data" / "VOC0712" / "classes.txt"
    changed.parent.mkdir(parents=True)
    changed.write_text("mine\n")
    assert main(["examples", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"nothing was written: 1 files differ from the package's, as {changed}" in error
    assert files_in(tmp_path) == {changed.relative_to(tmp_path): b"mine\n"}
    assert main(["examples", str(tmp_path), "-force"]) == 0
    assert files_in(tmp_path)[changed.relative_to(tmp_path)] != b"mine\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["examples", str(tmp_path / "file")]) == 1
    assert f"Could not make {tmp_path / 'file'}" in capsys.readouterr().err


def test_what_tools_write_into_the_same_folders_is_left_out(tmp_path: Path) -> None:
    for name in ("data/VOC0712/labelmap_voc.prototxt", "examples/dsod/train.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    wanted = shipped_files(tmp_path)
    assert len(wanted) == 2
    for name in ("data/VOC0712/trainval.txt", "data/VOC0712/test_name_size.txt"):
        (tmp_path / name).touch()
    database = tmp_path / "elsewhere"
    database.mkdir()
    (database / "x.py").touch()
    (tmp_path / "examples" / "VOC0712_lmdb").symlink_to(database)
    (tmp_path / "examples" / "link.py").symlink_to(database / "x.py")
    assert shipped_files(tmp_path) == wanted


def test_neither_package_nor_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distribution, "__file__", str(tmp_path / "caffe_ssd" / "distribution.py"))
    assert main(["examples"]) == 1
    assert "the examples are missing" in capsys.readouterr().err
