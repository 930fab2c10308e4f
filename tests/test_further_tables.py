"""Comparisons, Tables II and III and the landscape's numbers: known measurements in, the right cells out, in every format."""

import csv
import functools
import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from rosutils import InputError, tables
from rosutils.results import published, validate
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
WATERMARK = "profile demo · synthetic images · 50 % & not comparable with the paper"
SEEDS = (0, 1, 2)  # what is measured is centre + STEP * (replicate - 1): mean centre, standard deviation STEP
STEP, EPS, NORMS = 0.01, 1.28 / 255, ("l2", "linf", "l2-scaled")
SAME_TEACHERS = ("Baseline III, subset teachers", "RoS-KD")
STATES = {
    "Baseline III": ("Baseline III", "landscape"), "RoS-KD": ("RoS-KD", "landscape"),
    "RoS-KD, BatchNorm as copied": ("RoS-KD", "landscape, BatchNorm as copied"),
}  # fmt: skip
CLASSES = published()["table3"]["classes"]
NO_SKILL = dict(zip(CHANCE, (0.2, 0.1, 0.3), strict=True))


def rows(task, setting, centre, *, seeds=SEEDS, step=STEP, **columns):
    blank = {"student": "resnet18", "variant": "", "overlap": 0.4, "noise": 0.2, "attack": "", "eps": math.nan, "norm": "",
             "class": "", "average": PRINTED_AVERAGE[TASKS[task]["multilabel"]], "metric": "f1"}  # fmt: skip
    which = blank | {"task": task, "setting": setting} | columns
    return [which | {"replicate": s, "value": centre + step * (s - 1), "run": f"{setting}-{s}"} for s in seeds]


def frame(found):
    return validate(pd.DataFrame(found))


def scores(seeds=SEEDS):
    """Table I: F1 of setting number i is 0.5 + i / 100 and the same in every replicate, but RoS-KD's moves by STEP."""
    found = []
    for task in TASKS:
        for place, setting in enumerate(ROWS):
            found += rows(task, setting, 0.5 + place / 100, seeds=seeds, step=STEP if setting == "RoS-KD" else 0)
    return found


def attacks(seeds=SEEDS):
    """Before 0.6, PGD takes 0.3 and FGSM 0.2, and 0.01 more for each norm further; RoS-KD has 0.05 more throughout."""
    found = []
    for task in TASKS:
        for setting in SAME_TEACHERS:
            for metric in ("precision", "recall", "f1"):
                top = 0.6 + 0.05 * (setting == "RoS-KD")
                for place, norm in enumerate(NORMS):
                    for attack, loss in (("pgd", 0.3), ("fgsm", 0.2)):
                        which = {"attack": attack, "norm": norm, "metric": metric, "seeds": seeds}
                        found += rows(task, setting, top, eps=0.0, **which)
                        found += rows(task, setting, top - loss - 0.01 * place, eps=EPS, **which)
    return found


def runs(seeds=SEEDS):
    """AUROC of class number i is 0.7 + i / 100, their mean 0.735."""
    which = {"variant": "table3", "metric": "auroc", "student": "densenet121", "seeds": seeds}
    found = rows("chest", "RoS-KD", 0.735, **which, average="macro")
    for place, name in enumerate(CLASSES):
        found += rows("chest", "RoS-KD", 0.7 + place / 100, **which, average="", **{"class": name})
    return found


def no_skill(seeds=SEEDS):
    """What it scores on the attacked sample (Table II) and as mean AUROC of Table III; 0.05 more on what is in neither."""
    found, which = [], {"student": "", "overlap": math.nan, "seeds": seeds}
    for name, value in NO_SKILL.items():
        found += rows("chest", name, value, **which, variant="table3", metric="auroc", average="macro")
        found += rows("chest", name, value + 0.05, **which, metric="auroc", average="macro")
        for metric in ("precision", "recall", "f1"):
            for task in TASKS:
                found += rows(task, name, value, **which, metric=metric, attack="attacked sample")
                found += rows(task, name, value + 0.05, **which, metric=metric)
    return found


