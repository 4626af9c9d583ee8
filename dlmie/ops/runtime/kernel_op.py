"""KernelOp: a PyTensor operation whose work is done by a C kernel of the shared library."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.link.c.op import COp
from pytensor.link.c.type import generic
from pytensor.tensor.type import TensorType

from dlmie.errors import CompilerError
from dlmie.ops.runtime import library
from dlmie.ops.runtime.shapes import infers_shape

# Room in the arrays of invoke_kernel below.
MAX_INPUTS, MAX_OUTPUTS = 256, 16

use_kernels: ContextVar[bool] = ContextVar("use_kernels", default=True)


class KernelOp(COp):
    """An operation with a C kernel, and a NumPy definition that is its oracle.

    A subclass states

    * ``kernel``: name of the kernel pair in the C library (see ``kernels.h``),
    * ``__props__``: the attributes that tell two operations apart,
    * ``parameters()``: the integers handed to the kernel, unless they are those attributes,
    * ``outputs_like``: for each output the input whose type and shape it has; where there is none,
      ``output_types(*inputs)`` and ``output_shapes`` instead,
    * ``perform``: the same computation in NumPy, for testing and for machines without a compiler,
    * ``pullback``: the gradient,
    * ``aliases``: ``{output: input}`` for outputs that overwrite an input.

    The first floating input decides the precision; all floating inputs must share it.
    """

    kernel: ClassVar[str]
    __props__: tuple[str, ...] = ()
    params_type = generic
    outputs_like: Sequence[int] = (0,)
    aliases: Mapping[int, int] = {}

    def __init__(self) -> None:
        if self.aliases:
            self.destroy_map = {o: [i] for o, i in self.aliases.items()}

    def parameters(self) -> Sequence[int]:
        return [getattr(self, name) for name in self.__props__]

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[i].type for i in self.outputs_like]
        return [TensorType(t.dtype, shape=t.shape) for t in types]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [shapes[i] for i in self.outputs_like]

    @infers_shape
    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return self.output_shapes(node, shapes)

    def make_node(self, *inputs: Any) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        outputs = [t() for t in self.output_types(*variables)]
        if len(variables) > MAX_INPUTS or len(outputs) > MAX_OUTPUTS:
            raise TypeError(
                f"{self}: {len(variables)} inputs and {len(outputs)} outputs are more than the "
                f"{MAX_INPUTS} and {MAX_OUTPUTS} that a kernel may have"
            )
        return Apply(self, variables, outputs)

    def symbols(self, node: Apply) -> list[str]:
        """The C functions that a call of the kernel needs."""
        suffix = {"float32": "f32", "float64": "f64"}[precision(node)]
        kernel = (f"{self.kernel}_shape_{suffix}", f"{self.kernel}_{suffix}")
        return [*kernel, "dlmie_take", "dlmie_give"]  # the latter lend and take memory: memory.c

    def numbers(self, node: Apply) -> list[int]:
        """What is overwritten and the type of each output; then the kernel's parameters."""
        outputs = [
            number
            for i, variable in enumerate(node.outputs)
            for number in (self.aliases.get(i, -1), np.dtype(variable.type.dtype).num)
        ]
        return [*outputs, *(int(x) for x in self.parameters())]

    def get_params(self, node: Apply) -> bytes:
        """Everything that varies between operations: the generated C source does not, so operations
        of equal arity share one compiled module."""
        return library.packed(self.symbols(node), self.numbers(node))

    def c_code_cache_version(self) -> tuple[int, ...]:
        return (4,)

    def c_support_code(self, **kwargs: Any) -> str:
        return _INVOKE

    def c_code(
        self, node: Apply, name: str, inputs: Sequence[str], outputs: Sequence[str], sub: dict
    ) -> str:
        return f"""
        {{
            PyArrayObject *inputs[] = {{{", ".join(inputs)}}};
            PyArrayObject **outputs[] = {{{", ".join("&" + x for x in outputs)}}};
            if (invoke_kernel({sub["params"]}, {len(inputs)}, inputs, {len(outputs)}, outputs)) {{
                {sub["fail"]}
            }}
        }}
        """

    def make_thunk(
        self,
        node: Apply,
        storage_map: Any,
        compute_map: Any,
        no_recycling: Any,
        impl: str | None = None,
    ) -> Any:
        if impl is None and not kernels_ready():
            impl = "py"
        return super().make_thunk(node, storage_map, compute_map, no_recycling, impl)


def kernels_ready() -> bool:
    """Whether kernels are switched on and built; a failing build is told of once."""
    return use_kernels.get() and _library_works()


@functools.cache
def _library_works() -> bool:
    try:
        library.load()
    except (CompilerError, OSError) as error:
        warnings.warn(f"running without C kernels, slowly: {error}", RuntimeWarning, stacklevel=3)
        return False
    return True


def precision(node: Apply) -> str:
    """The floating dtype an operation computes in."""
    dtypes = {
        v.type.dtype for v in [*node.inputs, *node.outputs] if v.type.dtype.startswith("float")
    }
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise TypeError(f"{node.op}: mixed or unsupported floating dtypes {sorted(dtypes)}")
    return dtypes.pop()


