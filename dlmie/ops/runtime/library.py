"""Build and load the shared library of C kernels, once per source, compiler and flags."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from dlmie.errors import CompilerError
from dlmie.files.atomic import finish
from dlmie.ops.runtime.cache import cache_folder, compile_lock, say_healed
from dlmie.ops.runtime.processes import run
from dlmie.verbosity import announcing

# dlmie/ops: the C files lie beside the operations that call them.
FOLDER = Path(__file__).parents[1]

# Never -ffast-math or -Ofast: linked into a shared library they switch denormals off for the whole
# process.  These four allow sums to be vectorized without that side effect.
FLAGS = [
    *("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
]
# Each is used only if the compiler accepts it.
OPTIONAL_FLAGS = ("-march=native", "-mprefer-vector-width=512", "-fopenmp")
# The user's own flags, which come after ours and win: "-march=x86-64-v3" builds for AVX2.
FLAGS_VARIABLE = "DLMIE_CFLAGS"


@dataclass(frozen=True)
class Blas:
    """A BLAS library as the linker wants it, and how its Fortran names are spelled."""

    name: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]


@functools.cache
def find_blas() -> Blas:
    """The user's BLAS if PyTensor is configured with one (or finds MKL), else scipy-openblas32."""
    from pytensor.configdefaults import config

    with warnings.catch_warnings():  # PyTensor's advice to install conda: ours is at hand
        warnings.simplefilter("ignore")
        flags = config.blas__ldflags
    if flags:
        return Blas("configured", ("-DDLMIE_BLAS",), tuple(shlex.split(flags)))
    if importlib.util.find_spec("scipy_openblas32") is not None:
        import scipy_openblas32

        folder = scipy_openblas32.get_lib_dir()
        name = scipy_openblas32.get_library()
        return Blas(
            f"scipy-openblas32 {scipy_openblas32.__version__}",
            ("-DDLMIE_BLAS", "-DBLAS_SYMBOL(name)=scipy_##name##_"),
            (f"-L{folder}", f"-l{name}", f"-Wl,-rpath,{folder}"),
        )
    return Blas("none", (), ())


@functools.cache
def find_compiler() -> list[str]:
    """The command that compiles C: $CC, or PyTensor's C++ compiler told to read C."""
    from pytensor.configdefaults import config

    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    if config.cxx:
        return [*shlex.split(config.cxx), "-x", "c"]
    raise CompilerError(NO_COMPILER)


NO_COMPILER = (
    "no C/C++ compiler found, and dlmie compiles its graphs to C: "
    "install one (Debian/Ubuntu: apt install g++ python3-dev; Fedora: dnf install gcc-c++ "
    "python3-devel; macOS: xcode-select --install; conda: conda install gxx), "
    "then check with: dlmie doctor"
)


FIRST_TIME = (
    "compiling for this machine: a minute or two, this once; later runs start at once "
    "(dlmie doctor --warm compiles ahead)\n"
)


