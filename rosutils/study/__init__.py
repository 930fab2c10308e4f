"""A study: which runs the parameters ask for, how they are made, and what is measured on them."""

from rosutils.study.study import Study


__all__ = ["Study"]
