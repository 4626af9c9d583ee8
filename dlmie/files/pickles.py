"""A pickle reader that can build numeric arrays and plain containers, and nothing else.

A pickle is a program for a small stack machine, and two of its instructions, "import this name"
and "call it", make an ordinary `pickle.load` run whatever the author of a file wishes. Here

* names are not imported: each of the handful in a table stands for a builder of this module, and
  any other name ends the reading;
* only those builders can be called, and only the objects they made can be given a state;
* instructions that arrays need no part of (classes, extensions, sets) do not exist;
* nothing is allocated that the file's own bytes do not back.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.arrays import Bounded, array_over, checked_shape, numeric_dtype
from dlmie.files.number_types import native

MAX_NAME = 1_000  # letters


class Deferred:
    """Something in a container that turns into an array, or a list, once all has been read."""

    def value(self) -> Any:
        raise NotImplementedError


def name_of(key: Any) -> str:
    """A dictionary's key as text; Python 2 wrote bytes."""
    name = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
    if len(name) > MAX_NAME:
        raise WeightsError(f"has a name of {len(name):,} letters; refused")
    return name


class Named:
    """What a name in a pickle stands for: a builder to call, or (None) just the name."""

    def __init__(self, name: str, build: Callable[..., Any] | None = None) -> None:
        self.name, self.build = name, build


class PickledDtype:
    """A NumPy element type: `_dtype` makes it, its state then gives the byte order."""

    def __init__(self, code: str) -> None:
        self.code = code

    def set_state(self, state: Any) -> None:
        _version, order, *described = state
        if any(part is not None for part in described[:3]):
            raise WeightsError("holds arrays of records; only numbers are read")
        if order not in ("<", ">", "=", "|", b"<", b">", b"=", b"|"):
            raise WeightsError("is damaged: an element type without a byte order")
        self.code = name_of(order) + self.code.lstrip("<>=|")

    @property
    def is_object(self) -> bool:
        return self.code.lstrip("<>=|") in ("O", "O4", "O8")

    def numeric(self) -> np.dtype[Any]:
        return numeric_dtype(self.code)


class PickledArray(Deferred):
    """A NumPy array: `_reconstruct` makes it empty, its state then gives the content.

    An array of objects becomes the list of its objects, which came through this reader too.
    """

    def __init__(self, content: Any = None) -> None:
        self.content = content

    def value(self) -> Any:
        return self.content


