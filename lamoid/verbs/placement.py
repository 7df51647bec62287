"""Where to compute and in which numbers, as a person names them."""

import torch

from lamoid.errors import InputError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def find_device(name: str | torch.device) -> torch.device:
    """Give the device of a name such as ``cpu``, ``cuda`` or ``cuda:1``; an ``InputError`` where there is none."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError("device", f"is {name!r}, no device is called so", "cpu and cuda are") from error
    count = 1 if device.type == "cpu" else torch.cuda.device_count() if device.type == "cuda" else 0
    if (device.index or 0) >= count:
        problem = f"is {str(device)!r}, but this machine's torch sees {count} of that kind"
        raise InputError("device", problem, "use cpu, or install a build of torch for the device")
    return device


def find_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """Give the dtype of a name; ``None`` stands for the stored one."""
    if name is None or (isinstance(name, torch.dtype) and name in DTYPES.values()):
        return name
    if not isinstance(name, str) or name not in DTYPES:
        raise InputError("dtype", f"is {str(name)!r}", f"choose one of {', '.join(DTYPES)}")
    return DTYPES[name]
