"""A catalogue to look at: every gesture clip as a row of moments, with wrist speed and verdict.

    python -m ha2g_live.training.clip_sheet --data FOLDER --out FOLDER

The choice in ``lexicon.py`` was made by looking at these pages. A row shows the clip from the
front, from its beginning to its end, then the moment of its emphasis from the side, and the
speed of both wrists with the table's beginning, emphasis and end of the stroke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ha2g_live.realtime.canvas import INK, LEFT, PAPER, RIGHT, WHITE, Window, mix
from ha2g_live.realtime.draw import draw_figure
from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.realtime.offline import Motion
from ha2g_live.realtime.options import Parser, say
from ha2g_live.realtime.sheet import font, wrist_speeds
from ha2g_live.realtime.skeleton import normalise
from ha2g_live.training.clips import directions_of, mirror, read_table
from ha2g_live.training.lexicon import ONE_SIDED_POSES, REST_POSES, clip_name, verdict

CLIPS_A_PAGE = 10
MOMENTS = 7
COLOURS = 24
_CELL = (134, 122)
_LABEL, _CHART, _HEADER, _RULE = 172, 220, 34, 5
_WINDOW = Window(-0.6, 0.6, -0.78, 0.32)
_WIDTH = _LABEL + (MOMENTS + 1) * _CELL[0] + _CHART
_SOFT = mix(INK, PAPER, 0.35)
_GRID = mix(INK, PAPER, 0.85)
_MARKS = ("stroke_start_s", "emphasis_s", "stroke_end_s")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A clip as it is drawn.

    Attributes:
        name: what ``lexicon.py`` calls it.
        file: where its motion is.
        marks_s: beginning, emphasis and end of the stroke; empty for an idle clip.
    """

    name: str
    file: Path
    marks_s: tuple[float, ...] = ()


def sheet_rows(data: Path) -> list[SheetRow]:
    """Every clip below ``data``: the table's in its order, then the files of ``idle/``.

    Raises:
        Ha2gError: the table is missing, or lacks a column.
    """
    rows = []
    for row in read_table(data, "gestures.csv"):
        try:
            marks_s = () if row["kind"] == "idle" else tuple(float(row[mark]) for mark in _MARKS)
            rows.append(SheetRow(clip_name(row["set"], row["motion"]), data / row["file"], marks_s))
        except (KeyError, ValueError) as error:
            raise Ha2gError(
                f"{data / 'gestures.csv'}: the row of {row.get('file', 'a clip')} is damaged"
                f" ({error!r})"
            ) from error
    rows += [SheetRow(path.stem, path) for path in sorted((data / "idle").glob("*.npz"))]
    return rows


def row_picture(row: SheetRow) -> Image.Image:
    """One clip as a strip of ``_WIDTH`` pixels.

    Raises:
        Ha2gError: the file is not a clip.
    """
    directions, fps = directions_of(row.file)
    motion = Motion(fps, directions, np.zeros(0, np.float32), "", None, "")
    image = Image.new("RGB", (_WIDTH, _CELL[1]), PAPER)
    draw = ImageDraw.Draw(image)
    _label(draw, row, motion)
    last = len(directions) - 1
    frames = [round(i * last / (MOMENTS - 1)) for i in range(MOMENTS)]
    side = min(round((row.marks_s[1] if row.marks_s else 0.0) * fps), last)
    for place, frame in enumerate([*frames, side]):
        view = "side" if place == MOMENTS else "front"
        figure = draw_figure(directions[frame], _CELL, view=view, window=_WINDOW)
        left = _LABEL + place * _CELL[0]
        image.paste(figure, (left, 0))
        draw.text((left + 4, 2), f"{frame / fps:.2f}", _SOFT, font(12))
    _chart(draw, row, motion)
    return image


def _label(draw: ImageDraw.ImageDraw, row: SheetRow, motion: Motion) -> None:
    set_name, _, rest = row.name.partition("_")
    said, used = verdict(row.name)
    lines = [(part, INK) for part in (set_name, *rest.split("_"))]
    lines.append((f"{motion.duration_s:.2f} s", _SOFT))
    words, line = said.split(), ""
    for word in words:
        if line and draw.textlength(f"{line} {word}", font(15)) > _LABEL - 12:
            lines.append((line, LEFT if not used else RIGHT))
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append((line, LEFT if not used else RIGHT))
    for number, (text, colour) in enumerate(lines):
        draw.text((6, 4 + 18 * number), text, colour, font(15))


