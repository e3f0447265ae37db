"""SMPL-X rotations to TED directions, and a made-up BEAT2 folder to a data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ha2g_live.engines.ted import skeleton
from ha2g_live.realtime.skeleton import JOINT_NAMES, bone_index
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g import beat2, convert, example
from ha2g_live.training.ha2g.dataset import DataSetError, open_dataset
from ha2g_live.training.ha2g.kinematics import F64, rotation_matrices
from ha2g_live.training.ha2g.smplx import JOINT_PARENTS, JOINTS, Body, ted_positions

LEFT, DOWN, BACK = np.eye(3)
TURN = np.pi / 2


def _directions(poses: F64, body: Body | None = None, betas: F64 | None = None) -> F32:
    bones = skeleton("ted_expressive")
    shape = np.zeros(10) if betas is None else betas
    positions = ted_positions(poses, shape, body or Body.approximate())
    return bones.to_directions(bones.to_poses(positions))


def _pose(**turns: tuple[float, float, float]) -> F64:
    pose = np.zeros((1, len(JOINTS), 3))
    for joint, turn in turns.items():
        pose[0, JOINTS.index(joint)] = turn
    return pose.reshape(1, -1)


def test_joint_order() -> None:
    assert len(JOINTS) == 55
    # the pose vector: root, 21 of the body, jaw, eyes, 15 for each hand
    assert JOINTS[21] == "right_wrist"
    assert JOINTS[22:26] == ("jaw", "left_eye", "right_eye", "left_index1")
    assert JOINTS[40:43] == ("right_index1", "right_index2", "right_index3")
    assert JOINT_PARENTS[:13] == (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert JOINT_PARENTS[13:25] == (9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15)
    assert JOINT_PARENTS[25:31] == (20, 25, 26, 20, 28, 29)
    assert JOINT_PARENTS[40:43] == (21, 40, 41)


def test_rotation_matrices() -> None:
    turns = np.array([[0, 0, 0], [0, 0, TURN], [TURN, 0, 0], [1e-9, 0, 0], [0.3, -0.4, 1.2]])
    found = rotation_matrices(turns)
    np.testing.assert_allclose(found[0], np.eye(3), atol=1e-15)
    np.testing.assert_allclose(found[1] @ (1, 0, 0), (0, 1, 0), atol=1e-15)
    np.testing.assert_allclose(found[2] @ (0, 1, 0), (0, 0, 1), atol=1e-15)
    np.testing.assert_allclose(found @ np.swapaxes(found, 1, 2), [np.eye(3)] * 5, atol=1e-12)
    np.testing.assert_allclose(found[4] @ turns[4], turns[4])


def test_rest_is_a_t_pose() -> None:
    rest = _directions(_pose())[0]
    for side, outward in (("left", LEFT), ("right", -LEFT)):
        for bone in (("shoulder", "elbow"), ("elbow", "wrist"), ("middle_1", "middle_2")):
            found = rest[bone_index(*(f"{side}_{joint}" for joint in bone))]
            assert found @ outward > 0.99
    assert rest[bone_index("spine", "neck")] @ -DOWN > 0.95
    assert rest[bone_index("neck", "nose")] @ -BACK > 0.5  # the viewer is in front
    assert rest[bone_index("nose", "left_eye")] @ LEFT > 0.3


def test_known_rotations_give_known_directions() -> None:
    # z is forward in SMPL-X: a turn about it by -90 degrees lets the left arm hang.
    hanging = _directions(_pose(left_shoulder=(0, 0, -TURN)))[0]
    assert hanging[bone_index("left_shoulder", "left_elbow")] @ DOWN > 0.99
    assert hanging[bone_index("left_elbow", "left_wrist")] @ DOWN > 0.99
    assert hanging[bone_index("right_shoulder", "right_elbow")] @ -LEFT > 0.99
    # and the elbow then bends forward about its own y, which hung along with it
    bent = _directions(_pose(left_shoulder=(0, 0, -TURN), left_elbow=(0, -TURN, 0)))[0]
    assert bent[bone_index("left_shoulder", "left_elbow")] @ DOWN > 0.99
    assert bent[bone_index("left_elbow", "left_wrist")] @ -BACK > 0.99
    # a curled finger bends its own bones only
    curl = _directions(_pose(right_index2=(0, 0, TURN)))[0]
    changed = np.abs(curl - _directions(_pose())[0]).max(axis=-1) > 1e-5
    assert np.flatnonzero(changed).tolist() == [bone_index("right_index_2", "right_index_3")]
    # a nod moves the face and nothing else
    nod = _directions(_pose(head=(0.3, 0, 0)))[0]
    changed = np.abs(nod - _directions(_pose())[0]).max(axis=-1) > 1e-5
    assert np.flatnonzero(changed).tolist() == [37, 38, 39, 40, 41]
    nose = bone_index("neck", "nose")
    assert nod[nose] @ DOWN > _directions(_pose())[0][nose] @ DOWN


@pytest.mark.parametrize("yaw", [-3.0, -1.0, 0.4, 2.5])
def test_the_person_faces_the_viewer(yaw: float) -> None:
    arms = {"left_shoulder": (0.1, 0.4, -0.8), "neck": (0.0, 0.3, 0.0)}
    straight = _directions(_pose(**arms))
    np.testing.assert_allclose(_directions(_pose(pelvis=(0, yaw, 0), **arms)), straight, atol=1e-6)
    lean = _directions(_pose(pelvis=(0.2, 0.0, 0.0)))[0]  # a lean stays
    assert lean[0] @ -BACK > _directions(_pose())[0][0] @ -BACK + 0.1


def test_bones_have_the_lengths_of_the_data_set() -> None:
    bones = skeleton("ted_expressive")
    pose = np.random.default_rng(0).normal(0, 0.3, (3, 165))
    found = ted_positions(pose, np.zeros(10), Body.approximate())
    assert found.shape == (3, len(JOINT_NAMES), 3)
    for parent, child in bones.bones:
        expected = np.linalg.norm(bones.mean_pose[child] - bones.mean_pose[parent])
        length = np.linalg.norm(found[:, child] - found[:, parent], axis=-1)
        np.testing.assert_allclose(length, expected, rtol=1e-4)


def _write_body(path: Path) -> None:
    """A body model with a vertex at each joint; shape coefficient 1 drops the left elbow."""
    template = Body.approximate().template
    shapes = np.zeros((55, 3, 4))
    shapes[JOINTS.index("left_elbow"), 1, 1] = -1.0
    parents = np.array(JOINT_PARENTS, dtype=np.int64)
    parents[0] = 2**32 - 1
    np.savez(
        path,
        J_regressor=np.eye(55),
        v_template=template,
        shapedirs=shapes,
        kintree_table=np.stack((parents, np.arange(55))),
        other=np.array([{"pickled": 1}], dtype=object),
    )


def test_body_model_of_the_user(tmp_path: Path) -> None:
    _write_body(tmp_path / "body.npz")
    body = Body.load(tmp_path / "body.npz")
    pose = np.random.default_rng(1).normal(0, 0.3, (2, 165))
    np.testing.assert_allclose(_directions(pose, body), _directions(pose), atol=1e-6)
    arm = bone_index("left_shoulder", "left_elbow")
    long_arm = body.joints(np.array([0.0, 0.27]))
    elbow, shoulder = (long_arm[JOINTS.index(f"left_{j}")] for j in ("elbow", "shoulder"))
    found = _directions(_pose(), body, np.array([0.0, 0.27, *[0.0] * 298]))[0, arm]
    expected = (elbow - shoulder) * (1, -1, -1)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)
    assert found @ DOWN > 0.6


@pytest.mark.parametrize("fault", ["missing", "noise", "entry", "joints"])
def test_what_is_no_body_model(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "body.npz"
    if fault == "noise":
        path.write_bytes(b"nothing")
    elif fault == "entry":
        np.savez(path, J_regressor=np.eye(55))
    elif fault == "joints":
        _write_body(path)
        with np.load(path, allow_pickle=True) as file:
            arrays = dict(file)
        arrays["kintree_table"][0, 5] = 0
        np.savez(path, **arrays)
    with pytest.raises(DataSetError, match="not an SMPL-X body model"):
        Body.load(path)


# --- a folder

GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 6
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 6
        intervals: size = {count}
{intervals}
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 6
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 6
            text = "AH0"
"""


