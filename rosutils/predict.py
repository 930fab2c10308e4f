"""A trained network used: a folder of images predicted, the network exported, its card written (beyond the paper)."""

import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import special

from rosutils import InputError, models
from rosutils.data.decode import RESIZE, decode_chunk
from rosutils.data.raw import SUFFIXES, listed, pictures
from rosutils.paper.cells import number
from rosutils.results import select
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS, setting
from rosutils.store import Run, write_whole
from rosutils.study import Study
from rosutils.study.experiment import EVALUATION_BATCH, LOGITS, TRAINED


CLOSE = 1e-4  # of logits: what an exported network may differ by
LIMITS = """Not a medical device, and not tested as one: no diagnosis may rest on it. It was trained on one collection of images; on
those of other cameras, hospitals or people it may fail without a sign. It knows its classes alone and says nothing of whether an
image shows any of them; its probabilities are not calibrated. Labels it was trained and tested on may be wrong."""


class Network(NamedTuple):
    """A network in eval mode, and what a prediction needs to know of its study (`experiment.described`)."""

    model: models.Classifier
    about: dict
    threshold: float | list[float]  # chosen on validation: one for all labels or one each; or 0.5
    name: str
    row: str = ""  # of Table I, where it was named by it


def find(run: str, profile: str, sections: dict, task: str | None = None) -> Network:
    """The network that a person names: the folder of a run, a row of Table I, or a key in the store of a profile.

    Raises InputError where there is none, and for a row of several tasks without a `task`.
    """
    if (Path(run) / "run.json").is_file():
        return of_run(Run(Path(run).resolve()))
    study = Study.load(profile, **sections)
    if run in ROWS:
        tasks = study.parameters.tasks
        if task is None and len(tasks) > 1:
            raise InputError(f"{study.label} has a {run} for each of {', '.join(tasks)}; name one with --task")
        return of_study(study, task or tasks[0], run)
    if (found := study.store.get(run)) is None:
        rows = ", ".join(ROWS)
        raise InputError(f"'{run}' is no folder of a run, no key in {study.store.root}, and no row of Table I ({rows})")
    return of_run(found)


def of_run(run: Run) -> Network:
    """The network of a finished run: its averaged weights (Eq. 1) where it has some, else its last.

    Raises InputError for a run that is no network, or whose weights were released.
    """
    role, files = run.about()["recipe"]["role"], run.about()["checksums"]
    if role not in TRAINED:
        raise InputError(f"{run.key} is a {role}, not a network; name a teacher or a student")
    return _loaded(run, "averaged" if LOGITS["averaged"] + ".safetensors" in files else "weights", run.key)


def of_study(study: Study, task: str, row: str) -> Network:
    """The network of a row of Table I, first replicate."""
    run, name = study.run(study.trained(task, row)), f"{row} of {study.label}, {task}"
    return _loaded(run, setting(row).state, name)._replace(row=row)


def _loaded(run: Run, state: str, name: str) -> Network:
    about = (record := run.about()["record"])["network"]
    if about["resize"] != RESIZE:
        raise InputError(f"{run.key} was trained on images prepared otherwise ({about['resize']}); train it again")
    model = models.create(run.about()["recipe"]["architecture"], len(about["classes"]), seed=0)
    model.load_state_dict(run.tensors(state))
    if record["validation_skill"] <= 0:  # of the weights before averaging
        name += " (not averaged, it is on validation no better than the classes' rates)"
    return Network(model.eval(), about, 0.5 if (chosen := about["thresholds"][state]) is None else chosen, name)