def _chart(draw: ImageDraw.ImageDraw, row: SheetRow, motion: Motion) -> None:
    left, right = _WIDTH - _CHART + 30, _WIDTH - 8
    top, bottom = 8, _CELL[1] - 20
    speeds = wrist_speeds(motion)
    limit = max(1.0, float(np.ceil(max(float(speed.max()) for speed in speeds.values()))))
    for level in (0.0, limit):
        y = bottom - (bottom - top) * level / limit
        draw.line((left, y, right, y), _GRID)
        draw.text((left - 4, y), f"{level:g}", _SOFT, font(12), "rm")

    def x_of(time_s: float) -> float:
        return left + (right - left) * min(time_s / motion.duration_s, 1.0)

    for mark_s, letter in zip(row.marks_s, "SEX", strict=False):
        draw.line((x_of(mark_s), top, x_of(mark_s), bottom), _SOFT)
        draw.text((x_of(mark_s), bottom + 2), letter, _SOFT, font(12), "ma")
    for side, colour in (("left", LEFT), ("right", RIGHT)):
        line = [
            (x_of(i / motion.fps), bottom - (bottom - top) * float(speed) / limit)
            for i, speed in enumerate(speeds[side])
        ]
        draw.line(line, colour, 2)


def pages(
    rows: list[SheetRow], progress: Callable[[int, int], None] | None = None
) -> Iterator[Image.Image]:
    """The pages one after the other, with few colours so that their files are small.

    Args:
        rows: what to draw.
        progress: is told clips done and clips in all.
    """
    count = -(-len(rows) // CLIPS_A_PAGE)
    for number in range(count):
        shown = rows[number * CLIPS_A_PAGE : (number + 1) * CLIPS_A_PAGE]
        page = Image.new("RGB", (_WIDTH, _HEADER + len(shown) * (_CELL[1] + _RULE)), WHITE)
        title = (
            f"Gesture clips, page {number + 1} of {count}   (orange: the person's left;  speed in"
            " m/s, S E X: stroke begins, emphasis, stroke ends;  last figure: the emphasis from"
            " the side)"
        )
        ImageDraw.Draw(page).text((6, 9), title, INK, font(15))
        for place, row in enumerate(shown):
            page.paste(row_picture(row), (0, _HEADER + place * (_CELL[1] + _RULE)))
            if progress is not None:
                progress(number * CLIPS_A_PAGE + place + 1, len(rows))
        yield page.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def rest_picture(rows: list[SheetRow]) -> Image.Image | None:
    """The rest poses from the front and the side; None where their clips are not among ``rows``.

    Each is the average of itself and its mirror image, but for those that must stay as they are.

    Raises:
        Ha2gError: a file is not a clip.
    """
    files = {row.name: row.file for row in rows}
    shown = [(pose, *where) for pose, where in REST_POSES.items() if where[0] in files]
    if not shown:
        return None
    columns = 5
    width, height = 2 * _CELL[0], _CELL[1] + 20
    image = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), PAPER)
    draw = ImageDraw.Draw(image)
    for number, (pose, name, time_s) in enumerate(shown):
        directions, fps = directions_of(files[name])
        frame = directions[min(round(time_s * fps), len(directions) - 1)]
        if pose not in ONE_SIDED_POSES:
            frame = normalise(frame + mirror(frame))
        left, top = number % columns * width, number // columns * height
        for place, view in enumerate(("front", "side")):
            figure = draw_figure(frame, _CELL, view=view, window=_WINDOW)
            image.paste(figure, (left + place * _CELL[0], top + 20))
        draw.text((left + 6, top + 2), pose, INK, font(15))
    return image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _parser() -> Parser:
    parser = Parser(prog="python -m ha2g_live.training.clip_sheet", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with gestures.csv, idle/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pages (PNG)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the pages; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        written = write_pages(options.data, options.out)
    except Ha2gError as error:
        say(str(error))
        return 2
    print(f"pictures written to {options.out}: {len(written)}")
    return 0


def write_pages(data: Path, out: Path) -> list[Path]:
    """Draw all clips and rest poses: ``page-01.png`` and so on, ``rest-poses.png`` into ``out``.

    Raises:
        Ha2gError: a clip or the table is missing or damaged, or ``out`` cannot be written.
        MissingExtra: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingExtra("the catalogue of clips", "tqdm", "train") from error
    rows = sheet_rows(data)
    written = []
    with tqdm(total=len(rows), unit="clip", desc="clips") as bar:

        def shown(done: int, total: int) -> None:
            bar.update(done - bar.n)

        try:
            out.mkdir(parents=True, exist_ok=True)
            for number, page in enumerate(pages(rows, shown), 1):
                path = out / f"page-{number:02d}.png"
                page.save(path, optimize=True)
                written.append(path)
            poses = rest_picture(rows)
            if poses is not None:
                poses.save(out / "rest-poses.png", optimize=True)
                written.append(out / "rest-poses.png")
        except OSError as error:
            raise Ha2gError(f"{out} cannot be written ({error}): choose another --out") from error
    return written


if __name__ == "__main__":
    raise SystemExit(main())
