"""Reading and writing safetensors against the library: what one writes the other reads, bit for bit."""

import struct
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.weights.durable import durable_folder
from lamoid.weights.header import DTYPES
from lamoid.weights.read import open_tensors
from lamoid.weights.write import TensorWriter, write_tensors


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def random_bits(dtype: torch.dtype, *shape: int) -> Tensor:
    count = int(torch.tensor(shape).prod()) if shape else 1
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count * dtype.itemsize,), dtype=torch.uint8)
    return raw.view(dtype).view(shape)


def zoo() -> dict[str, Tensor]:
    shapes: Sequence[tuple[int, ...]] = [(), (1,), (3,), (5, 7), (0, 4), (2, 3, 4, 1)]
    return {
        f"{name}.{i}": random_bits(dtype, *shape) for name, dtype in DTYPES.items() for i, shape in enumerate(shapes)
    }


def save(folder: Path, tensors: dict[str, Tensor], shard_bytes: int = 10**9) -> None:
    with durable_folder(folder) as draft:
        write_tensors(draft, tensors, shard_bytes=shard_bytes)


def test_every_dtype_is_read_as_the_library_wrote_it(tmp_path: Path) -> None:
    tensors = zoo()
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    found = open_tensors(tmp_path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tuple(tensor.shape))
        assert torch.equal(bits(found.tensor(name)), bits(tensor))


@pytest.mark.parametrize("shard_bytes", [1, 100, 10**9])
def test_the_library_reads_every_dtype_as_it_was_written(tmp_path: Path, shard_bytes: int) -> None:
    tensors = zoo()
    save(tmp_path / "out", tensors, shard_bytes=shard_bytes)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert (len(files) == 1) == (shard_bytes == 10**9)
    theirs = {name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()}
    ours = open_tensors(tmp_path / "out")
    assert set(theirs) == set(ours) == set(tensors)
    for name, tensor in tensors.items():
        assert theirs[name].dtype == tensor.dtype
        assert torch.equal(bits(theirs[name]), bits(tensor))
        assert torch.equal(bits(ours.tensor(name)), bits(tensor))
    for file in files:
        assert struct.unpack("<Q", file.read_bytes()[:8])[0] % 8 == 0


def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path) -> None:
    infos = [
        ("a", torch.float32, (10, 10)),
        ("none", torch.float32, (0,)),
        ("b", torch.float32, (7,)),
        ("c", torch.bfloat16, (3,)),
    ]
    flat = torch.arange(107.0)
    for size in (1, 13, 107):
        with durable_folder(tmp_path / str(size)) as draft:
            writer = TensorWriter(draft, infos, shard_bytes=200)
            for start in range(0, 107, size):
                writer.write(flat[start : start + size])
            writer.write(torch.ones(3, dtype=torch.bfloat16))
            writer.finish()
    whole = {path.name: path.read_bytes() for path in (tmp_path / "107").iterdir()}
    assert len(whole) == 4  # two shards, an index and the manifest
    for size in (1, 13):
        assert {path.name: path.read_bytes() for path in (tmp_path / str(size)).iterdir()} == whole
    assert open_tensors(tmp_path / "13").tensor("b").tolist() == list(range(100, 107))


def test_a_strided_chunk_is_written_in_row_order(tmp_path: Path) -> None:
    save(tmp_path / "out", {"t": torch.arange(6.0).view(2, 3).t()})
    assert open_tensors(tmp_path / "out").tensor("t").tolist() == [[0, 3], [1, 4], [2, 5]]