def planes(seeds=SEEDS):
    """Basins of 0.2, 0.3, 0.4 of the plane by level, 0.1 more for each state further; two pairs of directions, 0.05 to either
    side of it; curvature the same in each replicate, and sharpness ten times the radius.
    """
    found, curvature = [], {"loss": 0.7, "weight_norm": 45.67, "hessian_eigenvalue": -153.24, "hessian_trace": 12345.6,
                            "hessian_trace_error": 321.0}  # fmt: skip
    for task in TASKS:
        for place, (setting, variant) in enumerate(STATES.values()):
            which = {"variant": variant, "overlap": math.nan}
            for number, level in enumerate(("0.5", "1", "10")):
                centre = 0.2 + 0.1 * (number + place)
                for pair, aside in ((0, -0.05), (1, 0.05)):
                    basin = which | {"metric": "basin_area", "average": level, "class": f"directions {pair}"}
                    found += rows(task, setting, centre + aside, seeds=seeds, **basin)
            for radius in ("0.0003", "0.001", "0.01"):
                ball = which | {"metric": "sharpness", "average": radius}
                found += rows(task, setting, 10 * float(radius) + place, seeds=seeds, step=0, **ball)
            for metric, value in curvature.items():
                found += rows(task, setting, value + place, metric=metric, average="", seeds=seeds, step=0, **which)
    return found


def everything(seeds=SEEDS):
    """All of it, and beside it the other variants that a results table holds."""
    known = scores(seeds) + attacks(seeds) + runs(seeds) + planes(seeds) + no_skill(seeds)
    others = ("students", "overlap", "symmetric 0.3", "reading: own-shard")
    return frame(
        known + [row | {"variant": name, "value": 0.99} for name in others for row in scores(seeds) + attacks(seeds)]
    )


INTERVALS = {("lesion", "Baseline I"): (-0.0123, 0.0234), ("chest", "RoS-KD"): (0.0, 0.1)}


def all_tables(results):
    """Name -> (frame, caption) of each."""
    found = {
        "comparisons": tables.comparisons(results, tasks=TASKS, intervals=INTERVALS),
        "table2": tables.table2(results, tasks=TASKS, norms=NORMS, eps=EPS),
        "landscape": tables.landscape_table(results, tasks=TASKS),
        "table3": tables.table3(results, task="chest"),
    }
    say = {
        "comparisons": tables.comparisons_caption,
        "table2": functools.partial(tables.table2_caption, eps=EPS),
        "landscape": tables.landscape_caption,
    }
    captions = {name: caption(found[name], tasks=TASKS, watermark=WATERMARK) for name, caption in say.items()}
    captions["table3"] = tables.table3_caption(found["table3"], watermark=WATERMARK)
    return {name: (found[name], captions[name]) for name in found}


@functools.cache
def made(*seeds):
    """All tables of these replicates; of an empty results table where there are none."""
    return all_tables(everything(seeds) if seeds else everything()[:0])


each = pytest.mark.parametrize("name", ["comparisons", "table2", "landscape", "table3"])


def test_comparisons_are_paired_differences_with_students_interval_by_hand():
    found = made(*SEEDS)["comparisons"][0]["lesion"].loc["Baseline I"]
    # 0.05, 0.06, 0.07: mean 0.06, std 0.01, t(0.975, 2) = 4.302653
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert found["RoS-KD minus baseline", "mean"] == pytest.approx(0.06)
    assert found["95 % over replicates"].tolist() == pytest.approx([0.06 - half, 0.06 + half, 3])
    assert found["RoS-KD minus baseline", "published"] == 0.058  # 0.716 - 0.658 as printed


def test_comparisons_leave_out_a_replicate_that_one_side_lacks():
    results = frame([row for row in scores() if (row["setting"], row["replicate"]) != ("Baseline II", 2)])
    found = tables.comparisons(results, tasks=TASKS, intervals={})["chest"]
    assert found.loc["Baseline II", ("RoS-KD minus baseline", "mean")] == pytest.approx((0.04 + 0.05) / 2)
    assert found["95 % over replicates", "n"].tolist() == [3, 2, 3, 3, 3, 3]


