"""The settings file: the template is complete, and a mistake in it is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ha2g_live.realtime.cli import main
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.knobs import KNOBS, Knobs, changed
from ha2g_live.realtime.settings_file import ENTRIES, load, template, write_template


def test_the_template_holds_every_setting_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ha2g-live.toml"
    write_template(path)
    stored = load(path)
    assert list(stored.knobs) == [knob.name for knob in KNOBS]
    assert changed(Knobs(), stored.knobs) == Knobs()
    assert stored.entries == {}
    text = template()
    for knob in KNOBS:
        assert knob.help in text
    for entry in ENTRIES:
        assert f"# {entry.name} = {entry.example}" in text


def test_every_commented_entry_can_be_switched_on(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    lines = template().splitlines()
    entries = tuple(f"# {entry.name} = " for entry in ENTRIES)
    path.write_text(
        "\n".join(line[2:] if line.startswith(entries) else line for line in lines), "utf-8"
    )
    stored = load(path)
    assert set(stored.entries) == {(entry.section, entry.name) for entry in ENTRIES}
    assert stored.entries["targets", "osc"] == ["127.0.0.1:39539"]
    assert stored.entries["run", "fps"] == 60.0


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is there already"):
        write_template(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[knobs]\nintensity = 9", "intensity is a number in 0..2, got 9"),
        ("[knobs]\nintensty = 1", "did you mean intensity?"),
        ("[knob]\nintensity = 1", "did you mean knobs?"),
        ("[targets]\nocs = []", "did you mean osc?"),
        ("[targets]\nosc = 9000", "targets.osc is a list of texts"),
        ("[run]\nfps = 'fast'", "run.fps is a number"),
        ("[run]\nseed = 1.5", "run.seed is a whole number"),
        ("[input]\nmic = [1]", "input.mic is a text"),
        ("knobs = 3", "write [knobs]"),
        ("[knobs\nintensity = 1", "no TOML: .*line 1"),
        ("[knobs]\nlife = 0x" + "f" * 5000, "very many digits|no TOML"),
        ("[knobs]\nlife = " + "1" * 5000, "no TOML|life is a number"),
        ("x = " + "[" * 20_000, "no TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert re.search(said.replace("[", r"\[").replace("?", r"\?"), message)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load(tmp_path / "huge.toml")


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b"\xef\xbb\xbf[knobs]\r\nintensity = 0.5\r\n")
    assert load(path).knobs == {"intensity": 0.5}


def test_init_writes_the_file_and_a_run_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert "edit it, then start with" in capsys.readouterr().err
    assert main(["init"]) == 2
    path = tmp_path / "ha2g-live.toml"
    text = path.read_text("utf-8").replace("intensity = 1\n", "intensity = 0.5\n")
    path.write_text(
        text.replace('# record = "motion.jsonl"', 'record = "from-file.jsonl"'), "utf-8"
    )
    run = ["--demo", "--fast", "--duration-s", "0.5", "--tail-s", "0", "--config", str(path)]
    assert main([*run, "--quiet"]) == 0
    assert (tmp_path / "from-file.jsonl").is_file()
    # The command line stands above the file.
    assert main([*run, "--quiet", "--record", "mine.jsonl", "--intensity", "7"]) == 2
    assert "intensity is a number in 0..2, got '7'" in capsys.readouterr().err


def test_the_page_about_knobs_has_a_line_for_each() -> None:
    page = (Path(__file__).parents[1] / "docs/control.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = [row.split("`")[1] for row in rows]
    assert named[: len(KNOBS)] == [knob.name for knob in KNOBS]
    for knob, row in zip(KNOBS, rows, strict=False):
        for word in knob.words:
            assert f"`{word}`" in row, (knob.name, word)
        if knob.kind == "number":
            assert f"{knob.low:g} to {knob.high:g}" in row
