"""A run's key: it changes with everything that decides the run's result, and with nothing else."""

import json

import pytest
import torch

from rosutils.settings import SETTINGS
from rosutils.study.experiment import bank_of


TEACHERS = {"teacher, full set", "teacher, subset", "bank, full set", "bank, subset"}
STUDENTS = {"Baseline I", "Baseline II", "Baseline III", "Baseline III, subset teachers", "Baseline IV", "RoS-KD"}
DISTILLED = STUDENTS - {"Baseline I"}
ON_SUBSETS = {"Baseline III, subset teachers", "RoS-KD"}
ALL = TEACHERS | STUDENTS


def keys(study, task="lesion") -> dict[str, tuple[str, ...]]:
    """The keys of every kind of run; Baseline V is checked to be the run of RoS-KD elsewhere."""
    found = {}
    for pool, name in (("full", "full set"), ("subset", "subset")):
        teachers = study.teachers(task, pool)
        found[f"teacher, {name}"] = tuple(map(study.key, teachers))
        found[f"bank, {name}"] = tuple(study.key(bank_of(teacher)) for teacher in teachers)
    for setting in SETTINGS:
        if setting.name != "Baseline V":
            found[setting.name] = (study.key(study.student(task, setting.name)),)
    return found


def changed(first: dict, second: dict) -> set[str]:
    return {name for name in first if not set(first[name]) & set(second[name])}


@pytest.fixture(scope="module")
def load(load_tiny, shared_folder):
    return lambda **changes: load_tiny(shared_folder, **changes)


@pytest.fixture(scope="module")
def base(load):
    return keys(load())


def test_keys_are_decided_by_the_parameters_and_tell_every_run_apart(load_tiny, base, tmp_path):
    torch.manual_seed(5)
    assert keys(load_tiny(tmp_path)) == base  # another store
    every = [key for several in base.values() for key in several]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"distillation": {"alpha": 0.5}}, DISTILLED),
        ({"distillation": {"temperature": 2.0}}, DISTILLED),
        ({"distillation": {"averaging_start": 0}}, {"RoS-KD"}),
        ({"distillation": {"refresh_batchnorm": False}}, {"RoS-KD"}),
        ({"distillation": {"weights": {"normalize": False}}}, {"RoS-KD"}),
        ({"distillation": {"weights": {"per": "example"}}}, {"RoS-KD"}),
        ({"distillation": {"reinforced": {"reward": "r1"}}}, {"Baseline IV"}),
        ({"distillation": {"reinforced": {"learning_rate": 0.2}}}, {"Baseline IV"}),
        ({"distillation": {"reinforced": {"entropy_bonus": 0.0}}}, {"Baseline IV"}),
        ({"distillation": {"reinforced": {"teacher_pool": "subset"}}}, {"Baseline IV"}),
        ({"distillation": {"single_teacher": "resnet18"}}, {"Baseline II"}),
        ({"distillation": {"student": "resnet18"}}, STUDENTS),
        ({"distillation": {"multilabel": "softmax"}}, set()),  # the lesion task has one label per image
        ({"subsets": {"overlap": 0.2}}, {"teacher, subset", "bank, subset"} | ON_SUBSETS),
        ({"subsets": {"scheme": "own-shard"}}, {"teacher, subset", "bank, subset"} | ON_SUBSETS),
        ({"seeds": {"teachers": 1}}, ALL - {"Baseline I"}),
        ({"seeds": {"student": 1}}, STUDENTS),
        ({"seeds": {"replicates": 3}}, set()),
        ({"seeds": {"vary": "student"}}, set()),
        ({"teachers": {"steps": "equal"}}, {"teacher, subset", "bank, subset"} | ON_SUBSETS),
        ({"training": {"precision": "bfloat16"}}, ALL),
        ({"training": {"precision": {"mobilenet_v2": "bfloat16"}}}, STUDENTS),
        ({"training": {"precision": {"densenet121": "bfloat16"}}}, set()),
        ({"training": {"augmentation": {"views": 1}}}, ALL),
        ({"distillation": {"mean_of": "logits"}}, {"Baseline III", "Baseline III, subset teachers"}),
        ({"seeds": {"data": 1}}, ALL),
        ({"noise": {"rate": 0.1}}, ALL),
        ({"noise": {"kind": "pairflip"}}, ALL),
        ({"noise": {"false_positives": 0.1}}, set()),  # for tasks with several labels per image
        ({"data": {"fractions": [0.6, 0.2, 0.2]}}, ALL),
        ({"data": {"pixels": 40}}, ALL),
        ({"data": {"sources": {"lesion": {"seed": 1}}}}, ALL),
        ({"data": {"sources": {"lesion": {"examples": 88}}}}, ALL),
        ({"data": {"sources": {"chest": {"examples": 88}}}}, set()),
        ({"training": {"epochs": 3}}, ALL),
        ({"training": {"batch_size": 4}}, ALL),
        ({"training": {"learning_rate": 0.01}}, ALL),
        ({"training": {"milestones": []}}, ALL),
        ({"training": {"momentum": 0.8}}, ALL),
        ({"training": {"weight_decay": 0.0}}, ALL),
        ({"training": {"augmentation": {"pad": 1}}}, ALL),
        ({"training": {"augmentation": {"flips": []}}}, ALL),
        ({"training": {"reported": "best-validation"}}, ALL),
        ({"evaluation": {"thresholds": "fixed"}}, set()),
        ({"engine": {"backend": "loky", "workers": 2, "artefacts": "elsewhere"}}, set()),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_parameter_changes_the_keys_of_the_runs_it_decides_and_no_others(load, base, changes, expected):
    assert changed(base, keys(load(**changes))) == expected


