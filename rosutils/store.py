"""Content-addressed runs on disk: whole or not at all, checksummed, made by one process at a time; and full disks."""

import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import SoftFileLease, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rosutils import InputError, RunError


# Whoever makes a run renews its lease. One that was not renewed for so many seconds is passed over: its machine is gone.
PATIENCE = 120.0
SILENT = 5.0  # seconds; who has waited so long says what for
IN_ARCHIVE = re.compile(r"[a-z]+-[a-z0-9_]+-[0-9a-f]{16}/(run\.json|[a-z_]+\.(safetensors|csv))")
WEIGHTS = ("weights.safetensors", "averaged.safetensors", "running.safetensors")
ABOUT = {"recipe", "record", "checksums", "checksum"}  # what run.json holds, beside what was `released`

logger = logging.getLogger(__name__)


class Released(InputError):
    """Something of a run was asked for that was let go."""


def digest(content) -> str:
    """The first 16 hex digits of the SHA-256 of a JSON-able recipe."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Run:
    """One finished run: `run.json` (recipe, record, checksums), safetensors files and csv tables in its folder."""

    path: Path

    @property
    def key(self) -> str:
        """Its name in the store, <role>-<architecture>-<hash>."""
        return self.path.name

    def about(self) -> dict:
        """The content of run.json: recipe, record (versions, device, wall time) and checksums.

        Raises InputError where it is not what was written.
        """
        about, state = self._about()
        if state:
            what = f"{self.path / 'run.json'} is {state}"
            raise InputError(f"{what}; make reproduce sets its folder aside and makes it again")
        return about

    def _about(self) -> tuple[dict, str]:
        """The content of run.json, and what is wrong with it."""
        try:
            about = json.loads((self.path / "run.json").read_bytes())
            whole = about.keys() - {"released"} == ABOUT and isinstance(about["checksums"], dict)
            fits = self.key.endswith(f"-{digest(about['recipe'])}")
            if not whole or about["checksum"] != seal(about, self.key):
                return {}, "damaged" if fits else f"damaged ({self.key} is not the key of its recipe)"
            return about, ""
        except (FileNotFoundError, NotADirectoryError):
            return {}, "missing"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}, "damaged"

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of every file that it holds, or held before its weights were released."""
        about = self.about()
        return about["checksums"] | about.get("released", {})

    @property
    def released(self) -> bool:
        """Whether its weights are gone, since all that was to be made from them had been made."""
        return "released" in self.about()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of `name`.safetensors; raises InputError where its checksum does not hold."""
        return load_file(self._checked(f"{name}.safetensors"))

    def table(self, name: str) -> pd.DataFrame:
        """The table `name`.csv; raises InputError where its checksum does not hold."""
        return pd.read_csv(self._checked(f"{name}.csv"))

    def problems(self) -> list[str]:
        """What is wrong with the run's files, one sentence each; empty when all is well."""
        about, state = self._about()
        if state:
            return [f"{self.key}/run.json is {state}"]
        expected = about["checksums"]
        found = [f"{self.key}/{name} is {state}" for name in expected if (state := self._state(name, expected[name]))]
        strangers = {path.name for path in self.path.glob("[!.]*")} - {"run.json", *expected}
        return found + [f"{self.key}/{name} is no file of that run; move it away" for name in sorted(strangers)]

    def _state(self, name: str, expected: str) -> str:
        if not (self.path / name).is_file():
            return "missing"
        return "" if checksum(self.path / name) == expected else "damaged (its checksum differs)"

    def _checked(self, name: str) -> Path:
        about = self.about()
        if name in about.get("released", {}):
            raise Released(
                f"{name} of the run {self.key} was released when all that needed it had been made; to have it again, delete "
                f"the folder {self.path} and run the same command with engine.keep_weights: all"
            )
        if name not in about["checksums"]:
            raise InputError(f"the run {self.key} holds no {name}; it holds {', '.join(about['checksums'])}")
        if state := self._state(name, about["checksums"][name]):
            raise InputError(f"{self.path / name} is {state}: delete the folder {self.path} and it will be made again")
        return self.path / name


