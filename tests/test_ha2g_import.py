"""The authors' checkpoints, and our own: read without running code, checked, made to stream."""

from __future__ import annotations

import argparse
import builtins
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ha2g_live.engines import open_engine
from ha2g_live.engines.published import Discriminator, Ha2g, Ha2gConfig
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_FRAMES, skeleton
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training.golden import NETWORK_TOLERANCE, network_outputs
from ha2g_live.training.ha2g.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from ha2g_live.training.ha2g.dataset import DataSet, open_dataset
from ha2g_live.training.ha2g.generator import load_generator
from ha2g_live.training.ha2g.importer import import_checkpoint, main, read_any
from ha2g_live.training.ha2g.parts import Parts, modules_of, names_of, to_parts
from ha2g_live.training.ha2g.pickled import StandIn, read_pickle
from ha2g_live.training.ha2g.writer import Clip, DataSetWriter
from tests.published_checkpoint import (
    ENTRIES,
    authors_classes,
    golden_parts,
    published_values,
    write,
)

HERE = Path(__file__).parent
SMALL = Ha2gConfig("ted_gesture", 3, 6, hidden=8, channels=(16, 16, 16, 16), text=6, features=4)


# --- the published checkpoints, whole


@pytest.fixture(scope="session", params=["gesture", "expressive"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A file in the authors' format with the golden weights, 115 or 200 MB."""
    which: str = request.param
    path = tmp_path_factory.mktemp("published") / f"{which}.bin"
    write(path, golden_parts(which))
    yield which, path
    path.unlink()


def test_published_checkpoint_gives_the_golden_windows(published: tuple[str, Path]) -> None:
    which, path = published
    checkpoint, remarks = read_any(path)
    assert remarks == []
    assert checkpoint.network.config == Ha2gConfig(f"ted_{which}", 7, 50)
    assert checkpoint.speakers == tuple(f"video{i}" for i in range(7))
    assert (checkpoint.words[1], checkpoint.words[49]) == ("<UNK>", "word49")
    assert (checkpoint.epoch, checkpoint.seed, checkpoint.reference) == (31, "start", "clip")
    saved = path.with_name("checkpoint.pt")
    save_checkpoint(saved, checkpoint)
    checkpoint = load_checkpoint(path.parent)  # a folder that holds it
    saved.unlink()
    with np.load(HERE / "ha2g_golden.npz") as stored:
        golden = {
            name.split("/", 1)[1]: stored[name]
            for name in stored.files
            if name.startswith(f"{which}/")
        }
    with torch.inference_mode():
        found = dict(network_outputs(checkpoint.network, checkpoint.discriminator, golden))
    for name in ("windows", "discriminator"):
        difference = np.abs(found[name] - golden[name]).max() / np.abs(golden[name]).max()
        assert difference <= NETWORK_TOLERANCE, name


@pytest.mark.parametrize("which", ["expressive", "gesture"])
def test_every_name_and_shape_is_the_published_one(which: str) -> None:
    with torch.device("meta"):
        network = Ha2g(Ha2gConfig(f"ted_{which}", 7, 50))
        ours = names_of(network, Discriminator(network.skeleton.pose_dim))
    keys = json.loads((HERE / "ha2g_state_dict_keys.json").read_text(encoding="utf-8"))
    theirs = {part.split("/")[1]: names for part, names in keys.items() if part.startswith(which)}
    assert ours.keys() == theirs.keys()
    for part, names in theirs.items():
        assert {name: list(shape) for name, shape in ours[part].items()} == names, part


# --- small ones


def _small(seed: int = 0) -> tuple[Ha2g, Discriminator]:
    torch.manual_seed(seed)
    return Ha2g(SMALL).eval(), Discriminator(skeleton("ted_gesture").pose_dim).eval()


@pytest.fixture
def parts() -> Parts:
    return to_parts(*_small())


def _checkpoint(**changed: Any) -> Checkpoint:
    network, discriminator = _small()
    values: dict[str, Any] = {
        "network": network,
        "discriminator": discriminator,
        "speakers": ("ann", "bob", "cy"),
        "words": ("", "<unknown>", "one", "two", "three", "four"),
        "seed": "all",
        "reference": "stream",
        "text": True,
        "epoch": 5,
        "source": "a test",
    }
    return Checkpoint(**{**values, **changed})


def _out(checkpoint: Checkpoint) -> torch.Tensor:
    found: torch.Tensor = checkpoint.network.state_dict()["poses.0.out.0.weight"]
    return found


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    pairs = (
        (one.network.state_dict(), other.network.state_dict()),
        (one.discriminator.state_dict(), other.discriminator.state_dict()),
    )
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


@pytest.mark.parametrize("legacy", [False, True])
def test_vocabularies_are_read_without_their_class(
    tmp_path: Path, parts: Parts, legacy: bool
) -> None:
    path = write(tmp_path / "small.bin", parts, legacy=legacy)
    values = read_pickle(path)
    assert isinstance(values["speaker_model"], StandIn)
    assert isinstance(values["lang_model"].values["word_embedding_weights"], StandIn)
    assert values["args"].values["name"] == "ha2g"
    checkpoint, _ = read_any(path)
    assert checkpoint.speakers == ("video0", "video1", "video2")
    assert checkpoint.network.config == SMALL
    assert torch.equal(_out(checkpoint), parts["g1"]["out.0.weight"])


def test_options_may_be_a_dictionary_and_vocabularies_missing(tmp_path: Path, parts: Parts) -> None:
    path = write(tmp_path / "small.bin", parts, args={"name": "x"}, speaker_model=None)
    checkpoint, remarks = read_any(path)
    assert checkpoint.speakers == ("<0>", "<1>", "<2>")
    assert "names no speakers" in remarks[0]


def test_names_cannot_command_a_terminal(tmp_path: Path, parts: Parts) -> None:
    path = write(tmp_path / "small.bin", parts, speaker_model={"word2index": {"a\x1b[2J\nb": 1}})
    assert read_any(path)[0].speakers == ("<0>", "a?[2J?b", "<2>")
    with pytest.raises(Ha2gError, match="'pose_dim' is not a number"):
        read_any(write(path, parts, pose_dim=torch.zeros(2)))


def test_vocabulary_of_another_size_is_refused(tmp_path: Path, parts: Parts) -> None:
    path = write(tmp_path / "small.bin", parts, speaker_model={"word2index": {"ann": 3}})
    with pytest.raises(Ha2gError, match=r"'ann' in row 3 of an embedding of 3"):
        read_any(path)


def _change(parts: Parts, change: Callable[[torch.Tensor], torch.Tensor]) -> Parts:
    return {
        part: {name: change(value) for name, value in tensors.items()}
        for part, tensors in parts.items()
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_other_precisions_become_float32(tmp_path: Path, parts: Parts, dtype: torch.dtype) -> None:
    changed = _change(parts, lambda value: value.to(dtype) if value.is_floating_point() else value)
    checkpoint, remarks = read_any(write(tmp_path / "small.bin", changed))
    weight = _out(checkpoint)
    assert weight.dtype == torch.float32
    assert torch.equal(weight, changed["g1"]["out.0.weight"].float())
    assert [str(dtype).removeprefix("torch.") in remark for remark in remarks] == [True]


def test_of_two_names_of_a_tensor_the_second_is_taken(tmp_path: Path, parts: Parts) -> None:
    name = "text_encoder.tcn.network.0.net.0.bias"
    parts["g1"][name] = parts["g1"][name] + 1.0
    checkpoint, remarks = read_any(write(tmp_path / "small.bin", parts))
    assert len(remarks) == 1
    assert remarks[0].startswith("gen_dict_1: 'text_encoder.tcn.network.0.conv1.bias' and ")
    own = checkpoint.network.levels[0].text_encoder.state_dict()["tcn.network.0.conv1.bias"]
    assert torch.equal(own, parts["g1"][name])


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_and_options_of_every_plain_kind_are_read(
    tmp_path: Path, parts: Parts, legacy: bool
) -> None:
    """A module's own state_dict carries attributes, which a plain dictionary does not."""
    network, discriminator = _small()
    states: dict[str, Any] = {}
    for part, module in modules_of(network, discriminator).items():
        state = module.state_dict()
        state.update(parts[part])
        states[ENTRIES.get(part, f"gen_dict_{part[1:]}")] = state
    options = argparse.Namespace(
        rate=np.float64(5e-4), mean=np.arange(3.0), parts={1, 2}, sizes=(1, None, True, 2.5)
    )
    path = write(tmp_path / "small.bin", parts, legacy, args=options, **states)
    checkpoint, remarks = read_any(path)
    assert remarks == []
    assert torch.equal(checkpoint.network.text.decoder.bias, parts["text"]["decoder.bias"])


def test_names_of_a_parallel_wrapper_are_understood(tmp_path: Path, parts: Parts) -> None:
    wrapped: dict[str, Any] = {
        ENTRIES.get(part, f"gen_dict_{part[1:]}"): {
            f"module.{name}": value for name, value in tensors.items()
        }
        for part, tensors in parts.items()
    }
    checkpoint, _ = read_any(write(tmp_path / "wrapped.bin", parts, **wrapped))
    expected, _ = read_any(write(tmp_path / "plain.bin", parts))
    assert _same(checkpoint, expected)


def _without(parts: Parts) -> None:
    del parts["g2"]["speaker_mu.bias"]


def _with_more(parts: Parts) -> None:
    parts["audio"]["feat_extractor.extra"] = torch.zeros(1)


def _misshapen(parts: Parts) -> None:
    parts["g3"]["out.2.weight"] = torch.zeros(2, 4)


def _not_a_number(parts: Parts) -> None:
    parts["dis"]["out.bias"] = torch.full((1,), float("nan"))


def _infinite(parts: Parts) -> None:
    parts["text"]["decoder.bias"] = torch.full((4,), float("inf"))


def _quantised(parts: Parts) -> None:
    parts["text"]["decoder.bias"] = torch.zeros(4, dtype=torch.int8)


def _expanded(parts: Parts) -> None:
    parts["g1"]["text_encoder.embedding.weight"] = torch.zeros(1).expand(10**9, 6)


def _a_level_less(parts: Parts) -> None:
    del parts["g3"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, r"g2: the tensor 'speaker_mu.bias' is missing"),
        (_with_more, r"audio: the tensor 'feat_extractor.extra' is not known"),
        (_misshapen, r"g3: the tensor 'out.2.weight' has the shape \(2, 4\), expected \(27, 4\)"),
        (_not_a_number, r"dis_dict: the tensor 'out.bias' holds numbers that are not finite"),
        (_infinite, r"text_dict: the tensor 'decoder.bias' holds numbers that are not finite"),
        (_quantised, r"'decoder.bias' is torch.int8, expected float32"),
        (_expanded, r"embedding.weight' claims more numbers than the file holds"),
        (_a_level_less, r"has 2 levels and poses of 27 numbers, which is not a skeleton known"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, parts: Parts, spoil: Callable[[Parts], None], message: str
) -> None:
    spoil(parts)
    with pytest.raises(Ha2gError, match=message) as raised:
        read_any(write(tmp_path / "small.bin", parts))
    assert "\n" not in str(raised.value)


def test_missing_tables_and_parts_are_named(tmp_path: Path, parts: Parts) -> None:
    path = write(tmp_path / "small.bin", parts, dis_dict=None)
    with pytest.raises(Ha2gError, match=r"the entry 'dis_dict' is missing"):
        read_any(path)
    with authors_classes() as kind:
        values = published_values(parts, kind)
        values["lang_model"] = values["speaker_model"] = None
        del values["audio_dict"]["feat_extractor.speaker_embedding.0.weight"]
        torch.save(values, path)
    with pytest.raises(Ha2gError, match=r"audio: .*speaker_embedding.0.weight' is missing"):
        read_any(path)
    torch.save(parts["g1"], path)
    with pytest.raises(Ha2gError, match=r"not a checkpoint of HA2G \(it has no gen_dict_1\)"):
        read_any(path)


def test_skeleton_asked_for_is_held_to(tmp_path: Path, parts: Parts) -> None:
    path = write(tmp_path / "small.bin", parts)
    with pytest.raises(Ha2gError, match="which is not ted_expressive"):
        read_any(path, "ted_expressive")
    own = tmp_path / "own.pt"
    save_checkpoint(own, _checkpoint())
    with pytest.raises(Ha2gError, match="is of ted_gesture, not of ted_expressive"):
        read_any(own, "ted_expressive")


# --- files that want to run code


class _Calls:
    """Pickled, it is a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _by_system(mark: Path) -> _Calls:
    return _Calls(os.system, f'echo x > "{mark}"')


def _by_eval(mark: Path) -> _Calls:
    return _Calls(builtins.eval, f"open({str(mark)!r}, 'w').close()")


def _by_mkdir(mark: Path) -> _Calls:
    return _Calls(os.mkdir, str(mark))


def _by_process(mark: Path) -> _Calls:
    return _Calls(subprocess.call, [sys.executable, "-c", f"open({str(mark)!r}, 'w').close()"])


CALLS = [
    (_by_system, r"'(posix|nt)\.system'"),
    (_by_eval, r"'builtins\.eval'"),
    (_by_mkdir, r"'(posix|nt)\.mkdir'"),
    (_by_process, r"'subprocess\.call'"),
]


def _refused(path: Path, message: str, mark: Path) -> None:
    with pytest.raises(Ha2gError, match=message) as raised:
        import_checkpoint(path, path.with_name("out"))
    assert "was not opened" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not mark.exists()
    assert not path.with_name("out").exists()


@pytest.mark.parametrize(("call", "message"), CALLS)
@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_run(
    tmp_path: Path, call: Callable[[Path], _Calls], message: str, legacy: bool
) -> None:
    path, mark = tmp_path / "bad.bin", tmp_path / "mark"
    torch.save(
        {"gen_dict_1": {}, "pose_dim": call(mark)}, path, _use_new_zipfile_serialization=not legacy
    )
    _refused(path, message, mark)
    torch.load(path, weights_only=False)
    assert mark.exists(), "the file would have done no harm, so this test shows nothing"


@pytest.mark.parametrize("entry", ["lang_model", "speaker_model"])
def test_code_inside_a_vocabulary_is_refused(tmp_path: Path, parts: Parts, entry: str) -> None:
    path, mark = tmp_path / "bad.bin", tmp_path / "mark"
    with authors_classes() as kind:
        values = published_values(parts, kind)
        values[entry].word2count = {"deep": [{"deeper": _by_eval(mark)}]}
        torch.save(values, path)
    _refused(path, r"'builtins\.eval'", mark)


def test_code_of_a_vocabulary_itself_is_not_run(tmp_path: Path, parts: Parts) -> None:
    mark = tmp_path / "mark"

    def restore(self: Any, state: dict[str, Any]) -> None:
        mark.touch()

    path = tmp_path / "small.bin"
    with authors_classes() as kind:
        kind.__setstate__ = restore  # type: ignore[attr-defined]
        torch.save(published_values(parts, kind), path)
        read_any(path)  # even where the class could be imported
        assert not mark.exists()
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_code_between_tensors_and_in_arrays_is_refused(tmp_path: Path, parts: Parts) -> None:
    path, mark = tmp_path / "bad.bin", tmp_path / "mark"
    with authors_classes() as kind:
        values = published_values(parts, kind)
        values["gen_dict_2"]["out.0.bias"] = _by_mkdir(mark)
        torch.save(values, path)
        _refused(path, r"'(posix|nt)\.mkdir'", mark)
        values = published_values(parts, kind)
        values["lang_model"].word_embedding_weights = np.array([_by_mkdir(mark)], dtype=object)
        torch.save(values, path)
        _refused(path, r"'(posix|nt)\.mkdir'", mark)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_plain_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "bad.bin", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"gen_dict_1": _by_mkdir(mark)}, protocol))
    _refused(path, r"'(posix|nt)\.mkdir'", mark)
    torch.save({"gen_dict_1": _by_mkdir(mark)}, path, pickle_protocol=protocol)
    _refused(path, r"'(posix|nt)\.mkdir'", mark)


def test_a_name_that_hides_behind_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """A blocked module stays blocked, whatever the class in it is called."""
    path = tmp_path / "bad.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02cos\nVocab\n)R.")
        archive.writestr("a/version", b"3\n")
    with pytest.raises(Ha2gError, match="is damaged or not a file of torch"):
        read_any(path)


# --- files of another kind


def _text(path: Path) -> None:
    path.write_text("not a checkpoint\n", encoding="utf-8")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    torch.save({"gen_dict_1": {"x": torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[:9000])


def _truncated_legacy(path: Path) -> None:
    torch.save({"gen_dict_1": {"x": torch.zeros(5000)}}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:9000])


def _compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(10_000_000))


def _other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")


def _plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"gen_dict_1": {}}))


def _damaged_bytes(path: Path) -> None:
    torch.save({"gen_dict_1": {"x": torch.zeros(50)}}, path)
    found = bytearray(path.read_bytes())
    found[60:200] = bytes(140)
    path.write_bytes(found)


@pytest.mark.parametrize(
    "make",
    [
        _text,
        _empty,
        _truncated,
        _truncated_legacy,
        _compressed,
        _other_archive,
        _tar,
        _plain_pickle,
        _damaged_bytes,
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "other.bin"
    make(path)
    for read in (read_any, load_checkpoint):
        with pytest.raises(Ha2gError, match=r"other\.bin .*damaged or not") as raised:
            read(path)
        assert "\n" not in str(raised.value)


def test_missing_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(Ha2gError, match="there is no file"):
        read_any(tmp_path / "none.bin")
    with pytest.raises(Ha2gError, match=r"there is no checkpoint .*checkpoint\.pt"):
        load_checkpoint(tmp_path)


# --- our own checkpoint


def test_own_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    made = _checkpoint()
    save_checkpoint(tmp_path / "best.pt", made)
    found = load_checkpoint(tmp_path / "best.pt")
    assert _same(found, made)
    assert not found.network.training
    for name in ("speakers", "words", "seed", "reference", "text", "epoch", "source"):
        assert getattr(found, name) == getattr(made, name), name
    assert found.network.config == SMALL
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("format", "other", "is not a checkpoint of this program"),
        ("version", 99, "has version 99"),
        ("speakers", ["ann"], "vocabularies do not fit"),
        ("seed", "none", "seed 'none'"),
        ("config", {"skeleton": "ted_gesture"}, "is damaged"),
        ("config", {**SMALL.as_dict(), "speakers": 10**9}, "is damaged"),
        ("parts", {}, "no entry 'audio'"),
    ],
)
def test_own_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, entry: str, value: Any, message: str
) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(path, _checkpoint())
    torch.save({**torch.load(path, weights_only=True), entry: value}, path)
    with pytest.raises(Ha2gError, match=message) as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_own_checkpoint_with_other_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(path, _checkpoint())
    saved = torch.load(path, weights_only=True)
    saved["parts"]["g1"]["out.0.bias"] = torch.zeros(9)
    torch.save(saved, path)
    with pytest.raises(Ha2gError, match=r"g1: out.0.bias has the shape \(9,\), expected \(4,\)"):
        load_checkpoint(path)


# --- the command


def test_own_checkpoint_becomes_a_model_that_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, out = tmp_path / "best.pt", tmp_path / "mine"
    made = _checkpoint()
    save_checkpoint(best, made)
    assert main([str(best), "--out", str(out), "--name", "my model"]) == 0
    shown = capsys.readouterr().out
    assert "ted_gesture, 3 levels" in shown
    assert f"ha2g-live --demo --model {out}" in shown
    assert sorted(path.name for path in out.iterdir()) == [
        "about.json",
        "checkpoint.pt",
        "model.onnx",
    ]
    assert _same(load_checkpoint(out), made)
    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    assert (about["name"], about["epoch"], about["speakers"]) == ("my model", 5, 3)
    engine = open_engine("onnx", out / "model.onnx")
    assert engine.spec.styles == ("ann", "bob", "cy")
    engine.close()


def test_models_are_replaced_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, out = tmp_path / "best.pt", tmp_path / "mine"
    save_checkpoint(best, _checkpoint())
    import_checkpoint(best, out)
    with pytest.raises(Ha2gError, match="exists already"):
        import_checkpoint(best, out)
    save_checkpoint(best, _checkpoint(epoch=6))

    def fail(*_: Any) -> None:
        raise Ha2gError("not exported well")

    with monkeypatch.context() as patch:
        patch.setattr("ha2g_live.training.ha2g.export.export_window_model", fail)
        with pytest.raises(Ha2gError, match="not exported well"):
            import_checkpoint(best, out, force=True)
    assert load_checkpoint(out).epoch == 5  # a failed import leaves what was there
    import_checkpoint(best, out, force=True)
    assert load_checkpoint(out).epoch == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "mine"]


def test_folders_of_another_kind_are_never_replaced(tmp_path: Path) -> None:
    best, out = tmp_path / "best.pt", tmp_path / "photos"
    save_checkpoint(best, _checkpoint())
    out.mkdir()
    (out / "holiday.jpg").touch()
    with pytest.raises(Ha2gError, match="is not an imported model"):
        import_checkpoint(best, out, force=True)
    assert [path.name for path in out.iterdir()] == ["holiday.jpg"]


# --- the generator for scores


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("import") / "data"
    rng = np.random.default_rng(0)
    with DataSetWriter(path, skeleton("ted_gesture"), "a test") as writer:
        for number, speaker in enumerate(("cy", "dora")):
            frames = 70 + 31 * number
            writer.add(
                "train",
                Clip(
                    poses=rng.standard_normal((frames, 27)).astype(np.float32),
                    audio=0.1 * rng.standard_normal(frames * 16000 // 15).astype(np.float32),
                    words=[("two", 0.5), ("new", 1.0), ("one", 2.9)],
                    speaker=speaker,
                    windows=range(0, frames - WINDOW_FRAMES + 1, 9),
                ),
            )
    return open_dataset(path)


@pytest.fixture(scope="module")
def generator_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator") / "best.pt"
    save_checkpoint(path, _checkpoint())
    return path


def _expected(
    dataset: DataSet, window: int, speaker: int, words: list[int], seed: Any
) -> torch.Tensor:
    network, _ = _small()
    given = torch.zeros(1, WINDOW_FRAMES, 27)
    given[0, :SEED_FRAMES] = torch.from_numpy(seed)
    known = torch.zeros(1, WINDOW_FRAMES)
    known[0, :SEED_FRAMES] = 1.0
    heard = torch.from_numpy(dataset.train.spectrogram(np.array([window]), "stream"))
    with torch.inference_mode():
        found: torch.Tensor = network(
            heard, torch.tensor([words]), torch.tensor([speaker]), given, known
        ).poses
    return found[0]


def test_generator_matches_speakers_and_words_by_name(
    dataset: DataSet, generator_path: Path
) -> None:
    generator = load_generator(generator_path, dataset)
    assert generator.name == "best"
    every = np.arange(len(dataset.train))
    found = generator.windows(dataset.train, every)
    assert found.shape == (len(every), WINDOW_FRAMES, 27)
    words = [0] * WINDOW_FRAMES
    words[7], words[15] = 3, 1  # "two" is row 3; "new" is not known
    seed = dataset.train.poses(every)[0, :SEED_FRAMES]
    expected = _expected(dataset, 0, 2, words, seed)  # "cy" is row 2
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert np.abs(found[0] - _expected(dataset, 0, 2, [0] * WINDOW_FRAMES, seed).numpy()).max() > (
        1e-4
    )


def test_generator_without_text_hears_no_words(dataset: DataSet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", _checkpoint(text=False))
    generator = load_generator(tmp_path / "best.pt", dataset)
    found = generator.windows(dataset.train, np.array([0]))
    seed = dataset.train.poses(np.array([0]))[0, :SEED_FRAMES]
    expected = _expected(dataset, 0, 2, [0] * WINDOW_FRAMES, seed)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_long_clip_is_joined_every_30_poses(dataset: DataSet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", _checkpoint(text=False))
    generator = load_generator(tmp_path / "best.pt", dataset)
    for clip in range(dataset.train.clips):
        truth = dataset.train.clip_poses(clip)
        found = generator.clip(dataset.train, clip)
        assert found.shape == truth.shape
        assert np.isfinite(found).all()
    first = generator.windows(dataset.train, np.array([0]))[0]
    found = generator.clip(dataset.train, 0)
    np.testing.assert_allclose(found[:30], first[:30], atol=1e-5)
    # Frame 30 is four fifths of the first window's and one of the second's; from 34 on, the
    # second's alone (up to the third's). Its seed is the end of the first.
    heard = dataset.train.clip_spectrogram(0, "stream")[:, 62:132]
    network, _ = _small()
    given = torch.zeros(1, WINDOW_FRAMES, 27)
    given[0, :SEED_FRAMES] = torch.from_numpy(first[-SEED_FRAMES:])
    known = torch.zeros(1, WINDOW_FRAMES)
    known[0, :SEED_FRAMES] = 1.0
    with torch.inference_mode():
        second = network(
            torch.from_numpy(heard)[None],
            torch.zeros(1, WINDOW_FRAMES, dtype=torch.int64),
            torch.tensor([2]),
            given,
            known,
        ).poses[0]
    np.testing.assert_allclose(found[30], 0.8 * first[30] + 0.2 * second[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found[34:60], second[4:30], atol=1e-5)


def test_generator_of_another_skeleton_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    config = Ha2gConfig("ted_expressive", 3, 6, 8, (16, 16, 16, 16), 6, 4)
    network = Ha2g(config)
    other = _checkpoint(network=network, discriminator=Discriminator(network.skeleton.pose_dim))
    save_checkpoint(tmp_path / "best.pt", other)
    with pytest.raises(Ha2gError, match=r"moves ted_expressive, .* holds ted_gesture"):
        load_generator(tmp_path / "best.pt", dataset)