def test_what_is_for_several_labels_changes_the_keys_of_the_task_that_has_them(load):
    chest = {"tasks": ["chest"]}
    first = keys(load(**chest), "chest")
    assert changed(first, keys(load(**chest, distillation={"multilabel": "softmax"}), "chest")) == DISTILLED
    assert changed(first, keys(load(**chest, noise={"false_positives": 0.1}), "chest")) == ALL
    assert changed(first, keys(load(**chest, noise={"rate": 0.1}), "chest")) == set()
    without = {"data": {"sources": {"chest": {"keep_unlabelled": False}}}}
    assert changed(first, keys(load(**chest, **without), "chest")) == ALL


def test_a_recipe_is_plain_json_and_names_what_a_student_comes_from(load):
    study = load()
    student = study.student("lesion", "RoS-KD")
    recipe = study.recipe(student)
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["teachers"] == [study.key(teacher) for teacher in study.teachers("lesion", "subset")]
    assert recipe["distillation"]["alpha"] == 0.9 and recipe["training"]["epochs"] == 2


@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_subsets_are_cut_by_group_and_cover_the_training_part_alone(load, overlap):
    study = load(subsets={"overlap": overlap})
    task, subsets = study.task("lesion"), study.subsets("lesion")
    train = task.split["train"]
    assert len(subsets) == 2 and torch.cat(subsets).unique().equal(train)
    groups = [set(task.groups[subset].tolist()) for subset in subsets]
    for subset, inside in zip(subsets, groups, strict=True):
        whole = train[torch.isin(task.groups[train], torch.tensor(sorted(inside)))]
        assert subset.sort().values.equal(whole)
    if overlap == 0:
        assert groups[0] & groups[1] == set()


def test_teachers_on_subsets_learn_from_theirs_and_the_others_from_the_training_part(load):
    study = load()
    for pool in ("full", "subset"):
        for number, teacher in enumerate(study.teachers("lesion", pool)):
            expected = study.subsets("lesion")[number] if pool == "subset" else study.task("lesion").split["train"]
            assert study.training_index(teacher).equal(expected)
            assert study.training_index(bank_of(teacher)).equal(study.task("lesion").split["train"])
