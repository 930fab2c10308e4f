"""RoS-KD (ICDM 2022), reproduced. Where the paper is:

III-A overlapping subsets: subsets           III-B random weights; who counts how much: weights
Eq. 1 the average: averaging                 Eq. 2 the one training loop: training
Eq. 3, Eq. 4 soft targets and loss: losses   which loss a row trains with: distill, on teachers' logits from: bank
IV-A data and split: data/, a source a file  label noise, views: noise, augment
IV-B five architectures: models              IV-C the rows of Table I: settings
IV-D F1, AUROC, thresholds: metrics          how sure: intervals     what no skill, what pixels alone score: chance
IV-E attacks and their checks: attacks       IV-F the loss around the weights: landscape
Tables I to III, Figs. 1 to 4: paper/table1 to table3, paper/fig1 to fig4; there too: claims, report, look (colours),
cells (how a table is printed), compare (two studies); the paper's own numbers: params/published.yaml
One's own images: suspects (labels that look wrong), predict (a student used)

Around them: params/ (what a study is), study/ (which runs it needs, how they are made), store (finished runs,
and a full disk), results (results.csv, from which all is drawn), processes (workers), notebooks (papermill, copies),
explore (widgets), __main__ (the commands).
"""

from collections.abc import Iterator
from contextlib import contextmanager


__version__ = "0.1.0"


class InputError(ValueError):
    """Something given is wrong (a parameter, a shape, a file); any function may raise it, and says what, and what to do."""


class RunError(RuntimeError):
    """What was asked is sound, but this machine could not do it, or a training diverged; the message says what, and what to do."""


def check_count(name: str, value: int, least: int, needs: str = "it must be") -> None:
    """Raises InputError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; {needs} a whole number, at least {least}")


@contextmanager
def modes_kept(model) -> Iterator[None]:
    """Whatever is done meanwhile, each module of a network is in train or in eval mode afterwards as it was before."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
