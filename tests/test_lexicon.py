"""The table of gesture clips: every name has one verdict; the catalogue shows all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training import lexicon
from ha2g_live.training.lexicon import (
    FAMILY_WEIGHT,
    KINDS,
    ONE_SIDED_POSES,
    REST_POSES,
    begins_in,
    clip_name,
    family_of,
    hands_of,
    idle_weight,
    kind_of,
    left_out,
    performance_of,
    verdict,
)
from tests.small_data import write_data

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from ha2g_live.training import clip_sheet  # noqa: E402 (needs Pillow)
from ha2g_live.training.clip_sheet import (  # noqa: E402
    CLIPS_A_PAGE,
    SheetRow,
    main,
    pages,
    rest_picture,
    row_picture,
    sheet_rows,
    write_pages,
)


@pytest.mark.parametrize(
    ("motion", "family"),
    [
        ("ChrBrad@Idle01_BeatLowLf02", "beatlow"),
        ("brad2_Idle01_BeatPointMidLf01", "beatpoint"),
        ("ChrConnor@IdleStand01_NegateForwardMidRt01", "negateforward"),
        ("ChrConnor@IdleStand01_NegateLeftMidRt01", "negateaside"),
        ("garza_IdleStand01_StopForwardBt01", "stop"),
        ("garza_IdleStand01_StopRightRt01", "stopaside"),
        ("ChrBrad@Idle03_DeicticLeft", "deictic"),
        ("brad2_Idle01_YouPointLf01", "you"),
        ("brad_Idle03_EmptyLarge", "empty"),
        ("brad_Idle02_ToIdle03", "toidle"),
        ("garza_IdleStand01_ToIdleFight01", "toidlefight"),
        ("brad2_Idle01_WeightShift02", "weightshift"),
        ("brad2_Idle01_InclusivityNegBt02", "inclusivityneg"),
        ("hifi_idle", ""),
    ],
)
def test_family_comes_from_the_name(motion: str, family: str) -> None:
    assert family_of(motion) == family


def test_clip_name_joins_set_and_motion() -> None:
    assert clip_name("brad2", "ChrBrad@Idle01_ChopLf01") == "brad2_Idle01_ChopLf01"


def test_every_family_of_a_kind_has_a_weight() -> None:
    assert set(FAMILY_WEIGHT) == set(lexicon._KIND_OF_FAMILY)
    assert set(lexicon._KIND_OF_FAMILY.values()) == set(KINDS)
    assert not set(FAMILY_WEIGHT) & set(lexicon._LEFT_OUT_FAMILY)
    assert all(weight > 0 for weight in FAMILY_WEIGHT.values())


def test_beats_and_open_palms_are_seen_more_often_than_refusals() -> None:
    total = dict.fromkeys(KINDS, 0.0)
    for family, weight in FAMILY_WEIGHT.items():
        total[lexicon._KIND_OF_FAMILY[family]] += weight
    assert total["beat"] + total["open_palm"] > 0.4 * sum(total.values())
    assert total["negation"] < 0.1 * sum(total.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("connor_IdleStand01_BeatForwardBt01", "beat"),
        ("brad2_Idle01_BeatMidBt01", "open_palm"),
        ("brad2_Idle01_MeLf01", "deictic"),
        ("brad_Idle03_Frame", "metaphoric"),
        ("brad2_Idle01_Shrug02", "shrug"),
        ("brad_Idle02_PleaBt01", "shrug"),  # by its looks, not its name
        ("brad2_Idle01_NegativeBt03", "negation"),
        ("brad2_Idle01_ExampleLf01", "listing"),
    ],
)
def test_used_clip_has_a_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert left_out(name) is None
    assert verdict(name) == (f"used: {kind}", True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("brad2_Idle01_ArmStretch01", "stretching"),
        ("brad_Idle01_ScratchHeadLf01", "scratching"),
        ("brad_Idle03_ToIdle02", "changes between postures"),
        ("connor_IdleCross01_ThrowAwayRt01", "stands with crossed arms"),
        ("brad_Idle01_SafeRt01", "placeholder times"),
        ("brad_Idle01_BeatMidBt01", "the same as brad2_Idle01_BeatMidBt01"),
        ("connor_IdleStand01_YouForwardRt01", "hand held before the face"),
        ("someone_Idle01_JuggleBt01", "not known to the lexicon"),
    ],
)
def test_left_out_clip_has_a_reason(name: str, reason: str) -> None:
    assert left_out(name) == reason
    assert verdict(name) == (f"left out: {reason}", False)


def test_no_copy_is_left_out_for_a_clip_that_is_itself_left_out() -> None:
    originals = set(lexicon._COPIES.values())
    assert [name for name in originals if left_out(name)] == []


def test_versions_of_one_performance_share_a_name() -> None:
    together = (
        ("brad_Idle01_ChopBt01", "brad2_Idle01_ChopBoth01"),
        ("brad2_Idle01_YouRt01", "brad2_Idle01_YouLf03"),
        ("brad_Idle01_HoweverLf01", "brad2_Idle01_HoweverLf01"),
        ("brad_Idle01_NegativeBt02", "brad2_Idle01_NegativeBt01"),
    )
    for one, other in together:
        assert performance_of(one) == performance_of(other)
    names = {*lexicon._COPIES, *lexicon._RELATED}
    assert all(performance_of(performance_of(name)) == performance_of(name) for name in names)
    assert performance_of("garza_IdleStand01_ChopRt01") == "garza_IdleStand01_ChopRt01"


@pytest.mark.parametrize(
    ("name", "hands"),
    [
        ("brad2_Idle01_ChopLf02", "left"),
        ("garza_IdleStand01_NoLeftRt01", "right"),
        ("garza_IdleStand01_NoLeftBt01", "both"),
        ("brad2_Idle01_OfferBoth01", "both"),
        ("brad_Idle03_ReceiveLf01", "right"),  # the name lies
        ("brad_Idle03_DeicticRight", "right"),
        ("brad_Idle03_EmptyLarge", "both"),
    ],
)
def test_hands(name: str, hands: str) -> None:
    assert hands_of(name) == hands


def test_idle_clips_and_postures() -> None:
    assert idle_weight("hifi_idle") == 1.0
    assert 0.0 < idle_weight("brad2_Idle01_WeightShift01") < 0.5
    assert idle_weight("brad2_Idle01_ChopLf01") == 0.0
    assert verdict("hifi_idle") == ("used: idle", True)
    assert begins_in("brad_Idle03_Frame") == "hips"
    assert begins_in("connor_IdleCross01_ThrowAwayRt01") == "crossed"
    assert begins_in("brad2_Idle01_MeLf01") == "sides"


def test_rest_poses_are_named_clips_and_moments() -> None:
    assert len(REST_POSES) >= 4
    assert set(REST_POSES) > ONE_SIDED_POSES
    assert all(name and time_s >= 0.0 for name, time_s in REST_POSES.values())
    assert len(set(REST_POSES.values())) == len(REST_POSES)


def test_sheet_shows_every_clip_with_its_marks(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    rows = sheet_rows(data)
    assert [row.name for row in rows] == [
        "set_Idle01_BeatMidLf01",
        "set_Idle01_BeatMidBt01",
        "set_Idle01_OfferRt01",
        "set_Idle01_StopForwardBt01",
        "set_Idle01_WeightShift01",
        "set_Idle01_ChopBt01",
    ]
    assert rows[0].marks_s == (0.5, 0.9, 1.1)
    assert rows[4].marks_s == ()


def test_rows_of_different_clips_differ(tmp_path: Path) -> None:
    rows = sheet_rows(write_data(tmp_path / "data"))
    pictures = [np.asarray(row_picture(rows[i])) for i in (0, 0, 4)]
    assert np.array_equal(pictures[0], pictures[1])
    figures = slice(200, 1000)
    assert not np.array_equal(pictures[0][:, figures], pictures[2][:, figures])


def test_pages_are_filled_and_progress_is_told(tmp_path: Path) -> None:
    rows = sheet_rows(write_data(tmp_path / "data"))
    many = [rows[4]] * (CLIPS_A_PAGE + 1)
    told: list[tuple[int, int]] = []
    made = list(pages(many, lambda done, total: told.append((done, total))))
    assert len(made) == 2
    assert made[0].height > made[1].height
    assert all(page.mode == "P" for page in made)
    assert told == [(i + 1, len(many)) for i in range(len(many))]


def test_rest_poses_are_drawn_and_made_symmetrical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sheet_rows(write_data(tmp_path / "data"))
    assert rest_picture(rows) is None  # none of the lexicon's clips is there
    raised = {"one": ("set_Idle01_BeatMidLf01", 0.9)}
    monkeypatch.setattr(clip_sheet, "REST_POSES", raised)
    symmetrical = rest_picture(rows)
    monkeypatch.setattr(clip_sheet, "ONE_SIDED_POSES", frozenset(raised))
    as_it_is = rest_picture(rows)
    assert symmetrical is not None
    assert as_it_is is not None
    assert symmetrical.size == as_it_is.size
    assert symmetrical.convert("RGB").tobytes() != as_it_is.convert("RGB").tobytes()


def test_command_writes_the_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data")
    out = tmp_path / "new" / "catalogue"
    assert main(["--data", str(data), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["page-01.png"]
    with Image.open(out / "page-01.png") as page:
        assert page.size == next(pages(sheet_rows(data))).size
    assert "written to" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "gestures.csv is missing" in said
    assert said.count("\n") == 1
    with pytest.raises(Ha2gError, match="is not a gesture clip"):
        row_picture(SheetRow("x", tmp_path / "none.npz"))
    data = write_data(tmp_path / "data")
    table = data / "gestures.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",0.9,", ",soon,"), "utf-8")
    with pytest.raises(Ha2gError, match=r"BeatMidLf01\.npz is damaged"):
        sheet_rows(data)


def test_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with pytest.raises(Ha2gError, match="choose another --out"):
        write_pages(data, data / "gestures.csv")