def folder(network: Network, images: str | Path, *, skip_bad: bool = False) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row for each image file at any depth of a folder: its path, a probability per class, what is predicted.

    Predicted is the likeliest class; of several labels those at or above the threshold from validation, joined by "|". Files
    are decoded as `prepare` does. Also returns why files could not be read, which with `skip_bad` are left out; without,
    these raise an InputError, as does a folder without images.
    """
    if not (images := Path(images)).is_dir():
        raise InputError(f"there is no folder {images}; give the one that holds the images to predict")
    names, rows, bad = pictures(images), [], {}
    for start in range(0, len(names), EVALUATION_BATCH):
        some = names[start : start + EVALUATION_BATCH]
        paths, about = [str(images / name) for name in some], network.about
        pixels, seen = decode_chunk(paths, about["pixels"], about["mode"], about["window"])
        bad |= {name: why for name, why in zip(some, seen, strict=True) if isinstance(why, str)}
        rows.append(probabilities(network, pixels[[not isinstance(each, str) for each in seen]]))
    if bad and not skip_bad:
        lines = listed([f"{name}: {why}" for name, why in bad.items()])
        raise InputError(f"{len(bad):,} file(s) are not readable images; remove them, or use --skip-bad: {lines}")
    if len(bad) == len(names):
        raise InputError(f"{images} has no readable image; looked for were files that end with {', '.join(SUFFIXES)}")
    found, classes = np.concatenate(rows), np.array(network.about["classes"], dtype=object)
    table = pd.DataFrame(found, columns=[f"p_{name}" for name in classes])
    table.insert(0, "image", [name for name in names if name not in bad])
    if network.about["multilabel"]:
        return table.assign(predicted=["|".join(classes[row >= np.array(network.threshold)]) for row in found]), bad
    return table.assign(predicted=classes[found.argmax(1)]), bad


def probabilities(network: Network, images: np.ndarray) -> np.ndarray:
    """Of each class, float64 [B, C], for images uint8 [B, channels, H, W]: softmax, or a sigmoid for each label."""
    with torch.inference_mode():
        logits = network.model(torch.tensor(images).float() / 255).double().numpy()
    return special.expit(logits) if network.about["multilabel"] else special.softmax(logits, axis=1)


def export(network: Network, path: str | Path) -> Path:
    """The network as one file, .onnx or .pt (TorchScript): images [B, channels, H, W] in [0, 1] in, logits [B, C] out.

    It is loaded again and has to give the same logits within 1e-4, for another B than it was traced with; else nothing is
    kept. Raises InputError for another suffix, and for .onnx without its packages.
    """
    path, ways = Path(path), {".pt": _torchscript, ".onnx": _onnx}
    if path.suffix not in ways:
        raise InputError(f"a network is exported as .pt (TorchScript) or .onnx, not as '{path.suffix}': {path.name}")
    shape = (3, 1 if network.about["mode"] == "L" else 3, *[network.about["pixels"]] * 2)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    # tracing warns that the image size is fixed: it is
    with tempfile.TemporaryDirectory() as place, torch.no_grad(), warnings.catch_warnings(action="ignore"):
        file = Path(place) / path.name
        found, expected = ways[path.suffix](network.model, images, file), network.model(images)
        content = file.read_bytes()
    worst = float((torch.as_tensor(found) - expected).abs().max())
    if not worst <= CLOSE:
        raise FloatingPointError(f"the exported network gives other logits, by {worst:g}; nothing was kept")
    return write_whole(path, content)


def _torchscript(model: models.Classifier, images: torch.Tensor, path: Path) -> torch.Tensor:
    torch.jit.trace(model, images[:2]).save(str(path))
    return torch.jit.load(str(path))(images)


def _onnx(model: models.Classifier, images: torch.Tensor, path: Path) -> np.ndarray:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch.onnx builds on
    except ImportError:
        raise InputError("export to .onnx needs: pip install onnx onnxscript onnxruntime (the extra onnx)") from None
    batch = {"images": {0: torch.export.Dim("batch")}}
    names = {"input_names": ["images"], "output_names": ["logits"]}
    how = {"dynamic_shapes": batch, "external_data": False, "verbose": False, **names}
    torch.onnx.export(model, (images[:2],), str(path), dynamo=True, **how)
    return onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})[0]


def card(study: Study, task: str, row: str = "RoS-KD") -> str:
    """A model card in Markdown: what it was trained on, what it scores beside no skill, how to feed it, its limits."""
    spec, data, network = study.trained(task, row), study.task(task), of_study(study, task, row)
    counts = ", ".join(f"{part} {len(index):,}" for part, index in data.split.items())
    noise = f"{data.noise_rate:.1%} of its training labels were made wrong on purpose" if data.noise_rate else ""
    about, teachers = network.about, ", ".join(dict.fromkeys(teacher.architecture for teacher in spec.teachers))
    limit = f", predicted are those at or above {network.threshold} (from validation)" if about["multilabel"] else ""
    window = f", greys {about['window']} to 0 to 255" if about["window"] else ""
    said = ["averaged over epochs (Eq. 1)"] if setting(row).averaged else []
    said.append(f"distilled from {len(spec.teachers)} teachers ({teachers})" if spec.teachers else "without teachers")
    lines = [
        f"# {row}, {task}", "", f"A {spec.architecture}, {', '.join(said)}; RoS-KD (ICDM 2022), kit of the paper.", "",
        "## Data", "", f"- {len(data.images):,} images in {len(data.groups.unique()):,} groups ({counts}); {study.watermark()}",
        *([f"- {noise}"] if noise else []), f"- Classes: {', '.join(data.class_names)}",
        f"- Fingerprint `{data.fingerprint[:16]}`, run `{study.key(spec)}`", "", "## Scores on the test part", "",
        *_scores(study, task, row), "", "## In and out", "",
        f"- In: float images [B, {1 if about['mode'] == 'L' else 3}, {about['pixels']}, {about['pixels']}] in [0, 1]; a picture is "
        f"{RESIZE}{window}; no further normalisation", f"- Out: logits [B, {data.n_classes}]; "
        f"{'a sigmoid for each label' if about['multilabel'] else 'softmax'} makes them probabilities{limit}", "",
        "## Limits", "", LIMITS, "",
    ]  # fmt: skip
    return "\n".join(lines)


def _scores(study: Study, task: str, row: str) -> list[str]:
    """A Markdown table: F1 and mean AUROC over the replicates of a row, beside what no skill scores."""
    names, printed = (row, *CHANCE), PRINTED_AVERAGE[study.task(task).multilabel]
    rows = select(study.results(), task=task, variant="", attack="", class_="", setting=names)
    lines = ["| | " + " | ".join(names) + " |", "| :--- |" + " ---: |" * len(names)]
    for title, metric, average in (("F1", "f1", printed), ("mean AUROC", "auroc", "macro")):
        means = select(rows, metric=metric, average=average).groupby("setting")["value"].mean().reindex(names)
        lines.append(f"| {title} ({average}) | " + " | ".join(map(number, means)) + " |")
    n = select(rows, setting=row)["replicate"].nunique()
    return [*lines, "", f"Means over {n} replicate{'s' if n > 1 else ''}; the weights are those of the first."]