def _grid(words: list[tuple[str, float, float]]) -> str:
    rows = [
        f"        intervals [{n}]:\n            xmin = {start}\n            xmax = {end}\n"
        f'            text = "{word}"'
        for n, (word, start, end) in enumerate(words, 1)
    ]
    return GRID.format(count=len(rows), intervals="\n".join(rows))


@pytest.fixture
def beat(tmp_path: Path) -> Path:
    """Recordings of 6 s: both elbows swing, 30 poses a second."""
    folder = tmp_path / "BEAT2" / "beat_english_v2.0.0"
    for name in ("smplxflame_30", "wave16k", "textgrid"):
        (folder / name).mkdir(parents=True)
    names = {"2_scott_0_1_1": "train", "30_kate_0_2_2": "train", "2_scott_0_9_9": "test"}
    names |= {"4_ann_0_1_1": "additional", "5_bob_0_1_1": "val"}
    rows = [f"{name},{split}" for name, split in names.items()]
    (folder / "train_test_split.csv").write_text("\n".join(["id,type", *rows]), encoding="utf-8")
    sound = example.example_clips(videos=1, seconds=6.0)["train"][0].audio
    time_s = np.arange(180) / 30.0
    for name in list(names)[:4]:  # bob's files are absent
        pose = np.zeros((180, 55, 3))
        swing = 0.9 * np.sin(2.0 * time_s)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            pose[:, JOINTS.index(f"{side}_shoulder"), 2] = -1.1 * sign
            pose[:, JOINTS.index(f"{side}_elbow"), 1] = sign * (swing - 1.2)
        np.savez(
            folder / "smplxflame_30" / f"{name}.npz",
            poses=pose.reshape(180, 165).astype(np.float32),
            betas=np.zeros(300, np.float32),
            trans=np.zeros((180, 3), np.float32),
            mocap_frame_rate=np.array(30),
            gender="neutral",
        )
        soundfile.write(folder / "wave16k" / f"{name}.wav", sound, 16000)
    words = [("", 0.0, 0.4), ("Hello", 0.4, 0.8), ("dear", 1.0, 1.4), ("people", 2.0, 2.5)]
    grid = folder / "textgrid" / "2_scott_0_1_1.TextGrid"
    grid.write_text(_grid(words), encoding="utf-8")
    return folder


