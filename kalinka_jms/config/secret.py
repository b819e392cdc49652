"""A value that must not be shown: given plainly, by an environment variable, or in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Where a secret comes from. Exactly one of the three is set; neither `repr` nor `str` shows a plain one."""

    plain: str | None = None
    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.plain, self.env, self.file)) != 1:
            raise ValueError("a secret is a text, or { env = NAME }, or { file = PATH }: exactly one of them")

    def read(self) -> str:
        """The value as it is now (a changed file or variable counts at the next read).

        One line break at the end of a file is dropped. Raises ValueError when it cannot be read.
        """
        if self.plain is not None:
            return self.plain
        return self._environment(self.env) if self.env is not None else self._content(Path(self.file or ""))

    def __repr__(self) -> str:
        if self.plain is not None:
            return "Secret(***)"
        return f"Secret(env={self.env!r})" if self.env is not None else f"Secret(file={self.file!r})"

    __str__ = __repr__

    @staticmethod
    def _environment(name: str) -> str:
        value = os.environ.get(name)
        if value is None:
            raise ValueError(f"the environment variable {name} is not set")
        return value

    @staticmethod
    def _content(path: Path) -> str:
        try:
            return path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {path} is not UTF-8 text") from None
