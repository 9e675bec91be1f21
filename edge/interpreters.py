"""The packages that run a .tflite file, behind one interface: which are installed, and an interpreter of one of them.

All three give the same Python class. ai-edge-litert is the newest; tflite-runtime 2.14 is what 32-bit ARM has;
TensorFlow brings its own where it is installed anyway.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

from edge.errors import ModelFileError, SettingError

if TYPE_CHECKING:
    from types import ModuleType

# Runtime → the module with its interpreter, and the names of the package that brings it.
_RUNTIMES = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", ("ai-edge-litert", "ai-edge-litert-nightly")),
    "tflite-runtime": ("tflite_runtime.interpreter", ("tflite-runtime",)),
    "tensorflow": ("tensorflow.lite.python.interpreter", ("tensorflow", "tensorflow-cpu")),
}
RUNTIMES = tuple(_RUNTIMES)
NO_DELEGATE = "none"
_DELEGATE_FORMS = (
    "give the path of a delegate's shared library (for an Edge TPU libedgetpu.so.1, from the package libedgetpu1-std), "
    f"'{NO_DELEGATE}', or nothing for XNNPACK"
)


def installed_runtimes() -> dict[str, str]:
    """Runtime → version, in the order in which one is chosen. Nothing is imported for it."""
    return {runtime: version for runtime in RUNTIMES if (version := _version(runtime))}


def choose_runtime(runtime: str | None = None) -> tuple[str, str]:
    """Name and version of ``runtime``, or of the first that is installed. Raises SettingError with the remedy."""
    if runtime is not None and runtime not in _RUNTIMES:
        raise SettingError(f"there is no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    for name in [runtime] if runtime else RUNTIMES:
        if version := _version(name):
            return name, version
    installed = ", ".join(f"{name} {version}" for name, version in installed_runtimes().items()) or "none"
    what = f"the runtime {runtime!r} is" if runtime else "a runtime for .tflite files is"
    remedy = f"pip install {runtime or RUNTIMES[0]}"
    if runtime == "tflite-runtime":
        remedy += " (Python 3.11 or older, NumPy 1)"
    raise SettingError(f"{what} not installed here; installed: {installed}; {remedy}")


def import_runtime(runtime: str | None = None) -> tuple[str, ModuleType]:
    """``"ai-edge-litert 2.3.0"`` and its module, for ``choose_runtime``'s choice. Raises SettingError with the remedy."""
    name, version = choose_runtime(runtime)
    if name == "tensorflow":  # at each interpreter, that it will be removed one day
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
    try:
        return f"{name} {version}", importlib.import_module(_RUNTIMES[name][0])
    except Exception as error:  # a library built for another NumPy raises whatever it likes
        raise SettingError(
            f"{name} {version} is installed but cannot be imported ({in_words(error)}); install it again"
        ) from error


def load_interpreter(
    content: bytes,
    *,
    runtime: str | None = None,
    threads: int = 1,
    delegate: str | None = None,
    file: object = "the file",
) -> Any:
    """An interpreter of the chosen runtime with its tensors allocated; ``file`` is how messages call the content.

    ``runtime``: one of RUNTIMES, None for the first that is installed. ``threads``: of one invocation. ``delegate``:
    None for XNNPACK as the runtime applies it, "none" for the built-in kernels alone, else the path of an external
    delegate's shared library, options behind it as ``path;key=value;key=value``. What it leaves goes to XNNPACK.

    Raises SettingError for a runtime, a number of threads or a delegate that cannot be had here, ModelFileError when
    the runtime (or the delegate) refuses the file; tflite-runtime 2.14 does not verify it, and a truncated one ends the
    process, so compare its digest first. Not for two threads at once.
    """
    if threads < 1:
        raise SettingError(f"{threads} threads cannot run anything; use 1 or more")
    label, module = import_runtime(runtime)
    options: dict[str, Any] = {}
    if delegate == NO_DELEGATE:  # not BUILTIN_REF, with which tflite-runtime 2.14 gives wrong answers
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    elif delegate is not None:
        options["experimental_delegates"] = [_load_delegate(module, delegate)]
    try:
        interpreter = module.Interpreter(model_content=content, num_threads=threads, **options)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        with_delegate = f" with the delegate {delegate}" if "experimental_delegates" in options else ""
        raise ModelFileError(f"{label}{with_delegate} cannot load {file}: {in_words(error)}") from error
    return interpreter


_NEWER_OPERATOR = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")


def in_words(error: Exception) -> str:
    """A runtime's reason as one line; for the frequent one, a file that is newer than the runtime, with the remedy."""
    if newer := _NEWER_OPERATOR.search(str(error)):
        return (
            f"it is older than the file and lacks version {newer[2]} of {newer[1]}; take a newer runtime, or another "
            "variant of the model (for tflite-runtime 2.14: float32, float16 or int8, not dynamic)"
        )
    return " ".join(str(error).split())


def _version(runtime: str) -> str | None:
    for package in _RUNTIMES[runtime][1]:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def _load_delegate(module: ModuleType, delegate: str) -> Any:
    """The plugin interface: TensorFlow's ``external_delegate_interface.h``, two C functions."""
    library, *pairs = delegate.split(";")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise SettingError(f"the delegate {library!r} cannot be loaded: {error}; {_DELEGATE_FORMS}") from None
    if not hasattr(loaded, "tflite_plugin_create_delegate") or not hasattr(loaded, "tflite_plugin_destroy_delegate"):
        raise SettingError(
            f"{library} is a library, but no delegate: it has no tflite_plugin_create_delegate; {_DELEGATE_FORMS}"
        )
    try:
        return module.load_delegate(library, options)
    except ValueError as error:
        raise SettingError(
            f"the delegate {library} does not start ({in_words(error)}); check that its device is there and may be "
            f"opened by this user, or {_DELEGATE_FORMS}"
        ) from error
