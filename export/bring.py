"""Bring your own model: a SavedModel folder or a ``.keras`` file becomes an Export like those of our own models.

What is known of it is what its signature says. The inputs are the user's, or made up; the answers recorded are those of
the Keras model where there is one, else of the SavedModel itself, run by TensorFlow.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.build import describe
from export.bundle import Export
from export.evidence import store
from models.artifacts import fingerprint, is_current, sha256_file, sweep, write_whole
from models.errors import ModelError
from models.spec import ModelSpec, TensorSpec

SAMPLES, SEED = 32, 41
# What an unknown inner size becomes: small, and not 1, which would hide broadcasting.
INNER_SIZE = 8
STRINGS = (b"", b"a", b"hello world", b"Export once", b"0123456789", "Grüße".encode(), "日本語".encode(), b"x" * 100)

Rows = dict[str, NDArray]


def bring(path: Path, *, name: str, root: Path, inputs_npz: Path | None = None) -> Export:
    """Copy or export ``path`` into ``root`` as version 1 of ``name``, with evidence. The user's files are only read.

    The description (``Export.description``) says under ``"brought"`` which signature was taken, where the inputs come
    from, which sizes were chosen, and whether the model is deterministic. Raises ModelError, one sentence with a remedy, for
    anything that cannot be used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path = path.expanduser().resolve()
    inputs_npz = inputs_npz.expanduser().resolve() if inputs_npz else None
    given = read_inputs(inputs_npz) if inputs_npz else None
    is_keras = _is_keras(path)
    export = Export(root.resolve(), name, 1)
    here = Path(__file__).parent
    sources = [path, *([inputs_npz] if inputs_npz else [])]
    made_from = fingerprint([*sources, here / "bring.py", here / "evidence.py"], extra=name)
    if is_current(export.evidence_json, made_from) and export.saved_model.is_dir():
        return export
    sweep(export.root)
    export.evidence_json.unlink(missing_ok=True)
    # Kept from an earlier model of that name, it would be taken for the reference.
    shutil.rmtree(export.keras_file.parent, ignore_errors=True)
    if is_keras:
        from export.brought_keras import export_keras

        export_keras(path, export)
    else:
        _copy(path, export)
    _record(export, given, path=path, reference="keras" if is_keras else "savedmodel", made_from=made_from)
    return export


def _is_keras(path: Path) -> bool:
    """Whether ``path`` is a Keras file. Raises ModelError when it is neither that nor a folder with a SavedModel."""
    if not path.exists():
        raise ModelError(f"{path} does not exist; give a SavedModel folder or a .keras file")
    if path.is_file():
        if zipfile.is_zipfile(path):
            return True
        if path.name == "saved_model.pb":
            raise ModelError(f"{path} is one file of a SavedModel; give its folder, {path.parent}")
        if path.suffix in (".h5", ".hdf5"):
            raise ModelError(f"{path} is an HDF5 file; load it with Keras and save it again as .keras, or export it")
        raise ModelError(
            f"{path} is no Keras file (a .keras file is a zip archive); save the model again with model.save()"
        )
    if not (path / "saved_model.pb").is_file():
        versions = sorted(
            (p.name for p in path.iterdir() if p.name.isdigit() and (p / "saved_model.pb").is_file()),
            key=lambda v: (len(v), v),
        )
        hint = f"; it holds versions, give one of them, for example {path / versions[-1]}" if versions else ""
        raise ModelError(
            f"{path} is no SavedModel: it has no saved_model.pb"
            + (hint or "; give the folder that model.export() wrote")
        )
    return False


def _copy(path: Path, export: Export) -> None:
    from export.inspection import check_variables

    check_variables(path)
    with write_whole(export.saved_model) as folder:
        shutil.copytree(path, folder)


