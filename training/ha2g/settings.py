"""The settings of a training run; defaults are the published ones. Options are made from them."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ha2g_live.realtime.errors import ConfigError

_REGRESSION = {"ted_expressive": 250.0, "ted_gesture": 70.0}
_BATCH = {"ted_expressive": 96, "ted_gesture": 256}
TERMS = ("regression", "gan", "kl", "style", "contrast_high", "contrast_low", "physical")
"""What the loss of the generator is made of; each has a setting of its name, its weight."""
_FREE = ("epochs", "threads", "fgd_windows")
"""What may change from one start of a run to the next."""


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """How to train. The attributes' meanings are their help texts.

    Raises:
        ConfigError: one is out of its range.
    """

    batch: int = _setting(0, "windows of a step, over all processes; 0 = published (96, 256)")
    epochs: int = _setting(100, "passes over the training windows")
    warmup_epochs: int = _setting(10, "epochs before the GAN term counts")
    rate: float = _setting(5e-4, "learning rate of both Adam optimisers")
    beta1: float = _setting(0.5, "first decay of Adam")
    beta2: float = _setting(0.999, "second decay of Adam")
    regression: float = _setting(0.0, "weight of the Huber loss; 0 = published (250, 70)")
    gan: float = _setting(5.0, "weight of the GAN term")
    kl: float = _setting(0.1, "weight of the divergence of the style z from a normal one")
    style: float = _setting(0.05, "weight of the style divergence")
    contrast_high: float = _setting(0.2, "weight that pulls text and high audio feature together")
    contrast_low: float = _setting(0.005, "weight that pushes text and low audio feature apart")
    physical: float = _setting(0.01, "weight of the physical regularisation")
    hidden: int = _setting(300, "width of the recurrence of the pose levels")
    channels: tuple[int, ...] = _setting(
        (32, 64, 128, 256), "channels of the four stages of the audio learner, A,B,C,D"
    )
    text_width: int = _setting(300, "width of word embeddings and text encoders")
    seed: int = _setting(0, "of all random numbers")
    streaming: bool = _setting(
        False, "for live use: seeds of 4 to 33 frames, live spectrograms, no words"
    )
    double: bool = _setting(False, "compute in double precision: slow, to compare runs")
    threads: int = _setting(0, "threads of a process; 0 = torch's own choice")
    fgd_windows: int = _setting(
        0, "validation windows, evenly spread, that FGD is taken over; 0 = all"
    )
    autoencoder_steps: int = _setting(
        2000, "steps of our own motion autoencoder for FGD, once for a data set"
    )

    def __post_init__(self) -> None:
        for name in ("batch", "warmup_epochs", "seed", "threads", "fgd_windows"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("epochs", "hidden", "text_width", "autoencoder_steps"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in TERMS:
            value = getattr(self, name)
            self._check(name, math.isfinite(value) and value >= 0.0, "0 or more")
        self._check("rate", 0.0 < self.rate < 1.0, "between 0 and 1")
        for name in ("beta1", "beta2"):
            self._check(name, 0.0 <= getattr(self, name) < 1.0, "0 or more and below 1")
        fits = len(self.channels) == 4 and all(c > 0 and c % 16 == 0 for c in self.channels)
        self._check("channels", fits, "four multiples of 16, as 32,64,128,256")
        self._check("fgd_windows", self.fgd_windows != 1, "0 (all), or 2 or more")

    def _check(self, name: str, fine: bool, expected: str) -> None:
        if not fine:
            raise ConfigError(f"{_flag(name)} must be {expected}, got {getattr(self, name)}")

    def batch_for(self, skeleton: str) -> int:
        """Windows of a step for a data set's skeleton."""
        return self.batch or _BATCH[skeleton]

    def weights_for(self, skeleton: str) -> dict[str, float]:
        """Signed weight of each term of the loss for a data set's skeleton."""
        found = {name: float(getattr(self, name)) for name in TERMS}
        found["regression"] = self.regression or _REGRESSION[skeleton]
        found["contrast_low"] = -self.contrast_low
        return found

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {**asdict(self), "channels": list(self.channels)}

    def check_same(self, saved: dict[str, Any], where: str) -> None:
        """Compare with the settings of a checkpoint.

        Raises:
            ConfigError: one that decides what is trained differs.
        """
        for name, value in self.as_dict().items():
            if name not in _FREE and saved.get(name) != value:
                raise ConfigError(
                    f"{where} was trained with {_flag(name)} {saved.get(name)}, not {value}: "
                    "use the same settings to go on, or another --out"
                )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every setting."""
    for setting in fields(Settings):
        default: Any = setting.default
        kind: Any = type(default)
        text = setting.metadata["help"]
        if kind is bool:
            parser.add_argument(_flag(setting.name), action="store_true", help=text)
            continue
        shown = ",".join(map(str, default)) if kind is tuple else default
        parser.add_argument(
            _flag(setting.name),
            type=_numbers if kind is tuple else kind,
            default=default,
            metavar="A,B,C,D" if kind is tuple else "N",
            help=f"{text} ({shown})",
        )


def from_options(options: argparse.Namespace) -> Settings:
    """The settings among parsed options."""
    return Settings(
        **{setting.name: getattr(options, setting.name) for setting in fields(Settings)}
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None
