"""The command line: reproduce, prepare, plan, status, verify. Exit status 0; 1: it ran and failed; 2: the input is wrong."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click
import yaml

from rosutils import InputError


def _plain_errors(command: Callable) -> Callable:
    """Errors for people: one line, and the exit status that scripts rely on."""

    @wraps(command)
    def wrapped(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            _stop(2, str(error))
        except FloatingPointError as error:
            _stop(1, str(error))
        except KeyboardInterrupt:
            _stop(130, "interrupted; finished runs and epochs are kept: the same command goes on from there")

    return wrapped


def _stop(status: int, message: str) -> None:
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Reproduce RoS-KD (ICDM 2022): every table and figure, beside the numbers the paper prints."""


def _study_options(command: Callable) -> Callable:
    for option in (
        click.argument("profile", default="demo"),
        click.option("-y", "--parameters", default="{}", metavar="YAML", help="Sections laid over the profile, as YAML."),
        click.option("--data", type=click.Path(file_okay=False), help="Folder that holds isic2019/ and nih/."),
    ):  # fmt: skip
        command = option(command)
    return command


def _sections(parameters: str, data: str | None) -> dict:
    """The sections that the options lay over the profile; a relative data folder is taken from here, not from the notebooks."""
    try:
        sections = yaml.safe_load(parameters)
    except yaml.YAMLError as error:
        raise InputError(f"-y is not valid YAML: {error}") from None
    if not isinstance(sections, dict) or not all(isinstance(name, str) for name in sections):
        raise InputError(f"-y must be YAML sections such as '{{distillation: {{alpha: 0.5}}}}', found {parameters!r}")
    if "profile" in sections:
        raise InputError("-y holds the key 'profile', which is the command's own argument; leave it out")
    if data is not None:
        sections["data"] = {**(sections.get("data") or {}), "root": str(Path(data).resolve())}
    return sections


@main.command()
@_study_options
@click.option("--dry-run", is_flag=True, help="Only say what would be made, and from which data; no image is needed.")
@click.option("--order", metavar="NAMES", help="Artefacts made first, in this order, replicate by replicate.")
@_plain_errors
def reproduce(profile: str, parameters: str, data: str | None, dry_run: bool, order: str | None) -> None:
    """Train what is missing, run the notebooks through papermill, print Table I beside the paper's."""
    sections = _sections(parameters, data)
    if dry_run:
        _walk(profile, sections)
        return
    from rosutils import notebooks

    notebooks.start()
    from rosutils.study import Study

    study = Study.load(profile, **sections)
    for name in study.parameters.tasks:
        click.echo(study.task(name).summary())
    runs = study.unique(study.all_runs())
    missing = study.missing(runs)
    click.echo(f"runs: {len(runs) - len(missing)} of {len(runs)} are in {study.store.root}; {len(missing)} to make")
    for group in study.in_order(order.split(",")) if order else ():
        study.ensure(group)
    study.ensure(runs)
    name = str(Path(profile).resolve()) if Path(profile).suffix else profile
    _run_notebooks(study, {"profile": name, **sections})
    _print_table1(study)


def _walk(profile: str, sections: dict) -> None:
    from rosutils import notebooks
    from rosutils.study import plan

    for line in plan.walk(plan.Unopened.load(profile, **sections)):
        click.echo(line)
    click.echo(f"notebooks: {', '.join(path.stem for path in sorted(notebooks.FOLDER.glob('[0-9]*.ipynb')))}")


def _run_notebooks(study, parameters: dict) -> None:
    from rosutils import notebooks

    study.results()  # measured once, here, and not by every notebook
    try:
        notebooks.run_all(study.output / "notebooks", parameters)
    except notebooks.NotebookError as error:
        _stop(error.status, str(error))


def _print_table1(study) -> None:
    from rosutils import results, tables

    table = tables.table1(
        results.read(study.output / "results.csv"),
        tasks=study.about_tasks(),
        student=study.parameters.distillation.student,
    )
    click.echo(f"\nTable I, F1 and its parts: the paper's, ours, ours minus the paper's ({study.watermark()})\n")
    click.echo(tables.side_by_side(table))
    click.echo(f"\nreport: {study.figures / 'report.html'}")


