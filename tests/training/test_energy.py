"""Energy: a made-up powercap tree and a made-up NVIDIA library, since few machines let everybody read theirs."""

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.training import energy as energy_module
from lamoid.training.energy import Energy, RaplCounter, find_energy
from lamoid.training.nvidia_energy import open_nvidia_counter

RANGE = 262_143_328_850
CPU = torch.device("cpu")


def domain(folder: Path, path: str, name: str, microjoules: int) -> Path:
    place = folder / path
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place


def count(place: Path, microjoules: int) -> None:
    (place / "energy_uj").write_text(f"{microjoules % (RANGE + 1)}\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two packages, one with its cores and its memory beside them, and the whole platform, all at other counts."""
    domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 7)
    domain(tmp_path, "intel-rapl:0:1", "dram", 11_000_000)
    domain(tmp_path, "intel-rapl:1", "package-1", 0)
    domain(tmp_path, "intel-rapl:2", "psys", 123)
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)
    return tmp_path


def test_packages_and_their_memory_are_added_and_nothing_twice(tree: Path) -> None:
    energy = find_energy(CPU, tree)
    assert energy is not None
    assert energy.names == "package-0, dram, package-1"
    assert energy.joules() == 0.0
    for path, microjoules in {
        "intel-rapl:0": 8_000_000,
        "intel-rapl:0:0": 3_000_000,
        "intel-rapl:0:1": 11_500_000,
        "intel-rapl:1": 250_000,
        "intel-rapl:2": 9_000_000,
        "intel-rapl-mmio:0": 9_000_000,
    }.items():
        count(tree / path, microjoules)
    assert energy.joules() == pytest.approx(3.0 + 0.5 + 0.25)


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    """Its count is the total modulo range + 1, however many turns it makes, as long as each is seen."""
    total = RANGE - 1_000_000
    place = domain(tmp_path, "intel-rapl:0", "package-0", total)
    counter = RaplCounter(place)
    for step in (999_999, 2, 5_000_000, RANGE - 5, 3, RANGE - 5, RANGE):
        before = total
        total += step
        count(place, total)
        assert counter.joules() == pytest.approx((total - (RANGE - 1_000_000)) / 1e6, abs=1e-9), before


def test_steps_look_once_a_second_so_that_no_turn_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(energy_module.time, "monotonic", lambda: clock[0])
    total = 0
    place = domain(tmp_path, "intel-rapl:0", "package-0", total)
    energy = find_energy(CPU, tmp_path)
    assert energy is not None
    for _ in range(50):
        clock[0] += 0.4
        total += RANGE // 5
        count(place, total)
        energy.sample()
    assert energy.joules() == pytest.approx(total / 1e6)


def test_a_run_that_goes_on_adds_to_what_was_taken_before(tree: Path) -> None:
    energy = find_energy(CPU, tree)
    assert energy is not None
    energy.before = 40.0
    count(tree / "intel-rapl:1", 2_000_000)
    assert energy.joules() == pytest.approx(42.0)


@pytest.mark.parametrize("spoil", ["unlink", "text"])
def test_a_package_that_cannot_be_read_makes_the_rest_no_answer(tree: Path, spoil: str) -> None:
    path = tree / "intel-rapl:1" / "energy_uj"
    path.unlink() if spoil == "unlink" else path.write_text("many")
    assert find_energy(CPU, tree) is None


def test_a_machine_without_counters_says_nothing(tmp_path: Path) -> None:
    assert find_energy(CPU, tmp_path) is None
    assert find_energy(CPU, tmp_path / "nowhere") is None
    domain(tmp_path, "intel-rapl:0", "psys", 3)
    assert find_energy(CPU, tmp_path) is None


def test_a_counter_that_goes_away_ends_the_figure_and_not_the_run(tree: Path) -> None:
    energy = find_energy(CPU, tree)
    assert energy is not None
    (tree / "intel-rapl:1" / "energy_uj").unlink()
    assert energy.joules() is None
    (tree / "intel-rapl:1" / "energy_uj").write_text("5")
    assert energy.joules() is None, "a hole in the count would look like little energy"


class Library:
    """Behaves as NVML by its header: status 0 is success, results come through pointers."""

    def __init__(self, *, init: int = 0, found: int = 0, tells: int = 0) -> None:
        self.init, self.found, self.tells, self.millijoules = init, found, tells, 10_000_000_000_000
        self.asked = b""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.init

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        self.asked = uuid
        return self.found

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, value: Any) -> int:  # noqa: N802
        ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return self.tells


def test_an_nvidia_device_tells_millijoules_since_its_driver_was_loaded() -> None:
    library = Library()
    counter = open_nvidia_counter("1234-ab", load=lambda name: library)
    assert counter is not None
    assert library.asked == b"GPU-1234-ab"
    assert counter.joules() == 0.0
    library.millijoules += 12_345
    assert Energy([counter]).joules() == pytest.approx(12.345)
    library.tells = 15
    assert Energy([counter]).joules() is None


@pytest.mark.parametrize("library", [Library(init=9), Library(found=6), Library(tells=3), object()])
def test_a_device_that_does_not_tell_is_no_counter(library: Any) -> None:
    assert open_nvidia_counter("1234", load=lambda name: library) is None


def test_without_a_driver_there_is_no_counter() -> None:
    def load(name: str) -> Any:
        raise OSError(name)

    assert open_nvidia_counter("1234", load=load) is None
