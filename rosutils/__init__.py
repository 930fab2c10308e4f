"""Reproducibility kit for RoS-KD (ICDM 2022): the thin module that the numbered notebooks call."""

__version__ = "0.1.0"


class InputError(ValueError):
    """Something the user gave is wrong (a parameter, a file, a folder); the message says what, and what to do."""
