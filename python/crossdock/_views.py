# SPDX-License-Identifier: Apache-2.0
"""What the binding leaves to Python: arrays of the caller's framework, made or seen as another type."""


def numpy_of(array, dtype):
    import numpy

    return numpy.asarray(array).view(_numpy_dtype(dtype))


def local_ids(ids, first, count, sentinel):
    here = (ids >= first) & (ids < first + count)
    if hasattr(ids, "masked_fill"):
        return (ids - first).masked_fill(~here, sentinel)
    import numpy

    return numpy.where(here, ids - first, sentinel)


def torch_empty(rows, columns, dtype, device="cpu"):
    import torch

    return torch.empty(rows, columns, dtype=getattr(torch, dtype), device=device)


def numpy_empty(rows, columns, dtype):
    import numpy

    return numpy.empty((rows, columns), _numpy_dtype(dtype))


def _numpy_dtype(name):
    import numpy

    if name in numpy.sctypeDict:
        return numpy.dtype(name)
    import ml_dtypes

    return numpy.dtype(getattr(ml_dtypes, name))
