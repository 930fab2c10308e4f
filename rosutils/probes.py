"""How a trained student is probed: attacked, walked around on its loss surface, asked about its training labels."""

import pandas as pd
import torch
from torch import Tensor, nn

from rosutils import attacks, landscape, training
from rosutils.data import Batch, Loader
from rosutils.experiment import Experiment, RunSpec
from rosutils.losses import task_loss


def probe(experiment: Experiment, spec: RunSpec) -> tuple[dict, dict]:
    """Tensors and tables of a probe: what its role asks of the student in the state it names."""
    model = experiment.model_in_state(spec.of, spec.state)
    make = {"attack": _attack, "curve": _curve, "surface": _surface, "curvature": _curvature, "agreement": _agreement}
    return make[spec.role](experiment, spec, model)


def test_batch(experiment: Experiment, task: str, count: int | None) -> Batch:
    """The seeded sample of a task's test part that every probe of every model sees, as one batch."""
    index = experiment.sample(task, count)
    return next(iter(Loader(experiment.task(task), index, batch_size=len(index), device=experiment.device)))


def probe_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that surfaces and sharpness are about: cross-entropy, or BCE averaged over labels, on the batch."""
    return task_loss(model(batch.images), batch.labels, multilabel=batch.labels.is_floating_point()).mean()


def _attack(experiment: Experiment, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Table II: logits before and after FGSM and PGD in every reading of the radius."""
    section = experiment.parameters.attacks
    wanted = [(attack, norm, section.eps) for attack in ("fgsm", "pgd") for norm in section.norms]
    return _attacked(experiment, spec, model, wanted), {}


def _curve(experiment: Experiment, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    section = experiment.parameters.attacks
    wanted = [("pgd", section.curve_norm, multiple * section.eps) for multiple in section.curve_multiples]
    return _attacked(experiment, spec, model, wanted), {}


def _attacked(experiment: Experiment, spec: RunSpec, model: nn.Module, wanted: list[tuple[str, str, float]]) -> dict:
    section = experiment.parameters.attacks
    batches = list(experiment.loader(spec, experiment.sample(spec.task, section.examples)))
    found = {"before": training.predict(model, batches)[0]}
    for attack, norm, eps in wanted:
        options = {"eps": eps, "norm": norm, "loss_fn": attacks.classification_loss}
        run = attacks.fgsm
        if attack == "pgd":
            run, generator = attacks.pgd, torch.Generator().manual_seed(spec.seed)
            options |= {"steps": section.steps, "step_size": section.step_factor * eps / section.steps}
            options |= {"random_start": section.random_start, "generator": generator}
        moved = [b._replace(images=run(model, b.images, b.labels, **options)) for b in batches]
        found[attack_name(attack, norm, eps)] = training.predict(model, moved)[0]
    return {"logits": found}


def attack_name(attack: str, norm: str, eps: float) -> str:
    """The name under which a probe keeps the logits after an attack; `eps` to the last bit."""
    return f"{attack} {norm} {eps!r}"


def _surface(experiment: Experiment, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Fig. 4: the loss on the plane of two filter-normalised directions, a row at a time so that it can be resumed."""
    section = experiment.parameters.landscape
    batch = test_batch(experiment, spec.task, section.examples)
    directions = landscape.filter_normalized_directions(model, generator=torch.Generator().manual_seed(spec.seed))
    grid = landscape.square_grid(section.span, section.points)
    checkpoint = experiment.store.checkpoint(experiment.key(spec))
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    loss = landscape.loss_surface(model, directions, grid, batch, probe_loss, checkpoint=checkpoint)
    return {"surface": {"grid": torch.as_tensor(grid), "loss": torch.from_numpy(loss)}}, {}


def _curvature(experiment: Experiment, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """The numbers beside Fig. 4's pictures: norm, sharpness, largest eigenvalue and trace of the Hessian, loss."""
    section = experiment.parameters.landscape
    batch = test_batch(experiment, spec.task, section.examples)
    generator = torch.Generator().manual_seed(spec.seed)
    with torch.no_grad():
        numbers = {"loss": float(probe_loss(model, batch)), "weight_norm": landscape.weight_norm(model)}
    numbers["sharpness"] = landscape.sharpness(
        model, batch, probe_loss, radius=section.sharpness_radius, generator=generator
    )
    numbers["hessian_eigenvalue"] = landscape.hessian_eigenvalue(
        model, batch, probe_loss, iterations=section.hessian_iterations, generator=generator
    )
    trace, error = landscape.hessian_trace(
        model, batch, probe_loss, samples=section.hessian_samples, generator=generator
    )
    numbers |= {"hessian_trace": trace, "hessian_trace_error": error}
    table = pd.DataFrame({"metric": list(numbers), "value": [float(value) for value in numbers.values()]})
    return {}, {"curvature": table}


def _agreement(experiment: Experiment, spec: RunSpec, model: nn.Module) -> tuple[dict, dict]:
    """Logits of the training part without augmentation: agreement with clean and with given labels is read off them."""
    loader = experiment.loader(spec, experiment.task(spec.task).split["train"])
    return {"logits": {"train": training.predict(model, loader)[0]}}, {}
