"""Suspicious labels: only teachers that have not seen an image judge it, and the list finds what was made wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from torch.nn.functional import one_hot

from rosutils import InputError, params, suspects
from rosutils.__main__ import main
from rosutils.data.sources import open_source
from rosutils.study.experiment import bank_of
from rosutils.suspects import TRUST, Opinions


def made_up(study, sure: float):
    """The study with teachers and banks as finished runs: logits of random views, leaning to the clean labels as much as `sure`."""
    for bank in (bank for task in study.parameters.tasks for bank in suspects.needed(study, task)):
        there, [teacher] = study.at(bank), bank.teachers
        data, generator = there.task(bank.task), torch.Generator().manual_seed(bank.seed * 10 + bank.replicate)
        clean = data.clean_labels if data.multilabel else one_hot(data.clean_labels, data.n_classes)
        noise = torch.randn(there.views, len(data.names), data.n_classes, generator=generator)
        logits = sure * (2 * clean - 1) + noise
        parts = {part: logits[0, data.split[part]] for part in ("validation", "test")}
        for spec, tensors in ((teacher, parts), (bank, {"train": logits[:, data.split["train"]]})):
            study.store.put(there.key(spec), recipe=there.recipe(spec), record={}, tensors={"logits": tensors})
    return study


@pytest.fixture(scope="module")
def study(load_tiny, tmp_path_factory):
    """Two replicates of two subset teachers of both tasks, whose logits are made up."""
    folder = tmp_path_factory.mktemp("made-up")
    return made_up(load_tiny(folder, tasks=["lesion", "chest"], seeds={"replicates": 2}), 1.5)


@pytest.fixture(scope="module")
def found(study):
    return suspects.suspects(study, "lesion")


@pytest.mark.parametrize("task", ["lesion", "chest"])
def test_an_opinion_is_the_mean_of_teachers_that_have_not_seen_the_image_over_their_views(study, task):
    data, found = study.task(task), suspects.opinions(study, task)
    here = study.for_task(task).replicates
    teachers = [(there, teacher) for there in here for teacher in there.teachers(task, "subset")]
    seen = [set(there.training_index(teacher).tolist()) for there, teacher in teachers]
    by_all, sums, weights = (
        set.intersection(*seen),
        np.zeros((len(data.names), data.n_classes)),
        np.zeros(len(data.names)),
    )
    for j, (there, teacher) in enumerate(teachers):
        bank = there.run(bank_of(teacher)).tensors("logits")["train"].double()
        logits = {"train": bank, **{part: each[None] for part, each in there.run(teacher).tensors("logits").items()}}
        for part, index in there.task(task).split.items():
            said = logits[part].double()
            said = (said.sigmoid() if data.multilabel else said.softmax(-1)).mean(0).numpy()
            for row, number in enumerate(index.tolist()):
                trusted = TRUST if number in by_all and there.replicate == 0 else 0
                weight = trusted if number in seen[j] else 1.0
                assert found.judges[j, number] == np.float32(weight)
                sums[number] += weight * said[row]
                weights[number] += weight
    assert by_all and set(weights[list(by_all)]) == {2 * TRUST} and weights.min() > 0
    base_rates = (sums / weights[:, None]).mean(0)
    np.testing.assert_allclose(found.probabilities, (sums + base_rates) / (weights + 1)[:, None], atol=1e-5)


def test_trained_teachers_find_labels_that_were_made_wrong(load_tiny, tmp_path):
    sections = {
        "data": {"sources": {"lesion": {"examples": 160}}}, "subsets": {"overlap": 0.0}, "teachers": {"steps": "equal"},
        "training": {"epochs": 3, "milestones": [2], "learning_rate": 0.01},
    }  # fmt: skip
    study = load_tiny(tmp_path, **sections)
    study.ensure(suspects.needed(study, "lesion"))
    found = suspects.suspects(study, "lesion")
    table = suspects.precision_and_recall(found).set_index("first")
    assert table.loc["10%", "precision"] >= 2.5 * found["wrong"].mean() and table.loc["20%", "recall"] >= 0.3
    assert set(found["part"]) == {"train"} and set(found["judges"]) == {1}


@pytest.mark.parametrize("task", ["lesion", "chest"])
def test_the_better_the_teachers_the_better_the_list(load_tiny, tmp_path, task):
    found = []
    for sure in (0.0, 4.0):
        study = made_up(load_tiny(tmp_path / f"{sure}", tasks=[task], seeds={"replicates": 2}), sure)
        table = suspects.precision_and_recall(suspects.suspects(study, task))
        found.append(table[["precision", "recall"]].max(axis=1)[0])
    assert found[1] >= 0.8 > found[0] + 0.3  # where few labels are wrong, the first are more than all of them


def test_with_a_second_replicate_there_are_judges_for_images_that_all_teachers_of_one_have_seen(study, found):
    core = set.intersection(*(set(study.training_index(t).tolist()) for t in study.teachers("lesion", "subset")))
    names = {study.task("lesion").names[number] for number in core}
    among = found[found["image"].isin(names)]
    assert 0 < (among["judges"] > 0).sum() and among["says"].map(lambda who: "r1" not in who)[among["judges"] > 0].all()


def test_teachers_that_replicates_share_are_asked_once_and_a_missing_run_is_named(load_tiny, shared_folder):
    study = load_tiny(shared_folder, seeds={"replicates": 3, "vary": "student"})
    assert len(suspects.needed(study, "lesion")) == 2
    with pytest.raises(InputError, match="lesion: teacher resnet18 on subset 1.*is missing; first: study.ensure"):
        suspects.suspects(load_tiny(shared_folder, training={"batch_size": 9}), "lesion")


def planted(task, right: float):
    """Two judges sure of the clean label, of which the second judges even examples only."""
    clean = task.clean_labels if task.multilabel else one_hot(task.clean_labels, task.n_classes).float()
    p = clean * right + (1 - clean) * (1 - right) / (1 if task.multilabel else task.n_classes - 1)
    judges = torch.ones(2, len(clean))
    judges[1, 1::2] = 0
    return Opinions(p, judges, (clean > 0).expand(2, -1, -1), ["a r1", "b r1"])


def test_the_first_of_the_list_are_what_the_judges_contradict(small_task):
    train, given, several = small_task.split["train"], small_task.labels.clone(), small_task.multilabel
    changed = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(3))[:9]]
    given[(changed, 2) if several else changed] += 1  # of several labels their third
    small_task = replace(small_task, clean_labels=small_task.labels, labels=given % (2 if several else 4))
    make = suspects._entries if several else suspects._classes
    table = make(small_task, train, planted(small_task, 0.8)).sort_values("score", ascending=False, kind="stable")
    first, rest = table.iloc[:9], table.iloc[9:]
    assert first["wrong"].all() and not rest["wrong"].any() and (first["score"] > 0).all()
    place = train.numpy()[first["row"]]
    assert set(place) == set(changed.tolist())
    if several:
        assert set(first["label"]) == {"c"} and (first["likely"] != first["given"]).all()
        np.testing.assert_allclose(rest[rest["label"] != "c"]["score"], 0, atol=1e-6)
    else:
        assert (first["likely"] == np.array(small_task.class_names)[small_task.clean_labels[place]]).all()
        np.testing.assert_allclose(first["score"], 0.8 - 0.2 / 3, atol=1e-6)
        assert (rest["likely"] == rest["given"]).all()
    assert first["says"].tolist() == ["a r1" if number % 2 else "a r1; b r1" for number in place]


def test_the_score_is_cleanlabs_normalised_margin_and_its_own_ranking_is_beside_it(study, found):
    rank = pytest.importorskip("cleanlab.rank")
    data, said = study.task("lesion"), suspects.opinions(study, "lesion").probabilities.numpy()
    train, labels = data.split["train"].numpy(), data.labels.numpy()
    for method, ours in (("normalized_margin", (1 - found["score"]) / 2), ("self_confidence", found["cleanlab"])):
        theirs = rank.get_label_quality_scores(labels[train], said[train], method=method)
        theirs = pd.Series(theirs, np.array(data.names)[train])[found["image"]]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_without_cleanlab_there_is_no_second_opinion(study, found, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.rank", None)
    table = suspects.suspects(study, "lesion")
    pd.testing.assert_frame_equal(table, found.drop(columns="cleanlab", errors="ignore"))
    assert list(suspects.precision_and_recall(table)) == ["first", "labels", "by chance", "precision", "recall"]


def test_precision_and_recall_by_hand():
    wrong = np.arange(100) % 20 < 2  # 10 of 100; of the first 5, 10, 20: 2, 2, 2
    table = suspects.precision_and_recall(pd.DataFrame({"wrong": wrong, "cleanlab": np.where(wrong, 0.0, 1.0)}))
    assert table["labels"].tolist() == [5, 10, 20] and (table["by chance"] == 0.1).all()
    assert table["precision"].tolist() == [0.4, 0.2, 0.1] and table["recall"].tolist() == [0.2, 0.2, 0.2]
    assert table["cleanlab precision"].tolist() == [1, 1, 0.5] and table["cleanlab recall"].tolist() == [0.5, 1, 1]
    with pytest.raises(InputError, match="known only of injected noise"):
        suspects.precision_and_recall(pd.DataFrame({"score": [0.1]}))


def test_without_injected_noise_every_part_is_listed_and_no_truth(load_tiny, tmp_path):
    study = made_up(load_tiny(tmp_path, noise={"kind": "none"}, subsets={"overlap": 0.0}), 1.0)
    table = suspects.suspects(study, "lesion")
    assert "wrong" not in table and set(table["part"]) == {"train", "validation", "test"} and len(table) == 80
    data, trained = study.task("lesion"), table["part"] == "train"
    parts = {data.names[number]: part for part, index in data.split.items() for number in index.tolist()}
    assert table["part"].tolist() == [parts[name] for name in table["image"]]
    assert set(table.loc[trained, "judges"]) == {1} and set(table.loc[~trained, "judges"]) == {2}


def test_a_cleaned_study_lacks_suspects_in_training_alone(study, found):
    again = suspects.cleaned(study, "lesion", found, share=0.1)
    before, after = study.task("lesion"), again.task("lesion")
    gone = set(found["image"].head(round(0.1 * len(found))))
    assert again.label == study.label + "+cleaned0.1" and again.parameters.tasks == ["lesion"]
    trained = [{data.names[n] for n in data.split["train"].tolist()} for data in (before, after)]
    assert trained[0] - gone == trained[1] and len(trained[1]) < len(trained[0])
    assert all(before.split[part].equal(after.split[part]) for part in ("validation", "test"))
    with pytest.raises(InputError, match="share is 1.2"):
        suspects.cleaned(study, "lesion", found, share=1.2)


@pytest.mark.parametrize("task", ["lesion", "chest"])
def test_a_cleaned_table_is_what_a_folder_source_reads(study, task, tmp_path):
    found, data = suspects.suspects(study, task), study.task(task)
    again = suspects.cleaned(study, task, found, share=0.02)
    table = pd.read_csv(again.output / f"labels_{task}.csv")
    kept = [number for number, name in enumerate(data.names) if name in set(table["image"])]
    assert len(kept) == len(table) and not set(found["image"].head(round(0.02 * len(found)))) & set(table["image"])
    table.assign(image=table["image"] + ".png").to_csv(tmp_path / "labels.csv", index=False)
    for name in table["image"]:
        Image.new("L", (20, 20)).save(tmp_path / f"{name}.png")
    columns = {"labels": list(data.class_names)} if data.multilabel else {}
    how = {"pixels": 16, "root": tmp_path, "allow_missing": False, "cache_root": tmp_path / "cache"}
    read = open_source(params.source({"source": "folder", "grey": True, **columns}), **how)
    place = [list(data.names).index(name.removesuffix(".png")) for name in read.names]
    assert sorted(place) == kept
    given = (
        read.labels if data.multilabel else [data.class_names.index(read.class_names[label]) for label in read.labels]
    )
    np.testing.assert_array_equal(given, data.labels[place])


def test_the_montage_shows_given_and_likely_label_of_the_worst(study, found):
    fig = suspects.montage(study, "lesion", found, count=10)
    shown = [ax for ax in fig.axes if ax.images]
    assert len(shown) == 10 and len(fig.axes) == 16
    first, data = found.iloc[0], study.task("lesion")
    assert shown[0].get_title() == f"{first['given']}\n\N{RIGHTWARDS ARROW} {first['likely']}"
    expected = data.images[list(data.names).index(first["image"])].transpose(1, 2, 0)
    np.testing.assert_array_equal(shown[0].images[0].get_array(), expected)


def test_the_command_writes_list_and_pictures_and_says_how_good_the_list_is(study, found):
    sections = study.parameters.model_dump(exclude={"profile"}, mode="json")
    done = CliRunner().invoke(main, ["suspects", "smoke", "-y", yaml.safe_dump(sections)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.count("precision") >= 2 and f"lesion: {len(found)} labels" in done.output
    assert (study.output / "suspects_lesion.png").stat().st_size > 3000
    written = pd.read_csv(study.output / "suspects_lesion.csv", keep_default_na=False)
    assert written["image"].tolist() == found["image"].tolist()