def test_comparisons_have_the_bootstrap_where_it_is_given():
    table = made(*SEEDS)["comparisons"][0]
    assert table["lesion"]["95 % over test groups"].loc["Baseline I"].tolist() == [-0.0123, 0.0234]
    assert table["lesion"]["95 % over test groups"].drop("Baseline I").isna().all(axis=None)


def test_one_replicate_has_no_interval_and_says_so():
    table, caption = made(0)["comparisons"]
    text = tables.printable(table)["lesion"].loc["Baseline I"]
    assert text.tolist() == ["+0.058", "+0.050", "", "1", "−0.012 to +0.023"] and "One replicate (n = 1)" in caption
    assert "n = 1" not in made(*SEEDS)["comparisons"][1] and "3 replicates" in made(*SEEDS)["comparisons"][1]


def test_a_baseline_that_was_not_run_is_a_blank_row():
    results = frame([row for row in scores() if row["setting"] != "Baseline IV"])
    text = tables.printable(tables.comparisons(results, tasks=TASKS, intervals={}))
    assert text["chest"].loc["Baseline IV"].tolist() == ["+0.042", "", "", "", ""]
    assert list(text.index) == list(ROWS[:-1])


def test_comparisons_do_not_mix_students():
    other = [row | {"student": "resnet34", "value": 0.1} for row in scores()]
    with pytest.raises(InputError, match="one value of each setting per replicate"):
        tables.comparisons(frame(scores() + other), tasks=TASKS, intervals={})


def test_table2_is_before_and_after_for_each_reading_beside_the_paper():
    table = made(*SEEDS)["table2"][0]["lesion"]["F1"]
    lines = {label: line for label, *line in table.astype(float).itertuples(name=None)}
    before, after = lines["", "before attack", "RoS-KD"], lines["linf", "PGD", "Baseline III, subset teachers"]
    assert before == pytest.approx([0.716, 0.65, 0.01, 3, 0.65 - 0.716])
    assert after == pytest.approx([0.309, 0.29, 0.01, 3, 0.29 - 0.309])
    assert lines["l2-scaled", "FGSM", "RoS-KD"][1] == pytest.approx(0.65 - 0.22)
    for norm in NORMS:
        assert [lines[norm, "FGSM", setting][0] for setting in SAME_TEACHERS] == [0.385, 0.447]
    assert len(table) == 2 + 3 * 2 * 2 + len(CHANCE)


def test_table2_ends_with_what_no_skill_scores_on_the_images_attacked():
    table, caption = made(*SEEDS)["table2"]
    assert list(table.index[-3:]) == [("", "no skill", name) for name in CHANCE]
    for task in TASKS:
        for group in ("Precision", "Recall", "F1"):
            found = table[task][group].iloc[-3:]
            assert found["ours"].tolist() == pytest.approx(list(NO_SKILL.values()))
            assert found["std"].tolist() == pytest.approx([STEP] * 3) and (found["n"] == 3).all()
            assert found[["published", "difference"]].isna().all(axis=None)
    assert "“No skill”: on the same images" in caption and "radius 1.28/255 (the paper's: 1.28/255)" in caption
    doubled = tables.table2_caption(table, tasks=TASKS, watermark="", eps=2 * EPS)
    assert "radius 2.56/255 (the paper's: 1.28/255)" in doubled


def test_table2_takes_the_radius_asked_for_and_one_before_is_enough():
    found = [row for row in attacks() if row["eps"] > 0 or (row["attack"], row["norm"]) == ("pgd", "linf")]
    wider = [row | {"eps": 2 * EPS, "value": 0.0} for row in found if row["eps"] > 0] + no_skill()
    pd.testing.assert_frame_equal(
        tables.table2(frame(found + wider), tasks=TASKS, norms=NORMS, eps=EPS), made(*SEEDS)["table2"][0]
    )
    doubled = tables.table2(frame(found + wider), tasks=TASKS, norms=["l2"], eps=2 * EPS)
    assert (doubled["chest"]["Recall"]["ours"].xs("l2") == 0).all()