def _user_flags() -> list[str]:
    """The flags in ``DLMIE_CFLAGS``, as a shell would split them."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def _accepts(compiler: list[str], flag: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int main(void) { return 0; }\n")
        target = str(Path(folder, "probe"))
        return run([*compiler, "-Werror", flag, str(source), "-o", target]).returncode == 0


def _compiler_identity(compiler: list[str]) -> str:
    # With the processor: -march=native code must not reach another machine by a shared home.
    version = run([*compiler, "--version"]).stdout.partition("\n")[0]
    return f"{compiler} {version} {platform.machine()} {_processor()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def sources() -> list[Path]:
    """The C files of the library, in a fixed order."""
    return sorted(FOLDER.glob("*/*.c"))


@functools.cache
def build() -> Path:
    """Compile the kernels unless the cache has them; return the path of the shared library."""
    compiler, blas = find_compiler(), find_blas()
    identity = hashlib.sha256()
    for path in [*sources(), *sorted(FOLDER.glob("*/*.h"))]:
        identity.update(path.name.encode() + path.read_bytes())
    flags = (FLAGS, OPTIONAL_FLAGS, *_user_flags())
    identity.update(repr((*flags, blas, _compiler_identity(compiler))).encode())
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    target = cache_folder() / f"libdlmie_{identity.hexdigest()[:16]}{suffix}"
    if not target.exists():
        with compile_lock():
            if not target.exists():  # another process may have built it while we waited
                if announcing.get():
                    sys.stderr.write(FIRST_TIME)
                _compile(compiler, blas, target)
    return target


def _compile(compiler: list[str], blas: Blas, target: Path) -> None:
    headers = sorted({path.parent for path in FOLDER.glob("*/*.h")})
    include = [f"-I{folder}" for folder in headers]
    optional = [flag for flag in OPTIONAL_FLAGS if _accepts(compiler, flag)]
    flags = [*FLAGS, *include, *optional, *blas.compile_flags, *_user_flags()]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="dlmie_build_") as folder:
        jobs = []
        for source in sources():
            for precision in ("float", "double"):
                obj = Path(folder, f"{source.stem}_{precision}.o")
                define = [f"-DDLMIE_{precision.upper()}"]
                command = [*compiler, *flags, *define, "-c", str(source), "-o", str(obj)]
                jobs.append((command, obj))
        _run_all([command for command, _ in jobs])
        library = Path(folder, target.name)
        # "-x c" would make the linker's driver read object files as C.
        linker = [part for part in compiler if part not in ("-x", "c")]
        shared = "-dynamiclib" if sys.platform == "darwin" else "-shared"
        openmp = [f for f in flags if f == "-fopenmp"]
        objects = [str(obj) for _, obj in jobs]
        _run_all(
            [[*linker, shared, *openmp, *objects, "-o", str(library), *blas.link_flags, "-lm"]]
        )
        finish(library, target)


def _run_all(commands: list[list[str]]) -> None:
    """Run the commands, one for each core at a time; raise CompilerError on the first failure."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for command, result in zip(commands, pool.map(run, commands), strict=True):
            if result.returncode != 0:
                reason = next((x for x in result.stderr.splitlines() if "error:" in x), "")
                own = f"{FLAGS_VARIABLE} is {shlex.join(_user_flags())}; " if _user_flags() else ""
                raise CompilerError(
                    f"the C kernels do not compile: {reason or result.stderr[-300:]} "
                    f"({own}command: {shlex.join(command)}; dlmie doctor checks the compiler)"
                )


@functools.cache
def load() -> ctypes.CDLL:
    """The kernel library, built first if need be, with its own BLAS threads switched off."""
    # OpenMP's threads spin while they wait unless told otherwise: on a machine that does anything
    # else, that costs several times what waking them does.  Read once, when the library loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    path = build()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:  # cut off by a power cut, or linked to a BLAS that has gone
        with contextlib.suppress(OSError):
            path.unlink()
        say_healed(path, error)
        build.cache_clear()
        library = ctypes.CDLL(str(build()))
    _silence_blas_threads(library)
    return library


def _silence_blas_threads(library: ctypes.CDLL) -> None:
    # gemm.c divides the work among OpenMP threads and calls BLAS from each.
    for name in (
        "scipy_openblas_set_num_threads",
        "openblas_set_num_threads",
        "MKL_Set_Num_Threads",
        "bli_thread_set_num_threads",
    ):
        setter = getattr(library, name, None)
        if setter is not None:
            setter(1)
            return


def _address(symbol: str) -> int:
    return ctypes.cast(getattr(load(), symbol), ctypes.c_void_p).value or 0


def address(name: str, dtype: str) -> int:
    """Address of a kernel's function for "float32" or "float64"."""
    return _address(name + {"float32": "_f32", "float64": "_f64"}[dtype])


def memory_functions() -> tuple[int, int]:
    """Addresses of the functions that lend and take back blocks of memory (``memory.c``)."""
    return _address("dlmie_take"), _address("dlmie_give")