def test_what_does_not_fit_the_layout_is_a_mistake(tmp_path: Path) -> None:
    def attempt(*chunks: Tensor) -> None:
        with durable_folder(tmp_path / "out") as draft:
            writer = TensorWriter(draft, [("a", torch.float32, (2,)), ("b", torch.bfloat16, (2,))])
            for chunk in chunks:
                writer.write(chunk)
            writer.finish()

    for chunks in (
        (torch.ones(3),),
        (torch.ones(2), torch.ones(2)),
        (torch.ones(1),),
        (torch.ones(2), torch.ones(3, dtype=torch.bfloat16)),
        (),
    ):
        with pytest.raises(ValueError, match=r"due|not written"):
            attempt(*chunks)
    with pytest.raises(ValueError, match="named twice"), durable_folder(tmp_path / "out") as draft:
        TensorWriter(draft, [("a", torch.float32, (2,)), ("a", torch.float32, (2,))])
    with pytest.raises(ValueError, match="cannot be written"), durable_folder(tmp_path / "out") as draft:
        TensorWriter(draft, [("a", torch.complex32, (2,))])
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_tensor_is_a_private_copy_on_write(tmp_path: Path) -> None:
    save(tmp_path / "out", {"t": torch.zeros(1000)})
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    tensors = open_tensors(tmp_path / "out")
    first, second = tensors.tensor("t"), tensors.tensor("t")
    assert first.data_ptr() == second.data_ptr()  # mapped once, not copied
    first += 1
    assert open_tensors(tmp_path / "out").tensor("t").sum() == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    del tensors
    assert first.sum() == 1000  # the mapping lives as long as the tensor


def test_a_tensor_that_is_not_aligned_is_copied(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}'
    )
    data = b"\7" + torch.tensor([1.5, -2.0]).numpy().tobytes()
    (tmp_path / "out" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    tensors = open_tensors(tmp_path / "out")
    assert tensors["b"].start % 4
    assert tensors.tensor("b").tolist() == [1.5, -2.0]
    assert tensors.tensor("b").data_ptr() % 4 == 0
    assert torch.equal(tensors.tensor("b"), safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")["b"])


def test_reading_into_slices(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in zoo().items() if tensor.numel() > 5}
    save(tmp_path / "out", tensors)
    found = open_tensors(tmp_path / "out")
    for name, tensor in tensors.items():
        flat = tensor.reshape(-1)
        for first, count in ((0, tensor.numel()), (2, 3), (tensor.numel(), 0)):
            out = torch.empty(count, dtype=tensor.dtype)
            found.read_into(name, first, out)
            assert torch.equal(bits(out), bits(flat[first : first + count]))


def test_reading_into_the_wrong_place_is_a_mistake(tmp_path: Path) -> None:
    save(tmp_path / "out", {"t": torch.zeros(10)})
    tensors = open_tensors(tmp_path / "out")
    for first, out in ((5, torch.empty(6)), (-1, torch.empty(2))):
        with pytest.raises(ValueError, match="has 10 elements"):
            tensors.read_into("t", first, out)
    for out in (torch.empty(2, dtype=torch.float64), torch.empty(2, 2), torch.empty(4)[::2]):
        with pytest.raises(ValueError, match="1-D, contiguous"):
            tensors.read_into("t", 0, out)


def test_a_file_that_shrinks_is_said_so(tmp_path: Path) -> None:
    save(tmp_path / "out", {"t": torch.zeros(10)})
    tensors, late = open_tensors(tmp_path / "out"), open_tensors(tmp_path / "out")
    tensors.read_into("t", 0, torch.empty(1))
    file = tmp_path / "out" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="size changed"):
        tensors.read_into("t", 0, torch.empty(10))
    with pytest.raises(InputError, match="size changed"):
        late.tensor("t")


def test_threads_may_read_at_once(tmp_path: Path) -> None:
    data = torch.arange(100_000.0)
    save(tmp_path / "out", {"t": data})
    tensors = open_tensors(tmp_path / "out")
    outs = [torch.empty(1000) for _ in range(100)]

    def work(number: int) -> None:
        for index in range(number, 100, 4):
            tensors.read_into("t", index * 1000, outs[index])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.cat(outs), data)


def test_pickled_weights_are_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*never opened"):
        open_tensors(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"neither model\.safetensors nor"):
        open_tensors(tmp_path)
