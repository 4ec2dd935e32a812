"""Stand-in weights for parity tests: numbers that depend on a tensor's key, its shape and a seed, and on nothing else.

The rule is the one under which the golden outputs were made: draw `default_rng([seed, crc32(key)]).standard_normal(shape)`,
then scale it so that a network of such numbers neither dies nor explodes. Constants are left as they are.
"""
import zlib

import numpy as np
import torch

from cmet.core import find_data

EQUALISED = "enc.", "dec.", "fc.", "lip_fc.", "pose_fc.", "exp_fc.", "direction"  # parts with a learning-rate scale


def constant(key):
    "FIR kernels, position tables and batch counters are no weights."
    return key.split(".")[-1].startswith("kernel") or key.endswith(("kernel", ".pe", "num_batches_tracked"))


def spread(key, shape):
    "Offset and standard deviation: statistics near those of fresh batch norms, 1/sqrt(fan-in) for plain layers."
    if key.endswith("running_var"): return 1., .05
    if key.endswith("running_mean") or key.endswith("bias"): return 0., .1
    if len(shape) < 2: return float(key.endswith("weight")), .1
    equalised = key.startswith(EQUALISED) and "fineadainresblock" not in key
    return 0., 1. if equalised else float(np.prod(shape[1:]))**-.5


def standin(key, shape, seed):
    "One tensor, float32."
    offset, std = spread(key, shape)
    x = offset + std*np.random.default_rng([seed, zlib.crc32(key.encode())]).standard_normal(shape)
    if key.endswith("running_var"): x = np.abs(x) + .1
    return torch.from_numpy(np.asarray(x, np.float32))


def fill(state, seed):
    "A state dict with every weight replaced by its stand-in."
    return {k: v.clone() if constant(k) or not v.is_floating_point() else standin(k, tuple(v.shape), seed)
            for k, v in state.items()}


def golden(name):
    "Arrays of a golden file as float tensors, or None where they are not on this machine."
    import os
    root = os.environ.get("CMET_SPEC") or (find_data("") and find_data("").resolve().parent/"spec")
    path = root and os.path.join(root, "golden", f"{name}.npz")
    if not path or not os.path.exists(path): return None
    with np.load(path, allow_pickle=False) as z: return {k: torch.from_numpy(z[k]) for k in z.files}
