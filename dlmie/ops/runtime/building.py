"""How the C kernels are compiled to a shared library: at first use, and into wheels.

Needs nothing but the standard library, so that ``setup.py`` can use it where dlmie's requirements
are not installed yet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dlmie.errors import CompilerError
from dlmie.ops.runtime.processes import run

# dlmie/ops: the C files lie beside the operations that call them.
FOLDER = Path(__file__).parents[1]

# Never -ffast-math or -Ofast: linked into a shared library they switch denormals off for the whole
# process.  These four allow sums to be vectorized without that side effect.
FLAGS = [
    *("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
]
# Each is used only if the compiler accepts it.
OPTIONAL_FLAGS = ("-mprefer-vector-width=512", "-fopenmp")
# The user's own flags, which come after ours and win: "-march=x86-64-v3" builds for AVX2.
FLAGS_VARIABLE = "DLMIE_CFLAGS"

SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"


@dataclass(frozen=True)
class Blas:
    """A BLAS library as the linker wants it, and how its Fortran names are spelled."""

    name: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]


NO_BLAS = Blas("none", (), ())


def openblas() -> Blas | None:
    """scipy-openblas32, where it is installed."""
    if importlib.util.find_spec("scipy_openblas32") is None:
        return None
    import scipy_openblas32

    folder = scipy_openblas32.get_lib_dir()
    return Blas(
        f"scipy-openblas32 {scipy_openblas32.__version__}",
        ("-DDLMIE_BLAS", "-DBLAS_SYMBOL(name)=scipy_##name##_"),
        (f"-L{folder}", f"-l{scipy_openblas32.get_library()}", f"-Wl,-rpath,{folder}"),
    )


def user_flags() -> list[str]:
    """The flags in ``DLMIE_CFLAGS``, as a shell would split them."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def sources() -> list[Path]:
    """The C files of the library, in a fixed order."""
    return sorted(FOLDER.glob("*/*.c"))


def fingerprint() -> str:
    """SHA-256 of all that the library is made of, headers included."""
    digest = hashlib.sha256()
    for path in [*sources(), *sorted(FOLDER.glob("*/*.h"))]:
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(repr((FLAGS, OPTIONAL_FLAGS)).encode())
    return digest.hexdigest()


def accepts(compiler: list[str], flag: str) -> bool:
    """Whether the compiler knows a flag."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int main(void) { return 0; }\n")
        target = str(Path(folder, "probe"))
        return run([*compiler, "-Werror", flag, str(source), "-o", target]).returncode == 0


def compile_library(
    compiler: list[str], blas: Blas, target: Path, *, architecture: str = "native"
) -> None:
    """Compile every kernel, for float and for double, and link them to one shared library.

    Parameters
    ----------
    compiler : list of str
        The command that compiles C.
    blas : Blas
    target : Path
        The library. Its folder holds what is compiled meanwhile.
    architecture : str
        What ``-march`` names, if the compiler knows it; the user's own flags may say otherwise.

    Raises
    ------
    CompilerError
        Something does not compile; names the first error, the command and the user's flags.
    """
    headers = sorted({path.parent for path in FOLDER.glob("*/*.h")})
    include = [f"-I{folder}" for folder in headers]
    wanted = (f"-march={architecture}", *OPTIONAL_FLAGS)
    optional = [flag for flag in wanted if accepts(compiler, flag)]
    flags = [*FLAGS, *include, *optional, *blas.compile_flags, *user_flags()]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="dlmie_build_") as folder:
        jobs = []
        for source in sources():
            for precision in ("float", "double"):
                obj = Path(folder, f"{source.stem}_{precision}.o")
                define = [f"-DDLMIE_{precision.upper()}"]
                command = [*compiler, *flags, *define, "-c", str(source), "-o", str(obj)]
                jobs.append((command, obj))
        run_all([command for command, _ in jobs])
        # "-x c" would make the linker's driver read object files as C.
        linker = [part for part in compiler if part not in ("-x", "c")]
        shared = "-dynamiclib" if sys.platform == "darwin" else "-shared"
        openmp = [f for f in flags if f == "-fopenmp"]
        objects = [str(obj) for _, obj in jobs]
        built = Path(folder, "linked")
        run_all([[*linker, shared, *openmp, *objects, "-o", str(built), *blas.link_flags, "-lm"]])
        os.replace(built, target)


def run_all(commands: list[list[str]]) -> None:
    """Run the commands, one for each core at a time; raise CompilerError on the first failure."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for command, result in zip(commands, pool.map(run, commands), strict=True):
            if result.returncode != 0:
                reason = next((x for x in result.stderr.splitlines() if "error:" in x), "")
                own = f"{FLAGS_VARIABLE} is {shlex.join(user_flags())}; " if user_flags() else ""
                raise CompilerError(
                    f"the C kernels do not compile: {reason or result.stderr[-300:]} "
                    f"({own}command: {shlex.join(command)}; dlmie doctor checks the compiler)"
                )
