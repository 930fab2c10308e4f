"""The rows of Table I (Section IV-C) as four knobs, which weights and scores stand for a row, and what is beside them."""

from typing import NamedTuple

from rosutils import InputError


class Setting(NamedTuple):
    """A row of Table I: which teachers, trained on what, how weighted, averaged or not."""

    name: str
    teachers: str  # none, single, all
    pool: str  # full, subset
    weighting: str
    averaged: bool = False

    @property
    def state(self) -> str:
        """Which weights of the trained student the row reports, one of STATES."""
        return "averaged" if self.averaged else "weights"


SETTINGS = (
    Setting("Baseline I", "none", "full", "none"),
    Setting("Baseline II", "single", "full", "single"),
    Setting("Baseline III", "all", "full", "uniform"),
    Setting("Baseline III, subset teachers", "all", "subset", "uniform"),
    Setting("Baseline IV", "all", "full", "reinforced"),
    Setting("Baseline V", "all", "subset", "exponential"),
    Setting("RoS-KD", "all", "subset", "exponential", averaged=True),
)
ROWS = tuple(setting.name for setting in SETTINGS)
BASELINES = ROWS[:-1]
# Figs. 2 and 4; Table II ("exactly same teacher models"); the label-noise study.
COMPARED = ("Baseline III", "RoS-KD")
SAME_TEACHERS = ("Baseline III, subset teachers", "RoS-KD")
NOISE_SETTINGS = ("Baseline I", "Baseline III", "Baseline V", "RoS-KD")

# Of a student: its last weights, M_smooth of Eq. 1, or M_smooth with the BatchNorm statistics that Eq. 1 leaves it.
STATES = ("weights", "averaged", "averaged, BatchNorm as copied")
TEACHERS = ("teacher, full set", "teacher, subset")
# What no skill scores on the same test images, and logistic regression on the pixels, without a network.
CHANCE = ("best constant", "random scores", "random scores, 97.5 %")
PLAIN = "Logistic regression"

# The metric (name, average) that decides, by multi-label or not.
PRIMARY = {False: ("f1", "weighted"), True: ("auroc", "macro")}
# Which averaging of precision, recall and F1 the paper printed, by multi-label or not. Inferred, not stated: every
# chest F1 is the harmonic mean of the printed precision and recall, as micro averages are; the lesion F1s are not.
PRINTED_AVERAGE = {False: "weighted", True: "micro"}


def setting(name: str) -> Setting:
    """The row of Table I with this name; raises InputError for another."""
    for row in SETTINGS:
        if row.name == name:
            return row
    raise InputError(f"setting '{name}' is unknown; allowed: {', '.join(ROWS)}")
