"""Published LMDB folders to the open format, through a real environment with an old pyarrow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.training.ha2g import convert, example, legacy, unpack
from ha2g_live.training.ha2g.dataset import DataSetError, open_dataset
from tests.ha2g_legacy import make_python, need_base

pytestmark = pytest.mark.timeout(600)  # a package index may be slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HA2G_LIVE_CACHE", str(folder))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)  # 220 MB


@pytest.fixture(scope="module")
def python(cache: Path) -> Path:
    return make_python(cache)


@pytest.fixture(scope="module")
def published(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmdb") / "ted"
    example.write_lmdb(folder, python, videos=2, seconds=5.0, seed=3)
    return folder


def _clip_message(**changes: object) -> tuple[dict[str, object], dict[str, object]]:
    raw = example.as_published(example.example_clips(videos=1, seconds=5.0)["train"][0])
    header: dict[str, object] = {
        "kind": "clip",
        "vid": "v",
        "skeleton": "ted_expressive",
        "words": [list(word) for word in raw.words],
        "times_s": [7.0, 7.0 + raw.duration_s],
    }
    arrays: dict[str, object] = {"positions": raw.positions, "audio": raw.audio}
    arrays["spectrogram"] = raw.spectrogram
    for name, value in changes.items():
        (header if name in header else arrays)[name] = value
    return header, arrays


def _one_record(python: Path, folder: Path, end: dict[str, object], **changes: object) -> None:
    messages = [_clip_message(**changes), ({"kind": "record", **end}, {})]
    legacy.write_records(python, folder / "train", iter(messages))


def test_environment_is_made_once_and_used_again(
    python: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = python.stat().st_mtime_ns
    assert cache in python.parents
    capfd.readouterr()
    assert legacy.legacy_python() == python
    assert python.stat().st_mtime_ns == made
    assert "installing" not in capfd.readouterr().err
    assert [f for f in cache.iterdir() if f.name.startswith("making-")] == []


def test_round_trip_equals_the_direct_way(published: Path, tmp_path: Path) -> None:
    tallies = convert.convert_lmdb(published, tmp_path / "through_lmdb")
    direct = example.write_example(tmp_path / "direct", videos=2, seconds=5.0, seed=3)
    assert tallies == direct
    one, other = open_dataset(tmp_path / "through_lmdb"), open_dataset(tmp_path / "direct")
    assert (one.skeleton, one.words, one.speakers) == (other.skeleton, other.words, other.speakers)
    assert len(one.speakers) == 2
    for name in ("train", "val", "test"):
        a, b = one.split(name), other.split(name)
        everything = np.arange(len(b))
        assert len(a) == len(b) > 0
        np.testing.assert_array_equal(a.poses(everything), b.poses(everything))
        np.testing.assert_array_equal(a.words_at(everything), b.words_at(everything))
        np.testing.assert_array_equal(a.audio(0), b.audio(0))
        for reference in ("clip", "stream"):
            np.testing.assert_array_equal(
                a.spectrogram(everything, reference), b.spectrogram(everything, reference)
            )


def test_gesture_is_told_from_its_records(python: Path, tmp_path: Path) -> None:
    example.write_lmdb(tmp_path / "in", python, "ted_gesture", videos=1, seconds=5.0)
    convert.convert_lmdb(tmp_path / "in", tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    assert data.skeleton.name == "ted_gesture"
    assert data.train.poses(np.array([0])).shape == (1, 34, 27)
    with pytest.raises(ConfigError, match="holds ted_gesture"):
        convert.convert_lmdb(tmp_path / "in", tmp_path / "other", "ted_expressive")
    assert not (tmp_path / "other").exists()


def test_command_prints_the_table(
    published: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert.main(["convert", str(published), "--out", str(out)]) == 0
    printed = capfd.readouterr().err
    assert "dropped: still wrists" in printed
    assert "windows kept" in printed
    assert len(open_dataset(out).train) > 0
    with pytest.raises(DataSetError, match="exists already"):
        convert.main(["convert", str(published), "--out", str(out)])


def test_a_pickled_object_is_refused_and_does_not_run(python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it_ran"
    stowaway = f"""
import lmdb, pyarrow, sys
class Stowaway:
    def __reduce__(self):
        return open, ({str(trace)!r}, "w")
context = pyarrow.SerializationContext()
context.register_type(Stowaway, "stowaway", pickle=True)
record = {{"vid": "video", "clips": [], "more": Stowaway()}}
value = pyarrow.serialize(record, context=context).to_buffer()
with lmdb.open(sys.argv[1]) as store, store.begin(write=True) as change:
    change.put(b"0000000000", value)
"""
    folder = tmp_path / "in" / "train"
    folder.mkdir(parents=True)
    subprocess.run([str(python), "-W", "ignore", "-c", stowaway, str(folder)], check=True)
    with pytest.raises(legacy.LegacyError, match="pickled object") as caught:
        convert.convert_lmdb(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
    # The same record does run code where it is read without our context.
    code = (
        "import lmdb, pyarrow, sys\n"
        "with lmdb.open(sys.argv[1], readonly=True, lock=False) as s, s.begin() as view:\n"
        "    pyarrow.deserialize(view.get(b'0000000000'), pyarrow.SerializationContext())\n"
    )
    subprocess.run([str(python), "-W", "ignore", "-c", code, str(folder)], check=True)
    assert trace.exists()


def test_an_extension_type_of_a_schema_is_not_unpickled(python: Path, tmp_path: Path) -> None:
    # CVE-2023-47248: reading a schema that names this type unpickles what it says.
    trace = tmp_path / "it_ran"
    code = f"""
