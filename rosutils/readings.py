"""What the paper leaves open: each a parameter with a named default, and what a profile chose."""

from rosutils.params import Parameters


def readings(parameters: Parameters) -> list[tuple[str, str, str]]:
    """(open point, reading chosen by these parameters, alternatives) for each of them, in the order of the paper."""
    p, d = parameters, parameters.distillation
    return [
        (
            "overlap ratio (III-A)",
            f"{p.subsets.scheme}, {p.subsets.overlap:g}",
            "subsets.scheme: shared-core (a core of p·N seen by all, the rest split evenly), own-shard (own N/k plus a "
            "random share p of the rest), sliding-window (circular); all three have the same size",
        ),
        (
            "teacher weights (III-B)",
            f"Exp(1), {'normalised to sum 1' if d.weights.normalize else 'not normalised'}, one draw per {d.weights.per}",
            "distillation.weights: {normalize: true or false, per: iteration or example}",
        ),
        ("Eq. 4's sum over the batch", "mean", "none"),
        (
            "soft targets for several labels per image",
            {"sigmoid": "per-label sigmoid, binary KL and BCE averaged over labels", "softmax": "literal softmax"}[
                d.multilabel
            ],
            "distillation.multilabel: sigmoid or softmax (Eq. 3 and 4 to the letter)",
        ),
        (
            "Baseline III's teachers",
            "trained on the full set (caption of Fig. 3); the same subset teachers (caption of Table II) are a row of their own",
            "both are reported",
        ),
        (
            "Baseline IV",
            f"our adaptation of Yuan et al. (AAAI 2021): REINFORCE, reward {d.reinforced.reward}, {d.reinforced.teacher_pool}-set "
            "teachers; the paper gives no details",
            "distillation.reinforced: {reward: r1 or r2, teacher_pool: full or subset}",
        ),
        (
            "BatchNorm after averaging",
            "re-estimated on the training set" if d.refresh_batchnorm else "left as copied",
            "distillation.refresh_batchnorm: true or false",
        ),
        (
            "precision, recall, F1",
            "lesion weighted, chest micro (inferred from the printed numbers)",
            "macro, micro, weighted, samples are all in results.csv",
        ),
        (
            "threshold for several labels per image",
            {"validation": "per label, best F1 on validation", "fixed": "0.5"}[p.evaluation.thresholds],
            "evaluation.thresholds: validation or fixed",
        ),
        (
            "images without any finding",
            "kept" if all(p.data.sources[name].keep_unlabelled for name in p.tasks) else "dropped",
            "data.sources.<task>.keep_unlabelled: true or false",
        ),
        (
            "which epoch is reported",
            {"last": "the last", "best-validation": "best on validation"}[p.training.reported],
            "training.reported: last or best-validation; never chosen on test",
        ),
        ("pre-training", p.training.pretraining, "training.pretraining: none or imagenet"),
        (
            "augmentation",
            f"crop after padding by {p.training.augmentation.pad} px, flips: "
            f"{', '.join(p.training.augmentation.flips) or 'none'}",
            "training.augmentation: {pad, flips}",
        ),
    ]
