"""The sections of a parameter file: names, types, ranges and defaults."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rosutils.params.sources import Count, Data, Name, Place, Section, Seed, Share


Architecture = Literal["resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121"]
Precision = Literal["auto", "float32", "bfloat16"]
Norm = Literal["l2", "linf", "l2-scaled"]
Flips = Literal["symmetric", "pairflip"]
RESERVED = ("store", "cache", "lab")
COLDEST = 0.001
SMALLEST_SIDE = 33  # in pixels; see `models.SMALLEST_SIDE`
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
UpTo1000 = Annotated[float, Field(gt=0, le=1000)]
Few = Annotated[int, Field(ge=1, le=1000)]  # of what is trained or repeated
Repeats = Annotated[int, Field(ge=1, le=100)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]  # an epoch's order is seeded by 100,003 times a seed plus its number


def _distinct(values: list[Any]) -> list[Any]:
    """Tables and files name points as they are printed: two that look alike would be one, or stop a study at its end."""
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    if twice := sorted({text for text in shown if shown.count(text) > 1}):
        raise ValueError(f"it holds {twice[0]} twice, as it is printed; keep one")
    return values


Distinct = AfterValidator(_distinct)
Shares = Annotated[list[Share], Distinct]


class Noise(Section):
    """Label noise put on the training part: labels move to other classes, a share `rate` of them.

    Where either of the last two is given, entries of multi-label tasks are lost and gained at those rates instead.
    """

    kind: Literal["none", "symmetric", "pairflip"] = "none"
    rate: Share = 0.0
    false_negatives: Share | None = None
    false_positives: Share | None = None


class Subsets(Section):
    """Section III-A: the k overlapping subsets, one for each teacher."""

    count: Few = 5
    overlap: Share = 0.4
    scheme: Literal["shared-core", "own-shard", "sliding-window", "pairwise"] = "shared-core"


class Teachers(Section):
    """Section IV-B: the teachers' architectures, one for each subset; how many steps a subset's teacher takes an epoch.

    own: those of its subset, as in the paper; equal: as many as on the full set, for profiles of few epochs.
    """

    architectures: Annotated[list[Architecture], Field(min_length=1)]
    steps: Literal["own", "equal"] = "own"


class Augmentation(Section):
    """Random crop after padding by `pad` pixels, and flips; not stated in the paper. `views` of an image by turns, or new ones."""

    pad: Annotated[int, Field(ge=0, le=1024)] = 0
    flips: list[Literal["horizontal", "vertical"]] = []
    views: Epochs | None = None


class Training(Section):
    """Section IV-B: the schedule that every teacher and every student shares."""

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 64
    learning_rate: Positive = 0.1
    milestones: list[Count] = []
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 2e-4
    augmentation: Augmentation = Augmentation()
    pretraining: Literal["none", "imagenet"] = "none"
    reported: Literal["last", "best-validation"] = "last"
    # Of training passes: auto is bfloat16 on CUDA cards that have it and float32 elsewhere; by architecture where named.
    precision: Precision | dict[Architecture, Precision] = "auto"


class Weights(Section):
    """Section III-B: how the exponential teacher weights are drawn."""

    normalize: bool = True
    per: Literal["iteration", "example"] = "iteration"


class Reinforced(Section):
    """Baseline IV, our adaptation of reinforced multi-teacher selection (Yuan et al., AAAI 2021).

    Rewards of a mixture of teachers, less those of all: r1 = -CE, r2 = -CE - KD, r3 = r2 + quality on validation.
    """

    reward: Literal["r1", "r2", "r3"] = "r2"
    learning_rate: Positive = 0.1
    entropy_bonus: NotNegative = 1e-3
    teacher_pool: Literal["full", "subset"] = "full"


class Distillation(Section):
    """Section III-B and IV-B: the student, Eq. 3, Eq. 4 and Eq. 1."""

    student: Architecture = "resnet18"
    single_teacher: Architecture = "densenet121"
    temperature: UpTo1000 = 0.5
    alpha: Share = 0.9  # Eq. 4: the share of the teachers' loss; 1 - alpha is that of the labels
    weights: Weights = Weights()
    multilabel: Literal["sigmoid", "softmax"] = "sigmoid"
    mean_of: Literal["distributions", "logits"] = "distributions"  # Baseline III's mean of its teachers
    averaging_start: Annotated[int, Field(ge=0, le=100_000)] = 10
    refresh_batchnorm: bool = True
    reinforced: Reinforced = Reinforced()


class Evaluation(Section):
    """How logits become decisions on multi-label tasks.

    micro: one threshold for all labels, with the best micro-F1 on validation; per-label: the best F1 of each; fixed: 0.5.
    """

    thresholds: Literal["micro", "per-label", "fixed"] = "micro"


class Attacks(Section):
    """Section IV-E: FGSM and PGD at a radius whose norm is read in three ways, and a curve of F1 against the radius."""

    norms: Annotated[list[Norm], Field(min_length=1), Distinct] = ["l2", "linf", "l2-scaled"]
    eps: Annotated[float, Field(ge=1e-6, le=1)] = 1.28 / 255
    steps: Few = 10
    step_factor: UpTo1000 = 2.5
    random_start: bool = True
    examples: Count | None = None
    curve_norm: Norm = "linf"
    curve_multiples: Annotated[list[UpTo1000], Field(min_length=1), Distinct] = [0.5, 1, 2, 4]


class Landscape(Section):
    """Section IV-F, Fig. 4: the plane around the trained weights, and the numbers beside its pictures.

    Radii are shares of the weights' norm: the table shows the sharpness at one of them, the figure at all.
    """

    span: Annotated[float, Field(gt=0, le=100)] = 1.0
    points: Annotated[int, Field(ge=3, le=501)] = 21
    examples: Count = 256
    directions: Annotated[list[Seed], Field(min_length=1), Distinct] = [0]  # replicates give the spread
    clamp: Positive = 8.0
    levels: Annotated[list[Positive], Field(min_length=1), Distinct] = [0.5, 1.0, 2.0]
    sharpness_radius: Positive = 0.001
    sharpness_radii: list[Positive] = [0.0001, 0.0003, 0.001, 0.003, 0.01]
    hessian_iterations: Few = 20
    hessian_samples: Annotated[int, Field(ge=2, le=1000)] = 10

    @model_validator(mode="after")
    def _has_a_centre_and_the_radius_of_the_table(self) -> "Landscape":
        if self.points % 2 == 0:
            what = f"landscape.points is {self.points}"
            raise ValueError(f"{what}; it must be odd, for the trained weights are the centre")
        radii, own = self.sharpness_radii, self.sharpness_radius
        if own not in radii or len({f"{radius:g}" for radius in radii}) < len(radii):
            needs = f"it must hold sharpness_radius ({own:g}), the one of the table, and no radius twice"
            raise ValueError(f"landscape.sharpness_radii is {radii}; {needs}")
        return self


class Sweeps(Section):
    """Figs. 2 and 3, Table III's runs and the studies beyond the paper: their points, and their scale."""

    scale: dict[str, dict[str, Any]] = {}  # sections laid over the profile for Figs. 2 and 3, noise and readings
    overlaps: Shares = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    noise: dict[Flips, Shares] = {"symmetric": [0.0, 0.2, 0.4, 0.6], "pairflip": [0.0, 0.2, 0.4, 0.6]}
    # of `study.variants.READINGS`, by their labels; all without it
    readings: Annotated[list[str], Distinct] | None = None
    runs: Repeats = 3


