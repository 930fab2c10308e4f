"""How far a study is: which runs are done, how long the others should take, and what the plan said."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rosutils import costs, planning
from rosutils.planning import STAGE, duration
from rosutils.study import Study


def status(study: Study) -> pd.DataFrame:
    """Each run with its artefacts: done or missing, seconds it took, those planned, and those a missing one should take.

    What should be taken comes from the plan, corrected by the runs that are done; without a plan from these alone, in
    proportion to `costs.relative`; and is nan before there is either.
    """
    plan, artefacts = planning.read(planning.place(study)), planning.artefacts_of(study)
    planned = {} if plan is None else dict(zip(plan.runs["run"], plan.runs["seconds"], strict=True))
    rows = []
    specs = study.unique(study.all_runs())
    study.check_batches(specs)
    for spec in specs:
        there = study.of(spec)
        run, key = there.run(spec), there.key(spec)
        taken = run.about()["record"]["seconds"] if run else np.nan
        rows.append({
            "artefacts": artefacts[key], "role": spec.role, "stage": STAGE[spec.role], "run": str(spec), "key": key,
            "done": run is not None, "taken": taken, "planned": planned.get(str(spec), np.nan),
            "relative": costs.relative(there, spec),
        })  # fmt: skip
    frame = pd.DataFrame(rows).astype({"planned": float, "taken": float})
    return frame.assign(expected=_expected(frame)).drop(columns="relative")


def _expected(frame: pd.DataFrame) -> pd.Series:
    """Seconds of each run: those it took, or in proportion to the done ones' the plan's, or else its relative cost."""
    planned = frame["planned"] * (_factor(frame, "planned") if frame["done"].any() else 1.0)
    return frame["taken"].fillna(planned).fillna(frame["relative"] * _factor(frame, "relative"))


def _factor(frame: pd.DataFrame, guess: str) -> float:
    """What the done runs took, as a multiple of a guess; nan before any is done."""
    done = frame[frame["done"] & frame[guess].notna()]
    return done["taken"].sum() / done[guess].sum() if len(done) else np.nan


def describe(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """A status for people: a line for each run, for each stage beside its plan, and for all."""
    for run in frame.itertuples():
        about = f", about {run.expected:.0f} s" if run.expected == run.expected else ""
        state = f"done, took {run.taken:.0f} s" if run.done else f"missing{about}"
        yield f"{state:<24} {run.run}  ({run.key})"
    yield from (_stage(name, runs) for name, runs in frame.groupby("stage", sort=False))
    missing = frame[~frame["done"]]
    yield (
        f"{len(frame) - len(missing)} of {len(frame)} runs of profile {study.parameters.profile} are done, "
        f"{len(missing)} missing{_left(study, missing)}"
    )


def _stage(name: str, runs: pd.DataFrame) -> str:
    done = runs[runs["done"]]
    text = f"{name:<9}{len(done)} of {len(runs)} done"
    both = done[done["planned"].notna()]
    if len(done):
        text += f" in {duration(done['taken'].sum())} of one worker"
    if len(both):
        text += f", planned {duration(both['planned'].sum())} ({both['taken'].sum() / both['planned'].sum() - 1:+.0%})"
    return text


def _left(study: Study, missing: pd.DataFrame) -> str:
    if missing["expected"].isna().any():
        return f"; how long they should take: python -m rosutils plan {study.parameters.profile}"
    stages = [planning.makespan(runs["expected"].tolist(), study.workers()) for _, runs in missing.groupby("stage")]
    return f": about {duration(sum(stages))} on {study.workers()} workers" if len(missing) else ""