def _record(export: Export, given: Rows | None, *, path: Path, reference: str, made_from: str) -> None:
    from export.inspection import read_signatures
    from export.running import LoadedModel

    signatures = read_signatures(export.saved_model)
    usable = {n: s for n, s in signatures.items() if s["inputs"] and s["outputs"]}
    if not usable:
        raise ModelError(
            f"{path} has no signature that can be called with inputs; export it with a serving_default signature"
        )
    signature = "serving_default" if "serving_default" in usable else min(usable)
    spec, chosen = spec_of(export.model, signature, signatures[signature])
    rows = check_inputs(given, spec) if given is not None else default_inputs(spec, chosen)
    runner = LoadedModel(export.saved_model, path).signature(signature)
    answers, again = runner.run(rows), runner.run(rows)
    deterministic = all(_same(answers[k], again[k]) for k in answers)
    if reference == "keras":
        from export.brought_keras import run_keras

        answers = run_keras(export, rows, list(answers))
    arrays: dict[str, NDArray] = {}
    # Given inputs are samples of the user's data; made-up ones are random. Neither has labels.
    kind = "test" if given is not None else "random"
    for side, tensors in (("in", rows), ("out", answers)):
        for key, values in tensors.items():
            store(arrays, f"{signature}/{kind}/{side}/{key}", values)
    for key, values in rows.items():
        store(arrays, f"{signature}/calibration/in/{key}", values)
    brought = {
        "signature": signature,
        "inputs": "given" if given is not None else "made up",
        "chosen_sizes": {} if given is not None else {name: size for name, size in chosen.items() if size},
        "deterministic": deterministic,
    }
    lineage: dict[str, Any] = {"source": str(path)}
    if reference == "keras":
        lineage["keras_sha256"] = sha256_file(export.keras_file)
    describe(export, spec.to_json(), signatures, arrays, reference, lineage, made_from, brought=brought)


def spec_of(name: str, signature: str, tensors: dict[str, Any]) -> tuple[ModelSpec, dict[str, list[int]]]:
    """A ModelSpec read from a signature, and by input the sizes that were chosen for unknown inner dimensions."""
    inputs, chosen = [], {}
    for tensor in tensors["inputs"]:
        if tensor["shape"] is None:
            raise ModelError(
                f"input {tensor['name']!r} of signature {signature!r} has no stated rank; export it with an input_signature that states the shape"
            )
        if not _is_usable(tensor["dtype"]):
            raise ModelError(
                f"input {tensor['name']!r} of signature {signature!r} has dtype {tensor['dtype']}; only float, int, bool and string inputs can be compared"
            )
        if not tensor["shape"]:
            raise ModelError(
                f"input {tensor['name']!r} is a scalar without a batch axis; give it one with an input_signature of shape [None]"
            )
        inputs.append(TensorSpec(tensor["name"], tuple(tensor["shape"]), tensor["dtype"]))
        chosen[tensor["name"]] = [INNER_SIZE for size in tensor["shape"][1:] if size is None]
    for tensor in tensors["outputs"]:
        if not _is_usable(tensor["dtype"]):
            raise ModelError(
                f"output {tensor['name']!r} of signature {signature!r} has dtype {tensor['dtype']}; only float, int, bool and string outputs can be compared"
            )
    outputs = tuple(TensorSpec(t["name"], tuple(t["shape"] or (None,)), t["dtype"]) for t in tensors["outputs"])
    return ModelSpec(name, f"your own model, signature {signature}", tuple(inputs), outputs), chosen


def _is_usable(dtype: str) -> bool:
    return dtype in ("string", "bool") or dtype.startswith(("float", "int", "uint"))