import importlib.util, pickle, sys, pyarrow
spec = importlib.util.spec_from_file_location("unpack", sys.argv[1])
unpack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unpack)
class Evil:
    def __reduce__(self):
        return open, ({str(trace)!r}, "w")
about = {{b"ARROW:extension:name": b"arrow.py_extension_type",
         b"ARROW:extension:metadata": pickle.dumps(Evil())}}
schema = pyarrow.schema([pyarrow.field("a", pyarrow.int64(), metadata=about)])
sink = pyarrow.BufferOutputStream()
pyarrow.ipc.new_stream(sink, schema).close()
if sys.argv[2] == "safe":
    unpack.safe_context()
    unpack.safe_context()
try:
    pyarrow.ipc.open_stream(sink.getvalue()).read_all()
except Exception:
    pass
"""
    command = [str(python), "-W", "ignore", "-c", code, str(Path(unpack.__file__))]
    subprocess.run([*command, "safe"], check=True)
    assert not trace.exists()
    subprocess.run([*command, "plain"], check=True)
    assert trace.exists()


def test_words_by_the_clock_of_the_video_and_of_the_clip(python: Path, tmp_path: Path) -> None:
    by_clip = [("one", 0.5, 0.7), ("two", 2.0, 2.2), ("three", 4.0, 4.2)]
    by_video = [(word, start + 7.0, end + 7.0) for word, start, end in by_clip]
    found = []
    for name, words in (("a", by_clip), ("b", by_video)):
        _one_record(python, tmp_path / name, {}, words=words)
        convert.convert_lmdb(tmp_path / name, tmp_path / f"{name}_out")
        data = open_dataset(tmp_path / f"{name}_out")
        assert data.words == ("", "<unknown>", "one", "two", "three")
        found.append(data.train.clip_words(0))
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0][[7, 30, 60]].tolist() == [2, 3, 4]


def test_a_spectrogram_that_is_not_decibels_is_computed(python: Path, tmp_path: Path) -> None:
    for name, wrong in (
        ("a", np.full((128, 157), 30.0, np.float16)),
        ("b", np.full((128, 20), -10.0, np.float16)),
    ):
        _one_record(python, tmp_path / name, {}, spectrogram=wrong)
        tallies = convert.convert_lmdb(tmp_path / name, tmp_path / f"{name}_out")
        assert tallies["train"].computed == 1
        found = open_dataset(tmp_path / f"{name}_out").train.clip_spectrogram(0)
        assert -80.0 <= found.min() < -60.0
        assert found.max() == 0.0


@pytest.mark.parametrize("name", ["lmdb_train", "ted_dataset-train", "train"])
def test_folder_names(published: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(published / "val", tmp_path / "in" / name)
    shutil.copytree(published / "val", tmp_path / "in" / "lmdb_train_cache")
    assert convert.lmdb_folders(tmp_path / "in") == {"train": tmp_path / "in" / name}


def test_only_a_test_split(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "test", tmp_path / "in" / "test")
    convert.convert_lmdb(tmp_path / "in", tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    assert (len(data.train), len(data.val)) == (0, 0)
    assert len(data.test) > 0


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="there is no folder"):
        convert.convert_lmdb(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataSetError, match="no LMDB folder"):
        convert.convert_lmdb(tmp_path, tmp_path / "out")
    (tmp_path / "train" / "data.mdb").touch()
    (tmp_path / "lmdb_train").mkdir()
    (tmp_path / "lmdb_train" / "data.mdb").touch()
    with pytest.raises(DataSetError, match="both lmdb_train and train"):
        convert.convert_lmdb(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "garbage record"])
def test_damaged_lmdb_is_one_line(
    python: Path, published: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "in" / "train"
    shutil.copytree(published / "train", folder)
    file = folder / "data.mdb"
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "noise":
        file.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif damage == "cut":
        os.truncate(file, file.stat().st_size // 8)
    else:
        code = (
            "import lmdb, sys\n"
            "with lmdb.open(sys.argv[1], map_size=1 << 26) as s, s.begin(write=True) as change:\n"
            "    change.put(b'0000000000', b'nothing that anybody serialised')\n"
        )
        subprocess.run([str(python), "-c", code, str(folder)], check=True)
    with pytest.raises((legacy.LegacyError, DataSetError)) as caught:
        convert.convert_lmdb(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert [f.name for f in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
def test_read_only_folder(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "train"
    shutil.copytree(published / "train", folder)
    (folder / "lock.mdb").unlink()
    for path in (folder / "data.mdb", folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        convert.convert_lmdb(tmp_path / "in", tmp_path / "out")
        assert sorted(f.name for f in folder.iterdir()) == ["data.mdb"]
    finally:
        folder.chmod(0o755)
    assert len(open_dataset(tmp_path / "out").train) > 0


def test_an_interpreter_without_the_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(legacy.LegacyError, match=r"pyarrow==11\.0\.0"):
        legacy.legacy_python(tmp_path / "no_such_python")
    with pytest.raises(legacy.LegacyError, match="needs  pip install"):
        legacy.legacy_python(Path(sys.executable))


def test_too_new_a_python_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HA2G_LIVE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(legacy.LegacyError, match=r"Python 3\.13 .* --legacy-python") as caught:
        legacy.legacy_python()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_failed_install_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HA2G_LIVE_CACHE", str(tmp_path))
    need_base()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(legacy.LegacyError, match="check the network"):
        legacy.legacy_python()
    assert list(tmp_path.iterdir()) == []


def test_the_package_itself_needs_neither() -> None:
    code = (
        "import sys, ha2g_live.training.ha2g.convert\n"
        "assert not {'pyarrow', 'lmdb', 'torch'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