def test_table2_is_blank_where_an_attack_was_not_run_and_refuses_an_unknown_norm():
    results = frame([row for row in attacks() if row["norm"] == "l2"])
    text = tables.printable(tables.table2(results, tasks=TASKS, norms=["l2", "linf"], eps=EPS))["chest"]["Precision"]
    assert text.loc[("linf", "PGD", "RoS-KD")].tolist() == ["0.189", "", ""]
    assert text.loc[("l2", "PGD", "RoS-KD")].tolist() == ["0.189", "0.350 ± 0.010", "+0.161"]
    with pytest.raises(InputError, match="norms hold 'l1'; allowed: l2, linf, l2-scaled"):
        tables.table2(results, tasks=TASKS, norms=["l2", "l1"], eps=EPS)


def test_table3_is_mean_and_std_over_runs_beside_every_method_of_the_paper():
    table = made(*SEEDS)["table3"][0]
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == [*CLASSES, "Mean"]
    *ours, public = table["Effusion"].astype(float).loc["RoS-KD"]
    assert ours == pytest.approx([0.89, 0.01, 0.72, 0.01, 3, 0.72 - 0.89]) and math.isnan(public)
    assert table["Mean"].loc["RoS-KD", ["ours", "difference"]].tolist() == pytest.approx([0.735, 0.735 - 0.838])
    printed = {method["method"]: method for method in published()["table3"]["methods"]}
    assert list(table.index[:8]) == list(printed)
    for name, method in printed.items():
        assert table.xs("published", axis=1, level=1).loc[name].tolist() == [*method["auroc"], method["mean"]]
    assert table["Mass"].drop("RoS-KD")["ours"].isna().all()


def test_table3_has_no_skills_mean_under_the_papers_methods_and_nothing_of_it_in_the_classes():
    table = made(*SEEDS)["table3"][0]
    found = table.iloc[8 : 8 + len(CHANCE)]
    assert list(found.index) == list(CHANCE) and found[CLASSES].isna().all(axis=None)
    assert found["Mean"]["ours"].tolist() == pytest.approx(list(NO_SKILL.values()))
    assert found["Mean"]["std"].tolist() == pytest.approx([STEP] * 3) and (found["Mean"]["n"] == 3).all()
    assert found["Mean"][["published", "difference", "public"]].isna().all(axis=None)
    assert tables.printable(table).loc[CHANCE[0]].tolist() == [*[""] * len(CLASSES), "0.200 ± 0.010"]


def test_table3_of_a_study_without_chance_has_its_rows_blank():
    table = tables.table3(frame(runs()), task="chest")
    assert table.loc[list(CHANCE)].isna().all(axis=None) and table["Mean"].loc["RoS-KD", "n"] == 3


def test_table3_marks_what_we_add_and_on_which_split():
    table, caption = made(*SEEDS)["table3"]
    anchors = published()["table3"]["anchors"]
    added = table[table.index.str.startswith("added (")]
    assert len(added) == len(anchors) and added.index.is_unique
    assert added.loc[:, (slice(None), ["published", "ours", "difference"])].isna().all(axis=None)
    for (label, row), anchor in zip(added.xs("public", axis=1, level=1).iterrows(), anchors, strict=True):
        assert anchor["method"] in label and label.endswith("public split") == anchor["same_split"]
        assert row[CLASSES].tolist() == anchor["auroc"] and anchor["source"] in caption
        assert row["Mean"] == pytest.approx(sum(anchor["auroc"]) / 8)
    assert "not in the paper" in caption and "over 3 independent runs" in caption


