"""Streams of a corpus that a model is tried on, with their sound."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

SPLITS = ("held_out", "unheard")
"""Speakers and clips never trained on; speakers never trained on, with the clips of training."""
_INT16 = np.float32(32768.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """One stream.

    Attributes:
        name: of its file.
        samples: (n,) float32 at 16 kHz, what the model hears.
        voice: (n,) float32, the clean voice alone; zeros where nobody speaks.
        directions: (frames, 42, 3) float32, the planner's motion at 15 Hz.
        choice: (frames,) the planner's choice; ``age`` frames since it was made.
        age: (frames,).
        style: name of the style it was planned in.
        kind: "speech", or what is heard where there is none: "music", "keyboard", ...
    """

    name: str
    samples: F32
    voice: F32
    directions: F32
    choice: npt.NDArray[np.int16]
    age: npt.NDArray[np.int32]
    style: str
    kind: str

    @property
    def minutes(self) -> float:
        """Length."""
        return len(self.samples) / SAMPLE_RATE_HZ / 60.0


def read_about(corpus: Path) -> dict[str, Any]:
    """What ``corpus.json`` says.

    Raises:
        Ha2gError: it is missing or damaged.
    """
    path = corpus / "corpus.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in ("streams", "styles", "choices") if name not in about]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        return about
    except FileNotFoundError as error:
        raise Ha2gError(
            f"{path} is missing: build a corpus with  ha2g-live corpus build  or name its folder "
            "with --corpus"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise Ha2gError(f"{path} cannot be read ({error}): build the corpus again") from error


def read_poses(corpus: Path, name: str) -> F32:
    """(frames, 42, 3) directions of one stream.

    Raises:
        Ha2gError: its file is missing or damaged.
    """
    return np.asarray(_arrays(corpus, name, ("directions",))["directions"], dtype=np.float32)


def read_trials(corpus: Path, split: str, minutes: float | None = None) -> list[Trial]:
    """The streams of a split, or the first ``minutes`` of them.

    Raises:
        ConfigError: ``minutes`` is not positive.
        Ha2gError: the corpus has no such split, or streams without their sound.
    """
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"the minutes of motion must be more than 0, got {minutes:g}")
    about = read_about(corpus)
    names = about["streams"].get(split, [])
    if not names:
        full = ", ".join(name for name, streams in about["streams"].items() if streams)
        raise Ha2gError(
            f"the corpus {corpus} has no streams of {split!r} (it has {full}): build it again, or "
            "with more hours"
        )
    trials: list[Trial] = []
    for name in names:
        trials.append(_read(corpus, name, about["styles"]))
        if minutes is not None and sum(trial.minutes for trial in trials) >= minutes:
            break
    return trials


def _read(corpus: Path, name: str, styles: list[str]) -> Trial:
    fields = ("samples", "voice", "directions", "choice", "age", "style", "kind")
    arrays = _arrays(corpus, name, fields)
    return Trial(
        name=name,
        samples=arrays["samples"].astype(np.float32) / _INT16,
        voice=arrays["voice"].astype(np.float32) / _INT16,
        directions=arrays["directions"].astype(np.float32),
        choice=arrays["choice"],
        age=arrays["age"],
        style=styles[int(arrays["style"])],
        kind=str(arrays["kind"]),
    )


def _arrays(corpus: Path, name: str, fields: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    path = corpus / f"{name}.npz"
    try:
        with np.load(path) as file:
            missing = [field for field in fields if field not in file]
            if not missing:
                return {field: file[field] for field in fields}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Ha2gError(f"{path} cannot be read ({error}): build the corpus again") from error
    raise Ha2gError(
        f"{path} has no {', '.join(missing)}: the corpus is of an older version, build it again"
    )
