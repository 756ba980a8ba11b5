"""What a worker says of its machine."""

from __future__ import annotations

from pathlib import Path

from gifty_compute.poll.machine import describe


def test_the_gpus_that_the_driver_names_are_told(tmp_path: Path) -> None:
    for bus in ("0000:00:04.0", "0000:00:05.0"):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text("Model: \t\t Tesla T4\nIRQ:   \t\t 33\n")

    told = describe(["bge-m3"], tmp_path)

    assert (told["gpu"], told["model"], told["program"]) == (["Tesla T4"] * 2, ["bge-m3"], "gifty-worker")


def test_a_machine_without_one_names_its_cores(tmp_path: Path) -> None:
    [told] = describe([], tmp_path / "absent")["gpu"]

    assert told.startswith("CPU, ")
