"""Messages of the library in the words of the command line."""

from __future__ import annotations

import re

# Arguments are named in two ways only, so names of files that look like them stay: "axis: expected ..." where one is
# wrong, and "axis=None" (or `nan_policy "raise"`) where a value is told.
_NAMES = "(axis|mode|dataset|nan_policy|on_error|checkpoint|workers)"
_SUBJECT = re.compile(rf"(?<!\S){_NAMES}: (?=expected )")
_WITH_VALUE = re.compile(rf"(?<![^\s(]){_NAMES}(?:=| (?=\"))(None|-?\d+|'\w*'|\"\w*\"|)(?![^\s),:])")
_SOURCE = re.compile(r"(?<!\S)source: (?=expected )")
_NONE = re.compile(r"\b(expected|got) None\b")


def in_words_of_the_command(message: str) -> str:
    """Return a message of `statistics` with options in place of arguments: ``--axis none`` for ``axis=None``."""
    message = _SUBJECT.sub(lambda match: f"{_option(match[1])}: ", message)
    message = _WITH_VALUE.sub(lambda match: f"{_option(match[1])} {_value(match[2])}".rstrip(), message)
    return _NONE.sub(r"\1 none", _SOURCE.sub("PATH: ", message))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(literal: str) -> str:
    return "none" if literal == "None" else literal.strip("'\"")
