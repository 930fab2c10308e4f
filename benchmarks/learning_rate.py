"""How a profile's learning rate was chosen: Baseline I alone, by its F1 on the validation part, never on test.

python benchmarks/learning_rate.py real --data DIR --rates 0.1 --rates 0.02
"""

import click
import pandas as pd

from rosutils.study import Study


@click.command()
@click.argument("profile")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, resolve_path=True), help="folder of raw data sets"
)
@click.option("--rates", multiple=True, type=float, default=(0.1, 0.05, 0.02, 0.01), show_default=True)
def main(profile: str, data: str | None, rates: tuple[float, ...]) -> None:
    """Train Baseline I (first replicate) at each rate and print its validation loss and F1 after the last epoch."""
    rows = []
    for rate in rates:
        study = Study.load(profile, data={"root": data} if data else {}, training={"learning_rate": rate})
        runs = [study.student(task, "Baseline I") for task in study.parameters.tasks]
        study.ensure(runs)
        for spec in runs:
            last = study.run(spec).table("history").iloc[-1]
            rows.append(
                {"task": spec.task, "learning rate": rate, "loss": last["validation_loss"], "F1": last["validation_f1"]}
            )
    print(pd.DataFrame(rows).sort_values(["task", "learning rate"]).to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
