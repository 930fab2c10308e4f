"""What cannot be written: one line with the folder and what is free there; what is no matter of the disk stays as it is."""

import os

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rosutils import RunError
from rosutils.disk import allocate, free, writing


def test_free_is_that_of_the_folder_that_will_hold_it(tmp_path):
    there = os.statvfs(tmp_path)
    assert abs(free(tmp_path / "not" / "yet") - there.f_bavail * there.f_frsize) < 2**30


def test_what_the_system_refuses_is_told_with_folder_and_room(tmp_path):
    with pytest.raises(RunError, match=rf"^{tmp_path} cannot be written .*No space left.*[\d,.]+ MB are free there"):
        with writing(tmp_path):
            os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    with pytest.raises(RunError, match=r"cannot be written .*os error 2"):
        with writing(tmp_path):
            save_file({"a": torch.zeros(1)}, tmp_path / "no folder" / "a.safetensors")


def test_what_is_no_matter_of_the_disk_stays_as_it_is(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    for error, act in (
        (BrokenPipeError, lambda: (_ for _ in ()).throw(BrokenPipeError)),
        (SafetensorError, lambda: load_file(tmp_path / "bad.safetensors")),
        (ValueError, lambda: int("x")),
    ):
        with pytest.raises(error), writing(tmp_path):
            act()


def test_a_sparse_file_gets_all_its_room(tmp_path):
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(2**20)
    allocate(file)
    assert file.stat().st_blocks * 512 >= 2**20 and file.stat().st_size == 2**20