def test_table3_of_a_task_that_is_not_the_papers_has_our_row_and_no_skills_alone():
    known = [row for row in runs() + no_skill() if row["task"] == "chest"]
    results = frame([row | {"task": "retina", "class": row["class"].upper()} for row in known])
    table = tables.table3(results, task="retina")
    assert list(table.index) == ["RoS-KD", *CHANCE] and set(table.columns.get_level_values(0)) == {
        *(name.upper() for name in CLASSES),
        "Mean",
    }
    assert table["Mean"]["ours"].tolist() == pytest.approx([0.735, *NO_SKILL.values()])
    assert table["EFFUSION"].loc["RoS-KD", "ours"] == pytest.approx(0.72) and table["Mean"]["published"].isna().all()
    assert "Added by us" not in tables.table3_caption(table, watermark="")


def test_the_landscapes_numbers_by_hand():
    table, caption = made(*SEEDS)["landscape"]
    assert list(table.index) == list(STATES)
    assert table["chest"]["basin +1"].loc["RoS-KD, BatchNorm as copied"].tolist() == pytest.approx([0.5, 0.01, 3])
    assert table["lesion"]["basin +10"].loc["Baseline III", "ours"] == pytest.approx(0.4)
    assert table["lesion"]["trace"].astype(float).loc["RoS-KD"].tolist() == pytest.approx([12346.6, 0, 3])
    one, about_one = made(0)["landscape"]
    assert list(tables.printable(one)["lesion"].loc["Baseline III"]) == [
        "0.190", "0.290", "0.390", "0.010", "−153.2", "12346", "321.0", "45.67", "0.700",
    ]  # fmt: skip
    assert "over 3 replicates" in caption and "one replicate (n = 1)" in about_one
    assert "lesion cross-entropy, chest binary cross-entropy" in caption


def test_basins_come_in_the_order_of_their_levels():
    quantities = list(dict.fromkeys(made(*SEEDS)["landscape"][0]["lesion"].columns.get_level_values(0)))
    assert quantities[:4] == ["basin +0.5", "basin +1", "basin +10", "sharpness (radius 0.001 of the norm)"]


def test_sharpness_is_that_of_the_radius_asked_for():
    table = tables.landscape_table(frame(planes()), tasks=TASKS, radius=0.01)
    assert table["lesion"]["sharpness (radius 0.01 of the norm)"].loc["RoS-KD"].tolist() == pytest.approx([1.1, 0, 3])
    other = tables.landscape_table(frame(planes()), tasks=TASKS, radius=0.002)
    assert other["chest"]["sharpness (radius 0.002 of the norm)"].isna().all(axis=None)


def test_a_replicate_counts_once_however_many_pairs_of_directions_it_was_measured_in():
    more = [row for row in planes() if row["class"] == "directions 1" and row["run"].endswith("-0")]
    table = tables.landscape_table(frame(planes() + [row | {"class": "directions 2"} for row in more]), tasks=TASKS)
    first = 0.19 + 0.05 / 3  # of three pairs, two are 0.05 above and one is as far below
    mean, std, n = table["lesion"]["basin +0.5"].astype(float).loc["Baseline III"]
    values = pd.Series([first, 0.2, 0.21])
    assert (mean, std, n) == pytest.approx((values.mean(), values.std(), 3))


def test_many_groups_are_columns_and_what_is_said_of_them_lines():
    text = tables.printable(made(*SEEDS)["table3"][0])
    assert list(text.columns) == [*CLASSES, "Mean"] and text.index.is_unique
    assert [label for label in text.index if "RoS-KD" in label] == [
        "RoS-KD, paper",
        "RoS-KD, ours",
        "RoS-KD, difference",
    ]
    assert text.loc["RoS-KD, ours", "Nodule"] == "0.750 ± 0.010" and text.loc["Yao et al. [4]", "Mean"] == "0.786"


@each
def test_one_replicate_has_no_spread_of_ours(name):
    table, caption = made(0)[name]
    ours = table.drop(columns="published std", level=-1, errors="ignore")
    assert not tables.printable(ours).map(lambda cell: "±" in cell).any(axis=None)
    assert "n = 1" in caption


@each
def test_nothing_run_is_a_blank_table_that_says_so_not_a_crash(name, tmp_path):
    table, caption = made()[name]
    kinds = table.columns.get_level_values(-1)
    assert table.loc[:, kinds.isin(["ours", "mean", "std", "n", "difference"])].isna().all(axis=None)
    assert "not run yet" in caption
    assert len(tables.write_table(table, tmp_path, name, caption=caption)) == 3