@main.command()
@_study_options
@click.option("--workers", type=click.IntRange(1), help="Runs made at once; by default as engine.workers says.")
@click.option("--gpus", type=click.IntRange(1), help="The same by GPUs: engine.gpus_per_run of them for each run.")
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    metavar="IMAGES_PER_SECOND",
    help="Of a worker, in training a ResNet-18.",
)
@_plain_errors
def plan(
    profile: str, parameters: str, data: str | None, workers: int | None, gpus: int | None, speed: float | None
) -> None:
    """Say what a profile will take: runs, what is shared, time, disk; its images need not be there.

    How fast a worker is, finished runs tell; before there are any, some steps are timed on this machine (ten seconds).
    """
    from rosutils.study import plan

    study = plan.load(profile, **_sections(parameters, data))
    click.echo(study.watermark())
    for line in plan.plan(study, _workers(study, workers, gpus), gpus=gpus is not None, speed=speed):
        click.echo(line)


def _workers(study, workers: int | None, gpus: int | None) -> int:
    """How many runs are made at once: as told, by GPUs, or as `engine` says."""
    if workers and gpus:
        raise InputError("--workers and --gpus say the same thing in two ways; give one of them")
    each = study.parameters.engine.gpus_per_run
    if gpus and (each == 0 or gpus < each):
        raise InputError(f"--gpus is {gpus}, but engine.gpus_per_run is {each:g}: no run could be made")
    return int(gpus / each) if gpus else workers or study.workers()


@main.command()
@_study_options
@click.option("--all", "every", is_flag=True, help="A line for every run as well.")
@_plain_errors
def status(profile: str, parameters: str, data: str | None, every: bool) -> None:
    """Say how far a profile is: runs done and missing, how long these take, and which networks learnt nothing."""
    from rosutils.study import Study, plan

    study = Study.load(profile, **_sections(parameters, data))
    for line in plan.status(study, every):
        click.echo(line)


@main.command()
@_study_options
@_plain_errors
def verify(profile: str, parameters: str, data: str | None) -> None:
    """Check runs, results.csv, tables and figures against what was computed; name everything that differs."""
    from rosutils.study import Study, verification

    study = Study.load(profile, **_sections(parameters, data))
    found = list(verification.problems(study))
    for problem in found:
        click.echo(problem)
    if found:
        _stop(
            1, f"{len(found)} things differ from what was computed; make reproduce PROFILE={profile} makes them again"
        )
    runs = study.unique(study.all_runs())
    missing = len(study.missing(runs))
    click.echo(
        f"profile {study.parameters.profile}: {len(runs) - missing} runs, results.csv and "
        f"{len(verification.checksums(study.figures))} tables and figures are as computed"
        + (f"; {missing} runs are not in the store, so what they gave was not measured again" if missing else "")
    )


@main.command()
@click.argument("source", metavar="{isic2019|nih|medmnist|folder}")
@click.option(
    "--raw", required=True, type=click.Path(path_type=Path), help="The raw folder, in its official layout, or yours."
)
@click.option("--size", required=True, type=click.IntRange(16, 1024), help="Pixels of the shorter side.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the prepared folder goes.")
@click.option("--allow-missing", is_flag=True, help="Accept a partial download.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read; the data card lists them.")
@click.option("-y", "--options", default="{}", metavar="YAML", help="Options of the source, as in a parameter file.")
@_plain_errors
def prepare(source: str, raw: Path, size: int, out: Path, allow_missing: bool, skip_bad: bool, options: str) -> None:
    """Decode a raw folder once into a cache of uint8 images; the same command goes on where it was interrupted.

    Options of the source are such as '{dataset: dermamnist}', '{revision: 2017}', or for your own folder
    '{label: diagnosis, group: patient}' or '{labels: [effusion, mass], grey: true}'.
    """
    from rosutils import params
    from rosutils.data import sources

    if source not in sources.PREPARED:
        raise InputError(f"source '{source}' cannot be prepared; choose one of {', '.join(sources.PREPARED)}")
    section = params.source({"source": source, **_sections(options, None)})
    sources.prepare(
        source, raw=raw, pixels=size, out=out, allow_missing=allow_missing, skip_bad=skip_bad, section=section
    )


if __name__ == "__main__":
    main(prog_name="python -m rosutils")