class _Instructions(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        known = {ord(instruction.code): instruction.name for instruction in pickletools.opcodes}
        raise _refusal(f"the pickle instruction {known.get(code, code)}")


class RestrictedUnpickler(pickle._Unpickler):
    """`pickle.Unpickler` in Python, its instruction set cut down to data.

    Raises
    ------
    WeightsError
        From `load`, if the pickle asks for anything else; it is named, and nothing was executed.
    """

    # Not the C class: it has no table of instructions to cut down, allocates what a file announces
    # before looking whether it is there, and hashes whatever is used as a key.
    dispatch = _Instructions()
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(Bounded(file, size), encoding="bytes")  # bytes: Python 2 kept data in str
        self._copies_left = 2 * size  # bytes
        self._names = {name: Named(name, build) for name, build in self.builders().items()}

    def builders(self) -> dict[str, Callable[..., Any] | None]:
        """All that a file may ask for: name → what is called in its place, if it can be called."""
        numpy_internals: dict[str, Callable[..., Any]] = {
            "multiarray._reconstruct": _reconstruct,
            "multiarray.scalar": self._scalar,
            "numeric._frombuffer": self._frombuffer,
        }
        return {
            "collections.OrderedDict": _ordered_dict,
            "_codecs.encode": self._encode,
            "__builtin__.bytes": _no_bytes,
            "numpy.ndarray": None,
            "numpy.dtype": _dtype,
            **{f"numpy.core.{name}": build for name, build in numpy_internals.items()},  # NumPy 1
            **{f"numpy._core.{name}": build for name, build in numpy_internals.items()},  # NumPy 2
        }

    def find_class(self, module: str, name: str) -> Named:
        full = f"{module}.{name}"
        if full not in self._names:
            raise _refusal(full)
        return self._names[full]

    def persistent_load(self, pid: Any) -> Any:
        raise _refusal("an object outside the file")

    # The instructions that are not taken over as they are.

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Named) or function.build is None:
            raise _refusal(f"a call of {_what(function)}")
        self.append(function.build(*_expect(arguments, tuple)))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, PickledDtype):
            target.set_state(state)
        elif isinstance(target, PickledArray):
            *_version, shape, dtype, fortran, data = state
            target.content = self._array(data, dtype, shape, fortran=bool(fortran))
        elif not isinstance(target, dict):  # a state dict's attributes (`_metadata`) are dropped
            raise _refusal(f"{_what(target)}.__setstate__")

    def load_inst(self) -> None:
        module, name = self.readline(), self.readline()
        raise _refusal(f"{name_of(module[:-1])}.{name_of(name[:-1])}")

    def load_append(self) -> None:
        item = self.stack.pop()
        _expect(self.stack[-1], list).append(item)

    def load_appends(self) -> None:
        items = self.pop_mark()
        _expect(self.stack[-1], list).extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        _put(self.stack[-1], items)

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    # Builders that copy: a file may reuse one piece of data for any number of copies.

    def _spend(self, count: int) -> None:
        self._copies_left -= count
        if self._copies_left < 0:
            raise WeightsError("declares more data than it holds; refused")

    def _encode(self, text: str, encoding: str) -> bytes:
        """`_codecs.encode`: how Python 3 writes bytes for Python 2."""
        if not isinstance(text, str) or name_of(encoding) not in ("latin1", "latin-1"):
            raise _refusal("another encoding than latin1")
        self._spend(len(text))
        return text.encode("latin1")

    def _array(self, data: Any, dtype: Any, shape: Any, *, fortran: bool = False) -> Any:
        if _expect(dtype, PickledDtype).is_object:
            if math.prod(checked_shape(shape)) != len(_expect(data, list)):
                raise WeightsError("is damaged: an array of objects is not as long as it says")
            return data[0] if shape == () else data
        array = array_over(
            _expect(data, bytes | bytearray), dtype.numeric(), shape, fortran=fortran
        )
        if not array.dtype.isnative:
            self._spend(array.nbytes)
        return native(array)

    def _scalar(self, dtype: PickledDtype, data: Any) -> PickledArray:
        return PickledArray(self._array(data, dtype, ()))

    def _frombuffer(self, data: bytes, dtype: PickledDtype, shape: Any, order: Any) -> PickledArray:
        return PickledArray(self._array(data, dtype, shape, fortran=name_of(order) == "F"))


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    _put(result, [part for pair in pairs for part in _expect(pair, list | tuple)])
    return result


def _no_bytes() -> bytes:
    """How Python 3 writes `b""` for Python 2, such as the content of an array without elements."""
    return b""


def _dtype(code: Any, *_align_and_copy: Any) -> PickledDtype:
    if not isinstance(code, str | bytes) or len(code) > 8:
        raise WeightsError("holds an array without a plain element type; only numbers are read")
    return PickledDtype(name_of(code))


def _reconstruct(kind: Any, *_shape_and_code: Any) -> PickledArray:
    if not isinstance(kind, Named) or kind.name != "numpy.ndarray":
        raise _refusal("an array of another class than numpy.ndarray")
    return PickledArray()


def _put(target: Any, keys_and_values: list[Any]) -> None:
    """Fill a dictionary, by plain keys only: hashing nested tuples can take forever."""
    _expect(target, dict)
    keys, values = keys_and_values[::2], keys_and_values[1::2]
    if not all(isinstance(key, str | bytes | int) for key in keys):
        raise WeightsError("has a dictionary whose keys are neither text nor numbers; refused")
    target.update(zip(keys, values, strict=True))


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise WeightsError(f"is damaged: a {type(value).__name__} stands at the wrong place")
    return value


def _what(value: Any) -> str:
    return value.name if isinstance(value, Named) else type(value).__name__


def _refusal(what: str) -> WeightsError:
    plain = ascii(what)[1:-1][:120]  # no control characters of a hostile file on a terminal
    return WeightsError(
        f"asks for {plain}; refused: nothing was executed (dlmie reads arrays and plain "
        "containers only; from PyTorch, save the state dict alone)"
    )


def _instructions(names: str) -> _Instructions:
    codes = {instruction.name: ord(instruction.code) for instruction in pickletools.opcodes}
    inherited = pickle._Unpickler.dispatch
    return _Instructions(
        {
            # by the method's name, so that the class's own version is found where it has one
            codes[name]: getattr(RestrictedUnpickler, inherited[codes[name]].__name__)
            for name in names.split()
        }
    )


RestrictedUnpickler.dispatch = _instructions(
    "PROTO FRAME STOP MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL INST REDUCE BUILD PERSID BINPERSID"
)