def test_conversion(beat: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert convert.main(["convert", str(beat.parent), "--out", str(out)]) == 0
    assert "1 recordings of the table have no motion" in capfd.readouterr().err
    data = open_dataset(out)
    assert data.skeleton.name == "ted_expressive"
    assert data.speakers == ("2", "30")
    assert data.words == ("", "<unknown>", "hello", "dear", "people")
    assert (data.train.clips, data.val.clips, data.test.clips) == (2, 0, 1)
    assert data.source == "BEAT2, approximate proportions"
    first = data.train
    assert first.clip_poses(0).shape == (90, 126)
    assert np.flatnonzero(first.clip_words(0)).tolist() == [6, 15, 30]
    # windows begin at 0, 10 .. 40; "dear" ends at 1.4 s, so the one from 2 s on hears one word
    assert [first.frame_of(w) for w in first.windows_of(0)] == [0, 10, 20]
    # without a TextGrid the words are not asked for
    assert [first.frame_of(w) for w in first.windows_of(1)] == [0, 10, 20, 30, 40]
    dropped = data.notes["dropped"]["train"]["windows"]
    assert dropped == {"kept": 8, "too few words": 2}


def test_poses_are_at_their_times(beat: Path) -> None:
    recording = beat2.find_recordings(beat)["train"][1]
    raw, filters = beat2.load(recording, Body.approximate())
    assert raw.duration_s == 6.0
    assert raw.positions.shape == (180, 43, 3)
    assert len(raw.audio) == 96000
    assert list(filters) == ["static pose", "tilted spine", "still wrists"]


def test_with_a_body_model(beat: Path, tmp_path: Path) -> None:
    _write_body(tmp_path / "body.npz")
    arguments = ["convert", str(beat), "--body-model", str(tmp_path / "body.npz")]
    convert.main([*arguments, "--out", str(tmp_path / "out")])
    assert open_dataset(tmp_path / "out").source == "BEAT2, SMPL-X body model body.npz"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("table", "cannot be read"),
        ("columns", "columns id and type"),
        ("motion", "download it again"),
        ("shape", r"expected \[frames, 165\]"),
        ("nan", "not finite"),
        ("grid", "no tier called words"),
        ("files", "none of the 4 recordings"),
        ("folder", "is not BEAT2"),
    ],
)
def test_damage_is_one_clear_line(beat: Path, tmp_path: Path, fault: str, message: str) -> None:
    name = "2_scott_0_1_1"
    motion = beat / "smplxflame_30" / f"{name}.npz"
    if fault == "table":
        (beat / "train_test_split.csv").unlink()
    elif fault == "columns":
        (beat / "train_test_split.csv").write_text("name,split\na,train\n", encoding="utf-8")
    elif fault == "motion":
        motion.write_bytes(motion.read_bytes()[:300])
    elif fault == "shape":
        np.savez(motion, poses=np.zeros((60, 63)), betas=np.zeros(10))
    elif fault == "nan":
        np.savez(motion, poses=np.full((60, 165), np.nan), betas=np.zeros(10))
    elif fault == "grid":
        (beat / "textgrid" / f"{name}.TextGrid").write_text("nothing", encoding="utf-8")
    elif fault == "files":
        shutil.rmtree(beat / "wave16k")
    else:
        beat = tmp_path / "nowhere"
    with pytest.raises(DataSetError, match=message) as caught:
        convert.main(["convert", str(beat), "--format", "beat2", "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
