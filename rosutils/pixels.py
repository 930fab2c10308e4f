"""What the pixels alone give (beside Tables I to III): logistic regression on their principal components, no network."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from rosutils import InputError
from rosutils.losses import task_loss


GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse strengths of the penalty
COMPONENTS = 100
SIDE = 40  # larger images are averaged down to it, so that 100,000 of them fit into memory
AT_ONCE = 1000  # images
ITERATIONS = 10_000  # so many are never needed: the largest component has variance 1


def logistic_regression(
    images_train: np.ndarray, labels_train: Tensor, images_validation: np.ndarray, labels_validation: Tensor,
    images_test: np.ndarray, *, multilabel: bool, seed: int, n_classes: int | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Logits float32 [N, C] on the "validation" and the "test" part of logistic regression on the pixels.

    Images are uint8 [N, channels, H, W]: their pixels are standardised and projected on the first 100 principal components of
    the training part. It is one model over the classes of labels [N], or one for each label of [N, C]; of GRID it takes the
    penalty with the lowest task loss on validation. A class that training lacks gets the log-probability of one image more
    than there are, a label of one kind its add-one log-odds. `n_classes` counts the classes of labels [N] where the last of
    them may be in neither part. Raises InputError for a part that is empty or does not fit its labels.
    """
    parts = {"training": (images_train, labels_train), "validation": (images_validation, labels_validation)}
    for part, (images, labels) in parts.items():
        if len(images) == 0 or len(images) != len(labels):
            found = f"{len(images)} images and {len(labels)} labels"
            raise InputError(f"the {part} part has {found}; need one each, and at least one")
    train, *others = _components([_flat(each) for each in (images_train, images_validation, images_test)], seed)
    if multilabel:
        found = [_several_labels(train, labels_train.numpy(), others, strength) for strength in GRID]
    else:
        count = n_classes or 1 + int(max(labels_train.max(), labels_validation.max()))
        found = [_single_label(train, labels_train.numpy(), others, strength, count) for strength in GRID]
    losses = [task_loss(logits, labels_validation, multilabel=multilabel).mean().item() for logits, _ in found]
    return dict(zip(("validation", "test"), found[int(np.argmin(losses))], strict=True))


def _flat(images: np.ndarray) -> np.ndarray:
    """Pixels float32 [N, F] of images uint8 [N, channels, H, W], of at most SIDE a side."""
    size = [min(side, SIDE) for side in images.shape[-2:]]
    parts = (torch.from_numpy(np.array(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE))
    return torch.cat([adaptive_avg_pool2d(part.float(), size).flatten(1) for part in parts]).numpy()


def _components(parts: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """The principal components float64 [N, <= 100] of pixels [N, F], all of them those of the first part."""
    from sklearn.utils.extmath import randomized_svd

    mean, scale = parts[0].mean(axis=0), parts[0].std(axis=0)
    standard = [(part - mean) / np.where(scale > 0, scale, 1) for part in parts]
    axes = randomized_svd(standard[0], min(COMPONENTS, *parts[0].shape), random_state=seed)[2]
    found = [(part @ axes.T).astype(np.float64) for part in standard]
    # one scale for all: components scaled each on its own would lend the faint ones, mostly noise, the weight of the strong
    return [part / (found[0].std(axis=0).max() or 1) for part in found]


def _single_label(train, labels: np.ndarray, others: list[np.ndarray], strength: float, n_classes: int) -> list[Tensor]:
    found = [torch.full((len(part), n_classes), -float(np.log(len(train) + 1))) for part in others]
    present = np.unique(labels)
    for logits, scores in zip(found, _scores(train, labels, others, strength), strict=True):
        logits[:, present] = torch.from_numpy(scores).log_softmax(dim=1).float()
    return found


def _several_labels(train: np.ndarray, labels: np.ndarray, others: list[np.ndarray], strength: float) -> list[Tensor]:
    columns = [_one_label(train, label, others, strength) for label in labels.T]
    return [torch.from_numpy(np.stack(of_part, axis=1)).float() for of_part in zip(*columns, strict=True)]


def _one_label(train: np.ndarray, label: np.ndarray, others: list[np.ndarray], strength: float) -> list[np.ndarray]:
    if 0 < label.sum() < len(label):
        return [scores[:, 1] for scores in _scores(train, label, others, strength)]
    odds = float(np.log((label.sum() + 1) / ((1 - label).sum() + 1)))
    return [np.full(len(part), odds) for part in others]


def _scores(train: np.ndarray, labels: np.ndarray, others: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Scores [N, classes present] whose softmax is the probability of each class; of two classes the first has 0."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return [np.zeros((len(part), 1)) for part in others]
    model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(train, labels)
    found = [model.decision_function(part) for part in others]
    return [np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores for scores in found]