@each
def test_the_same_table_gives_the_same_bytes_with_every_number_in_full(name, tmp_path):
    table, caption = made(*SEEDS)[name]
    first, again = (tables.write_table(table, tmp_path / folder, name, caption=caption) for folder in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    written = list(csv.DictReader(io.StringIO(first[0].read_text(encoding="utf-8"))))
    names, kinds = [*table.columns.names[:-1], *table.index.names], set(table.columns.get_level_values(-1))
    found = {
        (*(line[name] for name in names), kind): float(line[kind]) for line in written for kind in kinds if line[kind]
    }
    labels = [label if isinstance(label, tuple) else (label,) for label in table.index]
    expected = {
        (*group, *label, kind): value
        for (*group, kind), column in table.astype(float).items()
        for label, value in zip(labels, column, strict=True) if value == value
    }  # fmt: skip
    assert found == expected


@each
def test_the_markdown_is_even_and_holds_every_printed_cell(name, tmp_path):
    table, caption = made(*SEEDS)[name]
    text = tables.write_table(table, tmp_path, name, caption=caption)[1].read_text(encoding="utf-8")
    shown = tables.printable(table)
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    tasks, heads = 1 if name == "table3" else len(TASKS), {"method", "baseline", "setting", "norm, attack, setting"}
    assert len(lines) == tasks * (2 + len(shown)) and {len(cells) for cells in lines} == {1 + shown.shape[1] // tasks}
    bodies = [cells for cells in lines if "---" not in cells[0] and cells[0].strip() not in heads]
    assert sorted(cell.strip() for cells in bodies for cell in cells[1:]) == sorted(shown.to_numpy().ravel())
    assert text.rstrip().endswith(caption) and all(f"**{task}**" in text for task in TASKS if name != "table3")


@each
def test_the_latex_is_balanced_escaped_and_even(name, tmp_path):
    table, caption = made(*SEEDS)[name]
    text = tables.write_table(table, tmp_path, name, caption=caption)[2].read_text(encoding="utf-8")
    body = text.split("\n", 1)[1]
    assert body.isascii() and re.search(r"(?<!\\)[%#]", body) is None
    assert re.findall(r"\\begin{(.*?)}", body) == re.findall(r"\\end{(.*?)}", body)[::-1] == ["table*", "tabular"]
    assert len(re.findall(r"(?<!\\){", body)) == len(re.findall(r"(?<!\\)}", body))
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    shown, tasks = tables.printable(table), 1 if name == "table3" else 2
    width = shown.shape[1] // tasks + (tasks > 1)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {width}
    assert len(lines) == 1 + tasks * len(shown)
    assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def checks():
    columns = {"task": ["lesion", "lesion"], "check": ["eps 0 | identity", "noise"], "passed": [True, False]}
    return pd.DataFrame(columns | {"detail": ["largest change 0", math.nan], "loss": [0.123456789, 1e-7]})


def test_a_plain_table_is_csv_in_full_and_markdown_to_read(tmp_path):
    paths = tables.write_plain(checks(), tmp_path, "self_checks")
    assert [path.name for path in paths] == ["self_checks.csv", "self_checks.md"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), checks())
    assert paths[1].read_text(encoding="utf-8").splitlines() == [
        "| task | check | passed | detail | loss |",
        "| :--- | :--- | :--- | :--- | :--- |",
        r"| lesion | eps 0 \| identity | yes | largest change 0 | 0.1235 |",
        "| lesion | noise | no |  | 1e-07 |",
    ]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in tables.write_plain(checks(), tmp_path, "self_checks")] == before


def test_the_names_of_a_plain_tables_rows_are_kept(tmp_path):
    paths = tables.write_plain(checks().set_index(["task", "check"]), tmp_path, "a")
    assert paths[1].read_text(encoding="utf-8") == Path(tables.write_plain(checks(), tmp_path, "b")[1]).read_text(
        encoding="utf-8"
    )