# The one C function that every module of every KernelOp holds: make the inputs contiguous, ask the
# kernel for the shapes of its outputs, reuse or allocate them, and compute without the GIL.
_INVOKE = r"""
#include <stdint.h>
typedef struct { void *data; int64_t ndim; int64_t shape[6]; } dlmie_tensor;
typedef int (*dlmie_kernel)(const dlmie_tensor *, dlmie_tensor *, const int64_t *, char *);

static void describe(PyArrayObject *array, dlmie_tensor *t) {
    t->data = PyArray_DATA(array);
    t->ndim = PyArray_NDIM(array);
    for (int i = 0; i < PyArray_NDIM(array); i++) t->shape[i] = PyArray_DIM(array, i);
}

static int fits(PyArrayObject *array, const dlmie_tensor *t, int type) {
    if (!array || PyArray_TYPE(array) != type || PyArray_NDIM(array) != t->ndim) return 0;
    if (!PyArray_IS_C_CONTIGUOUS(array) || !PyArray_ISALIGNED(array)) return 0;
    for (int i = 0; i < t->ndim; i++)
        if (PyArray_DIM(array, i) != t->shape[i]) return 0;
    return 1;
}

/* An uninitialized array; a large one lives in a block of memory.c, returned when it dies. */
typedef void *(*dlmie_take)(size_t, size_t *);
typedef void (*dlmie_give)(void *, size_t);
typedef struct { void *block; size_t size; dlmie_give give; } dlmie_loan;

static void end_loan(PyObject *capsule) {
    dlmie_loan *loan = (dlmie_loan *)PyCapsule_GetPointer(capsule, NULL);
    loan->give(loan->block, loan->size);
    free(loan);
}

static PyArrayObject *new_array(int ndim, npy_intp *shape, int type, int64_t take, int64_t give) {
    PyArray_Descr *descr = PyArray_DescrFromType(type);
    const size_t bytes = (size_t)PyArray_MultiplyList(shape, ndim) * PyDataType_ELSIZE(descr);
    if (bytes < ((size_t)1 << 18)) {
        return (PyArrayObject *)PyArray_Empty(ndim, shape, descr, 0);
    }
    dlmie_loan *loan = (dlmie_loan *)malloc(sizeof(dlmie_loan));
    if (!loan) {
        Py_DECREF(descr);
        return (PyArrayObject *)PyErr_NoMemory();
    }
    loan->give = (dlmie_give)(intptr_t)give;
    loan->block = ((dlmie_take)(intptr_t)take)(bytes, &loan->size);
    PyObject *capsule = loan->block ? PyCapsule_New(loan, NULL, end_loan) : NULL;
    if (!capsule) {
        if (loan->block) loan->give(loan->block, loan->size);
        free(loan);
        Py_DECREF(descr);
        return (PyArrayObject *)PyErr_NoMemory();
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, descr, ndim, shape, NULL, loan->block, NPY_ARRAY_CARRAY, NULL);
    if (!array) {
        Py_DECREF(capsule);
        return NULL;
    }
    if (PyArray_SetBaseObject(array, capsule) < 0) { /* takes the capsule, also when it fails */
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

static int invoke_kernel(PyObject *params, int n_in, PyArrayObject **inputs, int n_out,
                         PyArrayObject ***outputs) {
    const int64_t *p = (const int64_t *)PyBytes_AS_STRING(params);
    dlmie_kernel shapes = (dlmie_kernel)(intptr_t)p[0], compute = (dlmie_kernel)(intptr_t)p[1];
    const int64_t *output_info = p + 4, *numbers = p + 4 + 2 * n_out;
    PyArrayObject *held[256];
    dlmie_tensor in[256], out[16];
    char error[256] = "kernel failed";
    int failed = 1, ready = 0;
    for (; ready < n_in; ready++) {
        if (PyArray_NDIM(inputs[ready]) > 6) {
            snprintf(error, sizeof error, "more than 6 dimensions");
            goto done;
        }
        held[ready] = PyArray_GETCONTIGUOUS(inputs[ready]);
        if (!held[ready]) goto done;
        describe(held[ready], &in[ready]);
    }
    if (shapes(in, out, numbers, error)) goto done;
    for (int i = 0; i < n_out; i++) {
        const int64_t alias = output_info[2 * i];
        const int type = (int)output_info[2 * i + 1];
        if (alias >= 0) {
            Py_INCREF(held[alias]);
            Py_XSETREF(*outputs[i], held[alias]);
        } else if (!fits(*outputs[i], &out[i], type)) {
            npy_intp shape[6];
            for (int d = 0; d < out[i].ndim; d++) shape[d] = out[i].shape[d];
            PyArrayObject *fresh = new_array((int)out[i].ndim, shape, type, p[2], p[3]);
            if (!fresh) goto done;
            Py_XSETREF(*outputs[i], fresh);
        }
        out[i].data = PyArray_DATA(*outputs[i]);
    }
    Py_BEGIN_ALLOW_THREADS
    failed = compute(in, out, numbers, error);
    Py_END_ALLOW_THREADS
done:
    for (int i = 0; i < ready; i++) Py_DECREF(held[i]);
    if (failed && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, error);
    return failed;
}
"""