class Store:
    """The folder of runs; get and put by key."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._told: set[str] = set()  # what was waited for

    def get(self, key: str) -> Run | None:
        """The run, or None where it does not exist, or has no whole run.json."""
        run = Run(self.root / key)
        return None if run._about()[1] else run

    def put(
        self, key: str, *, recipe: Mapping, record: Mapping, tensors: Mapping[str, Mapping[str, Tensor]],
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> Run:  # fmt: skip
        """Write a run, whole or not at all; an existing run stays, unless its weights were released."""
        with self._whole(key) as folder:
            for name, content in tensors.items():
                plain = {part: value.detach().cpu().contiguous() for part, value in content.items()}
                save_file(plain, folder / f"{name}.safetensors")
            for name, table in (tables or {}).items():
                table.to_csv(folder / f"{name}.csv", index=False)
            checksums = {path.name: checksum(path) for path in sorted(folder.iterdir())}
            write_whole(folder / "run.json", _text(key, {"recipe": recipe, "record": record, "checksums": checksums}))
        self.checkpoint(key).unlink(missing_ok=True)
        return Run(self.root / key)

    @contextmanager
    def _whole(self, key: str) -> Iterator[Path]:
        """A temporary folder for a block to fill; it gets the key for its name once its files are on the disk.

        A run that is there stays; a released one makes way, and what is no run is set aside.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        place = self.root / key
        with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=self.root, ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary) / key
            folder.mkdir()
            yield folder
            folder.chmod(0o755)
            for file in folder.iterdir():
                file.chmod(0o644)
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            try:
                there = self.get(key)
                if there is not None and there.released:
                    place.rename(folder.with_name("released"))
                elif place.exists() and Run(place)._about()[1]:
                    aside = self.root / ".aside" / f"{key}-{time.time_ns()}"
                    aside.parent.mkdir(exist_ok=True)
                    place.rename(aside)
                    told = "%s had no whole run.json; it is set aside as %s, and the run was made again"
                    logger.warning(told, key, aside)
                if self.get(key) is None:
                    folder.rename(place)
            except OSError:  # another process was faster: its run stays
                if self.get(key) is None:
                    raise

    def release(self, key: str) -> None:
        """Delete the weights of a run and note their checksums; logits, tables and recipe stay."""
        run = self.get(key)
        about = _released(run.about()) if run else {}
        if "released" in about:
            if not run.released:
                write_whole(run.path / "run.json", _text(key, about))
            for name in set(about["released"]) - run.about()["checksums"].keys():  # a killed process may have left some
                (run.path / name).unlink(missing_ok=True)

    def archive(self, keys: Iterable[str], file: Path, without: Mapping[str, Sequence[str]] | None = None) -> int:
        """Write runs into one zip file as released ones, without weights and some `without` files they name; returns how many.

        Its files are those of the store; the same runs give the same bytes.
        """
        runs, packed, without = [Run(self.root / key) for key in sorted(set(keys))], io.BytesIO(), without or {}
        if not runs:
            raise InputError(f"no run is finished in {self.root}, so {file} was not written; run: make reproduce")
        with zipfile.ZipFile(packed, "w") as out:
            for run in runs:
                about = _released(run.about(), (*WEIGHTS, *without.get(run.key, ())))
                files = {"run.json": _text(run.key, about).encode()}
                files |= {name: run._checked(name).read_bytes() for name in sorted(about["checksums"])}
                for name, content in files.items():  # dated 1980, as ZipInfo does
                    out.writestr(zipfile.ZipInfo(f"{run.key}/{name}"), content, zipfile.ZIP_DEFLATED)
        write_whole(file, packed.getbuffer())
        return len(runs)

    def adopt(self, file: Path) -> int:
        """Put the runs of an archive into the store; those that are there stay. Returns how many came.

        Raises InputError, and puts nothing more, where the file holds anything but whole runs under their own keys.
        """
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if strange := [name for name in names if not IN_ARCHIVE.fullmatch(name)]:
                    raise InputError(f"{file} is no archive of this kit: {strange[0]!r} is no file of a run")
                keys = sorted({name.split("/")[0] for name in names})
                return sum(self._adopted(archive, key, [n for n in names if n.startswith(f"{key}/")]) for key in keys)
        except InputError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{file} is damaged, or no archive of this kit: {error}") from None

    def _adopted(self, archive: zipfile.ZipFile, key: str, names: list[str]) -> bool:
        if self.get(key) is not None:
            return False
        if f"{key}/run.json" not in names:
            raise InputError(f"{archive.filename} holds files of {key} without its run.json; it is damaged")
        try:
            contents = {name.split("/")[1]: archive.read(name) for name in names}
        except OSError as error:  # a place before the file's beginning, say
            raise ValueError(error) from None
        with self._whole(key) as folder:
            for name, content in contents.items():
                (folder / name).write_bytes(content)
            problems = Run(folder).problems()
            if not problems and not key.endswith(f"-{digest(Run(folder).about()['recipe'])}"):
                problems = [f"{key} is not the key of its recipe"]
            if problems:
                raise InputError(f"{archive.filename}: {problems[0]}")
        return True

    def keys(self) -> list[str]:
        """The keys of all finished runs, sorted."""
        return sorted(path.parent.name for path in self.root.glob("[!.]*/run.json"))

    def verify(self) -> list[str]:
        """What is wrong with any run in the store, one sentence each; empty when all is well."""
        return [problem for path in sorted(self.root.glob("[!.]*")) for problem in self.problems(path.name)]

    def problems(self, key: str) -> list[str]:
        """The same of one run, and of a folder that has its name."""
        return Run(self.root / key).problems() if (self.root / key).exists() else []

    def waste(self) -> list[Path]:
        """What killed processes left, and what was set aside: nothing reads it, and it may be deleted."""
        kept = self.root / ".checkpoints"
        left = [*self.root.glob(".*-*"), *self.root.glob(".aside/*"), *kept.glob("*.partial")]
        left += kept.glob(".tmp*")  # as safetensors calls a file that it has not written to its end
        left += [path for path in kept.glob("*.safetensors") if self.get(path.stem) is not None]
        return [path for path in left if path.exists() and time.time() - path.stat().st_mtime > PATIENCE]

    def checkpoint(self, key: str) -> Path:
        """Where a run in progress keeps its last finished epoch."""
        return self.root / ".checkpoints" / f"{key}.safetensors"

    @contextmanager
    def lock(self, key: str, does: str = "") -> Iterator[None]:
        """A block that one process at a time is in; the others wait, and say once what for: for one that `does` something.

        One that died or is silent is passed over; should it live after all, both make the same run and the store keeps one.
        """
        lease, does = self.lease(key), does or f"makes runs in {self.root}"
        try:
            held = lease.acquire(timeout=SILENT)
        except Timeout:
            if does not in self._told:
                on = f"this one goes on by itself once that is done, or not heard of for {PATIENCE:.0f} seconds"
                logger.warning("waiting for another command that %s and holds the lock on it; %s", does, on)
            self._told.add(does)
            held = lease.acquire()
        with held:
            yield

    def lease(self, key: str, patience: float = PATIENCE) -> SoftFileLease:
        """What `lock` holds; it may be waited for with a time limit."""
        path = self.root / ".locks" / f"{key}.lease"  # .lock were earlier versions', empty: filelock waits for such
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # so does one have who died, or met a full disk, before its first word
            if path.stat().st_size == 0 and time.time() - path.stat().st_mtime > patience:
                path.unlink()
        return SoftFileLease(path, lease_duration=patience)


