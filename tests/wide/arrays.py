"""What numpy and OpenBLAS compute, as bits: arrays.py numpy|openblas. Says first which code they take."""
import ctypes
import hashlib
import sys

import numpy as np


def show(name, value):
    value = np.ascontiguousarray(value)
    print(name, value.dtype, value.shape, hashlib.sha256(value.tobytes()).hexdigest())


def arrays(seed, size, dtype):
    """Numbers of all magnitudes, and what arithmetic stumbles over."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = (rng.standard_normal(size) * 10.0 ** rng.integers(-30, 30, size)).astype(dtype)
    x[::37], x[5::41], x[7::43], x[11::47] = 0, np.inf, np.nan, np.finfo(dtype).tiny / 3
    return x


def elements():
    features = np._core._multiarray_umath.__cpu_features__
    print("dispatches", *(name for name in ("AVX2", "FMA3", "AVX512F") if features[name]))
    np.seterr(all="ignore")
    for dtype in (np.float32, np.float64):
        x, y = arrays(1, 4099, dtype), arrays(2, 4099, dtype)
        for function in (np.add, np.multiply, np.divide, np.maximum, np.fmin, np.hypot, np.arctan2, np.copysign, np.fmod, np.power):
            show(function.__name__, function(x, y))
        for function in (np.sqrt, np.exp, np.log, np.sin, np.cos, np.tanh, np.rint, np.floor, np.reciprocal, np.isnan, np.signbit, np.expm1, np.cbrt):
            show(function.__name__, function(x))
        show("less", x < y)
        show("sort", np.sort(x))
        show("argsort", np.argsort(x[:1000], kind="stable"))
        show("partition", np.partition(np.nan_to_num(x), 1000)[1000])
        show("sum", np.nan_to_num(x / 1e20).sum())
        show("half", x.astype(np.float16))
        show("back", x.astype(np.float16).astype(dtype))
        show("complex", (x[:2000] + 1j * y[:2000]) * (y[:2000] - 1j * x[:2000]))
    rng = np.random.Generator(np.random.PCG64(3))
    for dtype in (np.int8, np.uint16, np.int32, np.uint64):
        limits = np.iinfo(dtype)
        a, b = (rng.integers(limits.min, limits.max, 5003, dtype=dtype, endpoint=True) for _ in range(2))
        for function in (np.add, np.multiply, np.bitwise_xor, np.maximum, np.floor_divide, np.right_shift):
            show(function.__name__, function(a, b if function is not np.right_shift else b & dtype(7)))
        show("sort", np.sort(a))
        show("cumsum", np.cumsum(a))
    show("packbits", np.packbits(a > b))
    show("fft", np.fft.rfft(np.nan_to_num(arrays(4, 1000, np.float64), posinf=1, neginf=-1) / 1e25))


def algebra():
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    print("core", blas.openblas_get_corename().decode())
    rng = np.random.Generator(np.random.PCG64(5))
    for dtype in (np.float32, np.float64, np.complex64, np.complex128):
        a, b = (rng.standard_normal((67, 67)).astype(dtype) for _ in range(2))
        if dtype in (np.complex64, np.complex128):
            a = a + dtype(1j) * b.T
        show("product", a @ b)
        show("vector", a @ b[0])
        show("dot", np.dot(a[0], b[1]))
        show("solve", np.linalg.solve(a, b))
        show("inverse", np.linalg.inv(a))
        show("values", np.linalg.svd(a, compute_uv=False))
        show("symmetric", np.linalg.eigvalsh(a + a.conj().T))


{"numpy": elements, "openblas": algebra}[sys.argv[1]]()
