"""Two studies beside each other: what each scored, and differences only where the same test images were asked."""

import math

import pytest
import yaml
from click.testing import CliRunner
from rows import frame, rows

from rosutils import InputError, results
from rosutils.__main__ import main
from rosutils.intervals import paired_difference
from rosutils.paper import compare


def of(gain, *, test_part=0.0, seeds=(0, 1, 2), tasks=("lesion",)):
    """Rows of a study whose RoS-KD is better by `gain`; `test_part` is what tells its test images from others."""
    found = []
    for task in tasks:
        for metric in ("precision", "recall", "f1"):
            found += [rows(task, "RoS-KD", 0.6 + gain, seeds=seeds, step=0.01 + gain, metric=metric)]
            found += [rows(task, "Baseline I", 0.5, seeds=seeds, metric=metric)]
            found += [rows(task, "best constant", 0.2 + test_part, seeds=seeds, student="", metric=metric)]
    return frame(*found)


@pytest.fixture
def stored(tmp_path):
    """Writes results.csv of a study, and says the engine that finds it."""

    def write(**studies):
        for label, content in studies.items():
            results.write(content, tmp_path / label / "results.csv")
        return {"engine": {"store": str(tmp_path)}}

    return write


def test_both_means_and_the_paired_difference_stand_beside_each_other(stored):
    engine = stored(demo=of(0.0), **{"demo+alpha0.5": of(0.05)})
    table = compare.table("demo", "demo+alpha0.5", **engine)
    assert table.index[-1] == "random scores, 97.5 %" and {"lesion, F1", "lesion, Recall"} <= set(
        table.columns.unique(0)
    )
    f1 = table["lesion, F1"]
    assert f1["demo"].loc["RoS-KD", "ours"] == pytest.approx(0.6)
    assert f1["demo+alpha0.5"].loc["RoS-KD", "ours"] == pytest.approx(0.65)
    expected = paired_difference([0.59, 0.65, 0.71], [0.59, 0.6, 0.61])
    found = f1["second minus first"].loc["RoS-KD"]
    assert (found["mean"], found["low"], found["high"], found["n"]) == pytest.approx(expected)
    assert f1["second minus first"].loc["Baseline I", "mean"] == 0
    assert math.isnan(f1["second minus first"].loc["best constant", "mean"])
    assert math.isnan(f1["demo"].loc["Baseline IV", "ours"])


def test_the_same_by_sections_laid_over_the_profile(stored):
    engine = stored(demo=of(0.0), **{"demo+alpha0.5": of(0.05)})
    table = compare.table("demo", "demo", **engine, distillation={"alpha": 0.5})
    assert table.equals(compare.table("demo", "demo+alpha0.5", **engine))


def test_other_test_images_give_no_difference_and_missing_replicates_are_left_out(stored):
    others = {"demo+seed7": of(0.05, test_part=0.01), "demo+replicates2": of(0.05, seeds=(0, 1))}
    engine = stored(demo=of(0.0), **others)
    other = compare.table("demo", "demo+seed7", **engine)["lesion, F1"]
    assert other["demo+seed7"].loc["RoS-KD", "ours"] == pytest.approx(0.65)
    assert other["second minus first"]["mean"].isna().all()
    fewer = compare.table("demo", "demo+replicates2", **engine)["lesion, F1"]["second minus first"]
    assert fewer.loc["RoS-KD", "n"] == 2 and fewer.loc["RoS-KD", "mean"] == pytest.approx(0.025)


def test_the_command_prints_them_and_what_is_not_there_is_said_in_one_line(stored):
    engine = stored(demo=of(0.0), **{"demo+alpha0.5": of(0.05, tasks=("lesion", "chest"))})
    done = CliRunner().invoke(main, ["compare", "demo", "demo+alpha0.5", "-y", yaml.safe_dump(engine)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "+0.050" in done.output and "second minus first" in done.output and "chest" not in done.output
    for arguments, named in (
        (["demo", "demo+alpha0.7"], "there are those of: demo, demo+alpha0.5"),
        (["demo"], "are the same study"),
        (["demo", "nonesuch"], "profile 'nonesuch'"),
    ):
        done = CliRunner().invoke(main, ["compare", *arguments, "-y", yaml.safe_dump(engine)])
        assert done.exit_code == 2 and named in done.stderr and len(done.stderr.splitlines()) == 1


def test_studies_without_a_task_in_common_are_refused(stored):
    engine = stored(demo=of(0.0), **{"demo+x": of(0.0, tasks=("chest",))})
    with pytest.raises(InputError, match="have no task in common"):
        compare.table("demo", "demo+x", **engine)