def _released(about: dict, names: Iterable[str] = WEIGHTS) -> dict:
    """run.json where some files are gone: their checksums stay."""
    gone = {name: about["checksums"][name] for name in names if name in about["checksums"]}
    kept = {name: value for name, value in about["checksums"].items() if name not in gone}
    return about | {"checksums": kept, "released": about.get("released", {}) | gone} if gone else about


def _text(key: str, about: Mapping) -> str:
    """run.json, with a checksum of what it says of which run."""
    return json.dumps({**about, "checksum": seal(about, key)}, indent=1, sort_keys=True)


def seal(about: Mapping, *of: str) -> str:
    """A checksum of what a JSON file says, and of what, but for the checksum in it."""
    said = json.loads(json.dumps({name: value for name, value in about.items() if name != "checksum"}))
    return hashlib.sha256(json.dumps([*of, said] if of else said, sort_keys=True).encode()).hexdigest()


def write_whole(path: Path, content: str | bytes | memoryview) -> Path:
    """Write a file in one step, never half of it: it has its name once it is on the disk, and nothing stays where it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():  # /dev/stdout, say, is not to be put another in its place
        path.write_bytes(content)
        return path
    partial = path.resolve().with_name(f".{path.name}.{os.getpid()}")  # a link stays one
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path.resolve())
    finally:
        partial.unlink(missing_ok=True)
    return path


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A block that writes below a folder; raises RunError where the system does not let it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, BrokenPipeError) or not (isinstance(error, OSError) or "os error" in str(error)):
            raise  # of another's ear, or of a content that is wrong
        raise RunError(
            f"{folder} cannot be written ({error}); {free(folder) / 1e6:,.1f} MB are free there. What is finished is kept: make "
            "room or choose another folder, and the same command goes on"
        ) from error


def allocate(file: Path) -> None:
    """Take all the room that a sparse file will need, or OSError: a page of a memory map without any would end the process."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
