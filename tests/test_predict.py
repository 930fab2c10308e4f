"""A network used: pictures give the logits that its run stored, exports give the same outputs, and errors say what to do."""

import errno
import os
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from scipy import special

from rosutils import InputError, predict
from rosutils.__main__ import main
from rosutils.metrics import best_thresholds
from rosutils.params import ROOT
from rosutils.settings import setting
from rosutils.store import Run
from rosutils.study import Study
from rosutils.study.experiment import bank_of


TASKS = ("one", "several")


@pytest.fixture(scope="module")
def sections(tiny_sections, tmp_path_factory):
    """A folder with 60 pictures of other sizes than the network's, in three classes, and grey ones with three labels."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    lines = {"one": ["image,label,group"], "several": ["image,a,b,c,group"]}
    for number in range(60):
        kind = number % 3
        pixels = generator.integers(0, 120, (40 + number % 7, 50, 3), dtype=np.uint8)
        pixels[..., kind] += 110
        for task, suffix, shown in (("one", "png", pixels), ("several", "bmp", pixels[..., 0])):
            (folder / task / "deep").mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(folder / task / "deep" / f"{number:02d}.{suffix}")
        lines["one"].append(f"deep/{number:02d}.png,class {kind},{number // 2}")
        lines["several"].append(f"deep/{number:02d}.bmp,{int(kind == 0)},{int(kind < 2)},{number % 2},{number // 2}")
    for task in TASKS:
        (folder / task / "labels.csv").write_text("\n".join(lines[task]) + "\n")
    sources = {
        "one": {"source": "folder", "path": "one"},
        "several": {"source": "folder", "path": "several", "labels": ["a", "b", "c"], "grey": True},
    }
    training = {"epochs": 1, "milestones": [], "batch_size": 8}
    changes = {"tasks": list(TASKS), "noise": {"kind": "none", "false_negatives": None, "false_positives": None}}
    changes |= {"training": training, "distillation": {"averaging_start": 0}}
    found = tiny_sections(folder, **changes)
    return found | {"data": {"root": str(folder), "pixels": 34, "sources": sources}}


@pytest.fixture(scope="module")
def study(sections):
    study = Study.load("smoke", **sections)
    students = [study.student(task, "RoS-KD") for task in TASKS]
    study.ensure([*students, *(study.chance(task) for task in TASKS)])
    return study


def test_of_a_network_without_skill_its_name_says_so(study, monkeypatch):
    names, about = [], Run.about

    def with_skill(skill):
        return lambda run: (found := about(run)) | {"record": found["record"] | {"validation_skill": skill}}

    for skill in (0.1, -0.1):
        monkeypatch.setattr(Run, "about", with_skill(skill))
        names.append(predict.of_study(study, "one", "RoS-KD").name)
    assert names[1] == names[0] + " (not averaged, it is on validation no better than the classes' rates)"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("row", ["Baseline V", "RoS-KD"])
def test_raw_pictures_give_the_stored_test_logits_and_the_thresholds_of_validation(study, task, row):
    spec, data, state = study.student(task, row), study.task(task), setting(row).state
    table, bad = predict.folder(predict.of_study(study, task, row), study.root / task)
    assert bad == {} and table["image"].tolist() == sorted(data.names)
    stored = study.run(spec).tensors("logits" if state == "weights" else "averaged_logits")
    logits = stored["test"].double().numpy()
    expected = special.expit(logits) if data.multilabel else special.softmax(logits, axis=1)
    table = table.set_index("image").loc[[data.names[n] for n in data.split["test"].tolist()]]
    said = table[[f"p_{name}" for name in data.class_names]].to_numpy()
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-6)
    if data.multilabel:
        limit = float(best_thresholds(stored["validation"], data.labels[data.split["validation"]]))
        names = ["|".join(n for n, p in zip(data.class_names, row, strict=True) if p >= limit) for row in said]
        assert len(set(names)) > 1
    else:
        names = [data.class_names[c] for c in expected.argmax(1)]
    assert table["predicted"].tolist() == names


@pytest.mark.parametrize("task", TASKS)
def test_the_folder_of_a_run_is_enough(study, task, tmp_path):
    run = study.run(study.student(task, "RoS-KD"))
    shutil.copytree(run.path, tmp_path / "elsewhere" / run.key)
    alone = predict.find(str(tmp_path / "elsewhere" / run.key), "no such profile", {})
    named = predict.of_study(study, task, "RoS-KD")
    assert alone.about == named.about and alone.threshold == named.threshold
    tables = [predict.folder(network, study.root / task)[0] for network in (alone, named)]
    pd.testing.assert_frame_equal(*tables)


def test_load_student_is_the_network_of_the_row_in_eval_mode(study):
    model, data = study.load_student("one"), study.task("one")
    assert not model.training
    images = torch.from_numpy(data.images[data.split["test"].numpy()]).float() / 255
    expected = study.run(study.student("one", "RoS-KD")).tensors("averaged_logits")["test"]
    with torch.inference_mode():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
    for arguments, named in ((("two",), "task 'two'"), (("one", "RoSKD"), "setting 'RoSKD'")):
        with pytest.raises(InputError, match=named):
            study.load_student(*arguments)
    with pytest.raises(InputError, match="Baseline I on one is not trained yet"):
        study.load_student("one", "Baseline I")


def test_files_that_are_no_images_are_named_and_left_out_where_that_is_allowed(study, tmp_path):
    network = predict.of_study(study, "one", "RoS-KD")
    with pytest.raises(InputError, match="no folder"):
        predict.folder(network, tmp_path / "none")
    with pytest.raises(InputError, match="no readable image"):
        predict.folder(network, tmp_path)
    (tmp_path / "bad.png").write_bytes(b"<html>")
    with pytest.raises(InputError, match="no readable image"):
        predict.folder(network, tmp_path, skip_bad=True)
    shutil.copy(study.root / "one" / "deep" / "00.png", tmp_path / "good.png")
    with pytest.raises(InputError, match=r"1 file.*--skip-bad: bad.png: it is no image"):
        predict.folder(network, tmp_path)
    table, bad = predict.folder(network, tmp_path, skip_bad=True)
    assert table["image"].tolist() == ["good.png"] and list(bad) == ["bad.png"]
    whole = predict.folder(network, study.root / "one")[0]
    np.testing.assert_allclose(table.iloc[0, 1:4].astype(float), whole.iloc[0, 1:4].astype(float), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
@pytest.mark.parametrize("suffix", ["pt", "onnx"])
def test_an_exported_network_gives_the_same_logits_for_any_number_of_images(study, tmp_path, suffix):
    network, data = predict.of_study(study, "several", "RoS-KD"), study.task("several")
    runtime = pytest.importorskip("onnxruntime") if suffix == "onnx" else None
    path = predict.export(network, tmp_path / "new" / f"student.{suffix}")
    images = torch.tensor(data.images[:7]).float() / 255
    with torch.inference_mode():
        expected = network.model(images)
        if suffix == "pt":
            found = torch.jit.load(str(path))(images)
        else:
            found = torch.from_numpy(runtime.InferenceSession(str(path)).run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [each.name for each in path.parent.iterdir()] == [f"student.{suffix}"]


def test_an_export_that_differs_is_not_kept_and_other_formats_are_refused(study, tmp_path, monkeypatch):
    network = predict.of_study(study, "one", "RoS-KD")
    with pytest.raises(InputError, match="exported as .pt .TorchScript. or .onnx"):
        predict.export(network, tmp_path / "student.h5")
    monkeypatch.setattr(predict, "CLOSE", -1.0)
    run = study.run(study.student("one", "RoS-KD")).path
    done = CliRunner().invoke(main, ["export", str(run), "--out", str(tmp_path / "student.pt")])
    assert done.exit_code == 1 and done.stderr.startswith("error: the exported network gives other logits"), done.output
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_data_scores_beside_no_skill_and_limits(study):
    text = predict.card(study, "several")
    f1 = study.results().query("task == 'several' and setting == 'RoS-KD' and metric == 'f1' and average == 'micro'")
    [value] = f1.loc[f1["class"] == "", "value"]
    said = ["# RoS-KD, several", "60 images in 30 groups", "best constant", "mean AUROC", "Not a medical device"]
    assert [part for part in said if part not in text] == [] and "[B, 1, 34, 34]" in text
    assert f"| {value:.3f} |" in text and study.key(study.student("several", "RoS-KD")) in text
    assert str(predict.of_study(study, "several", "RoS-KD").threshold) in text


def test_the_commands_predict_and_export(study, sections, tmp_path, monkeypatch):
    run, [teacher] = study.run(study.student("several", "RoS-KD")), study.student("one", "RoS-KD").teachers[:1]
    out, profile = tmp_path / "new" / "out.csv", ["--profile", "smoke", "-y", yaml.safe_dump(sections)]

    def predicted(*which):
        return CliRunner().invoke(main, ["predict", *which, str(study.root / "several"), *profile, "--out", str(out)])

    done = predicted("RoS-KD", "--task", "several")
    assert done.exit_code == 0 and "60 images" in done.output, (done.output, done.exception)
    first = out.read_bytes()
    done = predicted(run.key)
    assert done.exit_code == 0 and out.read_bytes() == first, (done.output, done.exception)
    with monkeypatch.context() as patch:  # a full disk
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        done = predicted(run.key)
    assert done.exit_code == 1 and out.read_bytes() == first and list(out.parent.iterdir()) == [out], done.output
    for which, said in (
        ("RoS-KD", "name one with --task"), ("RoSKD", "no folder of a run, no key"),
        (study.key(bank_of(teacher)), "is a bank, not a network"),
    ):  # fmt: skip
        done = predicted(which)
        assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    command = ["export", "RoS-KD", "--task", "one", *profile, "--out", str(tmp_path / "student.pt")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and (tmp_path / "student.md").read_text().startswith("# RoS-KD, one"), done.output


def test_the_notebook_on_a_folder_from_pictures_to_predictions(study, sections, monkeypatch):
    """Its cells one after another in this process: a kernel would take longer than they do."""
    monkeypatch.setattr("IPython.display.display", lambda *shown: None)
    names = {"profile": "smoke", **sections, "tasks": ["one"]}
    notebook = nbformat.read(ROOT / "notebooks" / "10_own_labels.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, "10_own_labels", "exec"), names)
    mine, last = names["study"], names["last"]["one"]
    assert names["own"] == ["one"] and last.label == mine.label + "+cleaned0.05"
    done = pd.read_csv(mine.output / "predictions_one.csv")
    assert len(done) == 60 and set(done["predicted"]) <= {"class 0", "class 1", "class 2"}
    assert len(pd.read_csv(mine.output / "suspects_one.csv")) == 60
    assert len(pd.read_csv(last.output / "labels_one.csv")) == 57
    assert len(last.task("one").split["train"]) < len(mine.task("one").split["train"])
    assert last.run(last.student("one", "RoS-KD")) is not None