class Seeds(Section):
    """Where the randomness starts, and how often everything is repeated.

    Replicate r (from 0) adds r to each seed: it has its own split, noise, subsets, views, teachers and students. With
    `vary: student` only that of the student moves, for a quick look: all share one split and one set of teachers.
    """

    data: Seed = 0
    teachers: Seed = 0
    student: Seed = 0
    replicates: Repeats = 1
    vary: Literal["all", "student"] = "all"


class Engine(Section):
    """How and where runs are computed and kept; on the CPU nothing here changes a result."""

    backend: Literal["inline", "loky", "ray"] = "loky"
    workers: Few | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    graphs: bool = True  # on a GPU: the passes of longer runs are recorded as CUDA graphs and replayed
    address: str | None = None  # of a Ray cluster: null or local for this machine alone, auto for the one it belongs to
    gpus_per_run: NotNegative = 1.0  # of a Ray task, where there are GPUs; 0.5 puts two runs on one
    retries: Annotated[int, Field(ge=0, le=1000)] = 3  # of a run whose worker or machine Ray has lost
    # An interruption costs so much at most, and the epoch in which it comes.
    checkpoint_seconds: NotNegative = 0.0
    # Of weights: all, or needed: those of the first replicate's full-set teachers and of its students of Table I stay, the others
    # go when all that is made from them is there.
    keep_weights: Literal["needed", "all"] = "needed"
    store: Place = "runs"
    artefacts: Place = "figures"


class Parameters(Section):
    """One profile: every section, validated on its own and against the others."""

    profile: Name
    tasks: Annotated[list[Name], Field(min_length=1), Distinct]
    data: Data
    noise: Noise = Noise()
    subsets: Subsets = Subsets()
    teachers: Teachers
    training: Training
    distillation: Distillation = Distillation()
    evaluation: Evaluation = Evaluation()
    seeds: Seeds = Seeds()
    attacks: Attacks = Attacks()
    landscape: Landscape = Landscape()
    sweeps: Sweeps = Sweeps()
    by_task: dict[str, dict[str, dict[str, Any]]] = {}  # sections laid over all others for the runs of one task
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Parameters":
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """A sentence for each disagreement between sections."""
        sources, pool, count = self.data.sources, self.teachers.architectures, self.subsets.count
        for name, tasks in (("by_task", self.by_task), ("tasks", self.tasks)):
            for task in set(tasks) - sources.keys():
                yield f"{name} names '{task}', but data.sources has only {sorted(sources)}"
        if self.profile in RESERVED:
            yield f"profile is '{self.profile}', the name of a folder beside the profiles' own; choose another"
        if len(pool) != count:
            yield f"teachers.architectures has {len(pool)} entries, but subsets.count is {count}: each subset has one teacher"
        if (only := self.distillation.single_teacher) not in pool:
            what = f"distillation.single_teacher is '{only}' (Baseline II's teacher)"
            yield f"{what}, which must be one of teachers.architectures {pool}"
        if (temperature := self.distillation.temperature) < COLDEST:
            yield f"distillation.temperature is {temperature:g}; below {COLDEST} logits overflow"
        if (pad := self.training.augmentation.pad) >= (pixels := self.data.pixels):
            what = f"training.augmentation.pad is {pad}, but data.pixels is {pixels}"
            yield f"{what}: padding reflects the image and must be smaller than it"
        if pixels < SMALLEST_SIDE and {sources[task].source for task in self.tasks} != {"medmnist"}:
            yield (
                f"data.pixels is {pixels}, but allowed are {SMALLEST_SIDE} to 1024: up to 32 px most weights of a ResNet-18's "
                "last stage see nothing but padding (only where all tasks are of the source medmnist are smaller images "
                "allowed: its 28 px get a frame up to 40)"
            )
        if (start := self.distillation.averaging_start) >= (epochs := self.training.epochs):
            what = f"distillation.averaging_start is {start}, but training.epochs is {epochs}"
            yield f"{what}: nothing would be averaged; it must be smaller"
