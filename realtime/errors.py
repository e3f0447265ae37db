"""The errors a user can cause or see. Every message says what happened, the value, what to do.

    Ha2gError
    ├── AudioError          a device or an audio file
    │   ├── DeviceNotFound
    │   └── AudioFileError
    ├── ModelError          a model file that is missing, damaged or not ours
    ├── ClientError         a target that cannot be opened: a taken port, a bad address
    ├── ConfigError         a setting out of range
    └── MissingExtra        an optional dependency that is not installed

The command line prints the message of any of them on one line and exits with status 2.
"""

from __future__ import annotations


class Ha2gError(Exception):
    """Base class: something the user can mend."""


class AudioError(Ha2gError):
    """Sound cannot be captured or read."""


class DeviceNotFound(AudioError):
    """No input device has that name or index."""


class AudioFileError(AudioError):
    """The audio file is missing, damaged, empty, or holds samples that are not numbers."""


class ModelError(Ha2gError):
    """The model file is missing, damaged, or does not fit the engine contract."""


class ClientError(Ha2gError):
    """A target cannot be opened."""


class ConfigError(Ha2gError):
    """A setting is out of its range."""


class MissingExtra(Ha2gError):
    """A feature needs an optional dependency.

    Args:
        feature: what was asked for, for example "the torch engine".
        module: the import that failed.
        extra: the extra of this package that installs it.
    """

    def __init__(self, feature: str, module: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {module!r}: run  pip install 'ha2g-live[{extra}]'"
        )
