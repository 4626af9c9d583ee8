"""How PyTensor's C machine calls a kernel: one generated module for all operations.

PyTensor generates a module for each combination of inputs and outputs, in which every variable has
a page of C++: two seconds of a compiler for an operation with a hundred inputs.  ``KernelCall`` has
two inputs, whatever the operation has: the cells in which PyTensor stores its inputs and outputs,
and the facts that tell operations apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph
from pytensor.link.c.basic import CLinker
from pytensor.link.c.op import COp
from pytensor.link.c.type import generic

from dlmie.ops.runtime import library
from dlmie.ops.runtime.library import Cell

#: Room in the arrays of ``call_kernel`` below.
MAX_INPUTS, MAX_OUTPUTS = 256, 16


class KernelCall(COp):
    """cells: a tuple of ``Cell``; facts: bytes of :func:`~dlmie.ops.runtime.library.packed`.

    Computes what the facts name, from the cells of the inputs into those of the outputs.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, list(inputs), [generic()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        raise NotImplementedError("a kernel is called from C only")

    def c_code_cache_version(self) -> tuple[int, ...]:
        return (3,)

    # Generic variables need nothing of NumPy: PyTensor adds neither its header nor its functions.
    def c_headers(self, **kwargs: Any) -> list[str]:
        return ["<numpy/arrayobject.h>"]

    def c_init_code(self, **kwargs: Any) -> list[str]:
        return ["import_array();"]

    def c_support_code(self, **kwargs: Any) -> str:
        return _CALL

    def c_code(
        self, node: Apply, name: str, inputs: Sequence[str], outputs: Sequence[str], sub: dict
    ) -> str:
        cells, facts = inputs
        return f"if (call_kernel({cells}, {facts})) {{ {sub['fail']} }}"


def call_graph() -> FunctionGraph:
    """The graph whose module calls all kernels."""
    node = KernelCall().make_node(generic(), generic())
    return FunctionGraph(node.inputs, node.outputs)


def make_call(inputs: Sequence[Cell], outputs: Sequence[Cell], facts: bytes) -> Any:
    """PyTensor's thunk for one operation: computes from its inputs' cells into its outputs'."""
    linker = CLinker().accept(call_graph(), no_recycling=[])
    *storage, result = library.handed(inputs, outputs, facts)
    return linker.make_thunk(input_storage=storage, output_storage=[result])[0]


# Make the inputs contiguous, ask the kernel for the shapes of its outputs, reuse or allocate them,
# and compute without the GIL.  Facts: addresses of the kernel's two functions and of memory.c's,
# the numbers of inputs and outputs, the type of each input, the input that an output overwrites (or
# -1) and its type, and the kernel's own parameters.
_CALL = r"""
#include <stdint.h>
typedef struct { void *data; int64_t ndim; int64_t shape[6]; int64_t half; } dlmie_tensor;
typedef int (*dlmie_kernel)(const dlmie_tensor *, dlmie_tensor *, const int64_t *, char *);

static void describe(PyArrayObject *array, dlmie_tensor *t) {
    t->data = PyArray_DATA(array);
    t->ndim = PyArray_NDIM(array);
    t->half = PyArray_TYPE(array) == NPY_HALF;
    for (int i = 0; i < PyArray_NDIM(array); i++) t->shape[i] = PyArray_DIM(array, i);
}

static int fits(PyObject *value, const dlmie_tensor *t, int type) {
    if (!PyArray_Check(value)) return 0;
    PyArrayObject *array = (PyArrayObject *)value;
    if (PyArray_TYPE(array) != type || PyArray_NDIM(array) != t->ndim) return 0;
    if (!PyArray_ISCARRAY(array)) return 0;
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

static PyArrayObject *new_array(const dlmie_tensor *t, int type, int64_t take, int64_t give) {
    const int ndim = (int)t->ndim;
    npy_intp shape[6];
    for (int i = 0; i < ndim; i++) shape[i] = t->shape[i];
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

/* The array of an input as kernels read it: a new reference, or NULL with an error set. */
static PyArrayObject *readable(PyObject *value, int type, int64_t take, int64_t give) {
    if (!PyArray_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "expected an ndarray");
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)value;
    if (!PyArray_EquivTypenums(PyArray_TYPE(array), type)) {
        PyErr_Format(PyExc_TypeError, "expected type_num %d, got %d", type, PyArray_TYPE(array));
        return NULL;
    }
    if (PyArray_NDIM(array) > 6) {
        PyErr_SetString(PyExc_ValueError, "more than 6 dimensions");
        return NULL;
    }
    if (PyArray_ISCARRAY_RO(array)) {
        Py_INCREF(array);
        return array;
    }
    dlmie_tensor t;
    describe(array, &t);
    PyArrayObject *copy = new_array(&t, type, take, give);
    if (copy && PyArray_CopyInto(copy, array) < 0) Py_CLEAR(copy);
    return copy;
}

static int call_kernel(PyObject *cells, PyObject *facts) {
    const int64_t *p = (const int64_t *)PyBytes_AS_STRING(facts);
    dlmie_kernel shapes = (dlmie_kernel)(intptr_t)p[0], compute = (dlmie_kernel)(intptr_t)p[1];
    const int64_t take = p[2], give = p[3];
    const int n_in = (int)p[4], n_out = (int)p[5];
    const int64_t *input_types = p + 6, *output_info = input_types + n_in;
    const int64_t *numbers = output_info + 2 * n_out;
    PyArrayObject *held[256], *made[16];
    dlmie_tensor in[256], out[16];
    char error[256] = "kernel failed";
    int failed = 1, n_held = 0, n_made = 0;
    for (; n_held < n_in; n_held++) {
        PyObject *value = PyList_GET_ITEM(PyTuple_GET_ITEM(cells, n_held), 0);
        held[n_held] = readable(value, (int)input_types[n_held], take, give);
        if (!held[n_held]) goto done;
        describe(held[n_held], &in[n_held]);
    }
    if (shapes(in, out, numbers, error)) goto done;
    for (; n_made < n_out; n_made++) {
        PyObject *old = PyList_GET_ITEM(PyTuple_GET_ITEM(cells, n_in + n_made), 0);
        const int64_t alias = output_info[2 * n_made];
        const int type = (int)output_info[2 * n_made + 1];
        if (alias >= 0 || fits(old, &out[n_made], type)) {
            made[n_made] = alias >= 0 ? held[alias] : (PyArrayObject *)old;
            Py_INCREF(made[n_made]);
        } else {
            made[n_made] = new_array(&out[n_made], type, take, give);
            if (!made[n_made]) goto done;
        }
        out[n_made].data = PyArray_DATA(made[n_made]);
    }
    Py_BEGIN_ALLOW_THREADS
    failed = compute(in, out, numbers, error);
    Py_END_ALLOW_THREADS
done:
    for (int i = 0; i < n_held; i++) Py_DECREF(held[i]);
    for (int i = 0; i < n_made; i++) {
        if (failed) {
            Py_DECREF(made[i]);
        } else {
            PyList_SetItem(PyTuple_GET_ITEM(cells, n_in + i), 0, (PyObject *)made[i]);
        }
    }
    if (failed && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, error);
    return failed;
}
"""