def default_inputs(spec: ModelSpec, chosen: dict[str, list[int]]) -> Rows:
    """Made-up rows: floats N(0, 1), ints and booleans 0 or 1, strings from a fixed list."""
    rows = {}
    batches = {t.shape[0] for t in spec.inputs if t.shape[0] is not None}
    # With a batch that is fixed, a few whole batches.
    count = next(iter(batches)) * max(1, -(-4 // max(1, next(iter(batches))))) if len(batches) == 1 else SAMPLES
    generator = np.random.default_rng(SEED)
    for tensor in spec.inputs:
        shape = (count, *(INNER_SIZE if size is None else size for size in tensor.shape[1:]))
        rows[tensor.name] = _made_up(shape, tensor.dtype, generator)
    return rows


def _made_up(shape: tuple[int, ...], dtype: str, generator: np.random.Generator) -> NDArray:
    if dtype == "string":
        values = np.empty(int(np.prod(shape)), object)
        values[:] = [STRINGS[i % len(STRINGS)] for i in range(values.size)]
        return values.reshape(shape)
    if dtype == "bool" or dtype.startswith(("int", "uint")):
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def read_inputs(path: Path) -> Rows:
    """The arrays of the user's ``.npz``. Raises ModelError."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            rows = dict(file)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; give an .npz file whose keys are the names of the inputs") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        what = "holds Python objects" if "Object arrays" in str(error) else "is no NumPy archive"
        raise ModelError(
            f"{path} {what}; write it with numpy.savez from numbers, and strings as a bytes array"
        ) from error
    return rows


def check_inputs(rows: Rows, spec: ModelSpec) -> Rows:
    """The user's rows in the signature's dtypes. Raises ModelError, one sentence, for the first thing that does not fit."""
    wanted = [t.name for t in spec.inputs]
    if set(rows) != set(wanted):
        raise ModelError(
            f"INPUTS has the keys {sorted(rows)}, but the model's inputs are {sorted(wanted)}; rename them"
        )
    counts = {name: len(values) if values.ndim else 0 for name, values in rows.items()}
    if len(set(counts.values())) != 1:
        raise ModelError(f"INPUTS has different numbers of rows ({counts}); give the same number for every input")
    return {t.name: _checked(rows[t.name], t) for t in spec.inputs}


def _checked(values: NDArray, tensor: TensorSpec) -> NDArray:
    name, shape = tensor.name, tensor.shape
    free = ", ".join("any" if size is None else str(size) for size in shape)
    if values.ndim != len(shape) or any(
        size is not None and size != got for size, got in zip(shape[1:], values.shape[1:], strict=True)
    ):
        raise ModelError(f"INPUTS {name!r} has shape {list(values.shape)}, but the model takes [{free}]; reshape it")
    if len(values) < 4:
        raise ModelError(f"INPUTS {name!r} has {len(values)} rows; give at least 4")
    if shape[0] is not None and len(values) % shape[0]:
        raise ModelError(
            f"INPUTS {name!r} has {len(values)} rows, but the model takes {shape[0]} at a time; give a multiple"
        )
    if tensor.dtype == "string":
        if values.dtype.kind not in "SU":
            raise ModelError(
                f"INPUTS {name!r} has dtype {values.dtype}, but the model takes strings; store them as bytes"
            )
        texts = np.empty(values.size, object)
        texts[:] = [v if isinstance(v, bytes) else v.encode() for v in values.ravel().tolist()]
        return texts.reshape(values.shape)
    if values.dtype.kind not in "biuf" or not np.can_cast(values.dtype, np.dtype(tensor.dtype), "same_kind"):
        raise ModelError(
            f"INPUTS {name!r} has dtype {values.dtype}, but the model takes {tensor.dtype}; convert it with astype"
        )
    cast = values.astype(tensor.dtype)
    if values.dtype.kind in "iu" and not np.array_equal(cast, values):
        raise ModelError(f"INPUTS {name!r} has values that do not fit into {tensor.dtype}; convert it with care")
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        raise ModelError(
            f"INPUTS {name!r} holds {int((~np.isfinite(cast)).sum())} values that are NaN or infinite; remove those rows"
        )
    return cast


def _same(a: NDArray, b: NDArray) -> bool:
    """Whether two answers to the same rows agree. A last bit that threads sum up differently is no randomness."""
    if a.dtype.kind == "f" and a.shape == b.shape:
        return bool(np.allclose(a, b, rtol=1e-5, atol=1e-5, equal_nan=True))
    return bool(np.array_equal(a, b))
