"""The errors a user can cause: each message names what is wrong, where, and what to do."""

from __future__ import annotations


class DlmieError(Exception):
    """Base of every error of dlmie that the command line prints as one line."""


class DataError(DlmieError, ValueError):
    """A file, an image or a caption cannot be used as it is."""


class WeightsError(DlmieError, ValueError):
    """A weight or model file cannot be read, or does not fit the network."""


class CompilerError(DlmieError, RuntimeError):
    """No working C compiler where one is needed."""


class WeightsWarning(UserWarning):
    """A weight file does not say how it is meant; names what was assumed and how to say it."""


class CollapseWarning(UserWarning):
    """Generated images look alike."""


class MisuseError(DlmieError):
    """What was asked for makes no sense: the command line ends with exit code 2."""


class OutputError(MisuseError):
    """What is to be written would replace something that must stay."""
