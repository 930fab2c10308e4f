"""How a trained student is probed: attacked, walked around on its loss surface, asked about its training labels."""

import pandas as pd
import torch
from torch import Tensor, nn

from rosutils import attacks, landscape, training
from rosutils.data import Batch, Loader
from rosutils.losses import task_loss
from rosutils.study.experiment import RunSpec, thresholds_of


CHECKED_IMAGES, PATH_STEPS = 64, 21


def probe(there, spec: RunSpec) -> tuple[dict, dict]:
    """Tensors and tables of a probe: what its role asks of the student in the state it names.

    `there` is the study under the probe's own parameters.
    """
    make = {
        "attack": _attacked, "curve": _attacked, "checks": _checks, "surface": _surface, "path": _path, "curvature": _curvature,
        "agreement": _agreement,
    }  # fmt: skip
    return make[spec.role](there, spec, there.model(spec.of, spec.state))


def test_batch(there, task: str, count: int | None) -> Batch:
    """The seeded sample of a task's test part that every probe of every model sees, as one batch."""
    index = there.sample(task, count)
    return next(iter(Loader(there.task(task), index, batch_size=len(index), device=there.device)))


def probe_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that surfaces and sharpness are about: cross-entropy, or BCE averaged over labels, on the batch."""
    return task_loss(model(batch.images), batch.labels, multilabel=batch.labels.is_floating_point()).mean()


def _attacked(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Logits before and after FGSM and PGD in every reading of the radius (Table II), or after PGD of the curve's radii."""
    section = there.parameters.attacks
    wanted = [(attack, norm, section.eps) for attack in ("fgsm", "pgd") for norm in section.norms]
    if spec.role == "curve":
        wanted = [("pgd", section.curve_norm, multiple * section.eps) for multiple in section.curve_multiples]
    batches = list(there.loader(spec, there.sample(spec.task, section.examples)))
    found = {"before": training.predict(model, batches)[0]}
    for attack, norm, eps in wanted:
        moved = attacked(section, model, batches, attack, norm, eps, seed=spec.seed)
        found[f"{attack} {norm} {eps!r}"] = training.predict(model, moved)[0]  # the radius to its last bit
    return {"logits": found}, {}


def attacked(
    section, model: nn.Module, batches: list[Batch], attack: str, norm: str, eps: float, *, seed: int
) -> list[Batch]:
    """The batches after FGSM or PGD of one radius, as the section `attacks` says; `seed` is of PGD's random starts."""
    options, run = {"eps": eps, "norm": norm, "loss_fn": attacks.classification_loss}, attacks.fgsm
    if attack == "pgd":
        run, generator = attacks.pgd, torch.Generator().manual_seed(seed)
        options |= {"steps": section.steps, "step_size": section.step_factor * eps / section.steps}
        options |= {"random_start": section.random_start, "generator": generator}
    return [b._replace(images=run(model, b.images, b.labels, **options)) for b in batches]


def _checks(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """The self-checks of the attacks on a student, in every reading of the radius; the surrogate is what it is set against."""
    section, tables = there.parameters.attacks, []
    batch = test_batch(there, spec.task, min(section.examples or CHECKED_IMAGES, CHECKED_IMAGES))
    options = {"eps": section.eps, "steps": section.steps, "step_factor": section.step_factor}
    options |= {"surrogate": there.model(spec.against), "loss_fn": attacks.classification_loss}
    options["thresholds"] = thresholds_of(there, spec.of, spec.state)
    for norm in section.norms:
        generator = torch.Generator().manual_seed(spec.seed)
        rows = attacks.self_checks(model, batch.images, batch.labels, norm=norm, generator=generator, **options)
        tables.append(rows.assign(norm=norm))
    return {}, {"checks": pd.concat(tables, ignore_index=True)}


def _path(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """The loss on the straight line from the student it is set against (Baseline III) to this one (RoS-KD)."""
    batch = test_batch(there, spec.task, there.parameters.landscape.examples)
    loss = landscape.path(there.model(spec.against), model, batch, probe_loss, steps=PATH_STEPS)
    return {"path": {"loss": torch.as_tensor(loss)}}, {}


def _surface(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Fig. 4: the loss on the plane of two filter-normalised directions."""
    section = there.parameters.landscape
    batch = test_batch(there, spec.task, section.examples)
    directions = landscape.filter_normalized_directions(model, generator=torch.Generator().manual_seed(spec.seed))
    grid = landscape.square_grid(section.span, section.points)
    loss = landscape.loss_surface(model, directions, grid, batch, probe_loss)
    return {"surface": {"grid": torch.as_tensor(grid), "loss": torch.from_numpy(loss)}}, {}


def _curvature(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """The numbers beside Fig. 4's pictures: norm, sharpness by radius, largest eigenvalue and trace of the Hessian, loss."""
    section = there.parameters.landscape
    asked = model, test_batch(there, spec.task, section.examples), probe_loss

    def draws() -> torch.Generator:
        """The same for each number: radii, which start in the same direction, are then comparable."""
        return torch.Generator().manual_seed(spec.seed)

    with torch.no_grad():
        rows = [("loss", "", float(probe_loss(*asked[:2]))), ("weight_norm", "", landscape.weight_norm(model))]
    for radius in section.sharpness_radii:
        rows.append(("sharpness", f"{radius:g}", landscape.sharpness(*asked, radius=radius, generator=draws())))
    eigenvalue = landscape.hessian_eigenvalue(*asked, iterations=section.hessian_iterations, generator=draws())
    trace, error = landscape.hessian_trace(*asked, samples=section.hessian_samples, generator=draws())
    rows += [("hessian_eigenvalue", "", eigenvalue), ("hessian_trace", "", trace), ("hessian_trace_error", "", error)]
    return {}, {"curvature": pd.DataFrame(rows, columns=["metric", "average", "value"])}


def _agreement(there, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Logits of the training part without augmentation: agreement with clean and with given labels is read off them."""
    loader = there.loader(spec, there.task(spec.task).split["train"])
    return {"logits": {"train": training.predict(model, loader)[0]}}, {}
