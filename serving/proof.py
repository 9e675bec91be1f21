"""Proves, before a version is published, that its ``model.tflite`` answers as its SavedModel does.

Both are asked the evidence, in this process: the SavedModel by TensorFlow, the other by the model server's own LiteRT
engine, in each signature that LiteRT answers; ``compare/verdict.py`` judges. A version whose file fails is published
without it; where only ``classify`` or ``regress`` fails, those are left to TensorFlow. The result is kept beside the
evidence (``<version>.proof.json``), so that nothing is proved twice.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.cold import fixed_batch
from compare.tolerances import limits_for
from compare.verdict import Verdict, verify
from models.artifacts import fingerprint, is_current, read_json, sha256_file, write_json
from models.side_by_side import side_by_side
from serving import litert_signatures
from serving.launch import SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from export.bundle import Export
    from export.evidence import Case

    Tensors = dict[str, NDArray]

_FORMAT = "3"  # part of the fingerprint: raise it when a proof looks at something else
PRECISION = "float32"  # what the `server` variant is
SECONDS = 0.5  # for each signature: a slow model answers fewer rows, and ``n`` says how many


@dataclass(frozen=True)
class SignatureProof:
    """One signature on both engines: the worst of its outputs, and the rows that were asked.

    ``tolerance`` holds for the relative or the absolute error, whichever is kinder; ``would_pass_at`` is what was needed.
    """

    verdict: str  # "pass" | "fail"
    max_abs: float | None
    would_pass_at: float | None
    tolerance: float | None
    n: int
    reason: str = ""
    on_examples: bool = False  # by litert.json, with tf.Example parsed in Python


@dataclass(frozen=True)
class Proof:
    """By signature."""

    signatures: dict[str, SignatureProof]
    problem: str = ""  # why LiteRT does not run the file at all

    @property
    def passed(self) -> list[str]:
        return [name for name, proof in self.signatures.items() if proof.verdict == "pass"]

    @property
    def failed(self) -> dict[str, str]:
        """The reason, by signature."""
        return {name: proof.reason for name, proof in self.signatures.items() if proof.verdict != "pass"}

    @property
    def against_file(self) -> str:
        """Why the file must not be served, in one sentence; empty where nothing speaks against it."""
        direct = [name for name, proof in self.signatures.items() if not proof.on_examples]
        if self.problem or not direct:
            return self.problem or "there is no evidence to ask it"
        return "; ".join(f"{name}: {self.failed[name]}" for name in direct if name in self.failed)


def prove_all(pairs: Sequence[tuple[Export, Path]]) -> None:
    """Make the proofs that are out of date, several at a time; ``prove`` then finds them. Raises ModelError, ArtifactError."""
    if due := [(export, file) for export, file in pairs if not is_current(_path(export), _made_from(export, file))]:
        side_by_side(_prove_pair, due)


def _prove_pair(pair: tuple[Export, Path]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    prove(*pair)


def _path(export: Export) -> Path:
    return export.evidence_json.with_suffix(".proof.json")


def prove(export: Export, tflite: Path) -> Proof:
    """The proof for ``tflite``, from ``<version>.proof.json`` where it is current. Raises ModelError, ArtifactError."""
    path, made_from = _path(export), _made_from(export, tflite)
    if is_current(path, made_from):
        kept = read_json(path)
        return Proof({name: SignatureProof(**proof) for name, proof in kept["signatures"].items()}, kept["problem"])
    proof = _prove(export, tflite)
    write_json(path, {"schema": 1, **asdict(proof), "made_from": made_from})
    return proof


def _made_from(export: Export, tflite: Path) -> str:
    contents = [sha256_file(path) for path in (export.saved_model / "saved_model.pb", tflite)]
    versions = [importlib.metadata.version(package) for package in ("tensorflow", "ai-edge-litert")]
    judged_by = [str(limits_for(PRECISION)), export.description["evidence"]["sha256"], export.sha256]
    return fingerprint([], extra=" ".join([_FORMAT, *contents, *versions, *judged_by]))


def _prove(export: Export, tflite: Path) -> Proof:
    if str(SERVER) not in sys.path:  # the server ships alone, so it is no package of this repository
        sys.path.append(str(SERVER))
    from model_server.errors import ServingError
    from model_server.flags import Options
    from model_server.servable import Servable

    with tempfile.TemporaryDirectory(prefix="proof-") as temporary:
        folder = Path(temporary) / str(export.version)
        shutil.copytree(export.saved_model, folder, copy_function=os.symlink)
        (folder / "model.tflite").symlink_to(tflite)
        litert_signatures.write(folder, export)
        try:
            servable = Servable(export.model, export.version, folder, Options())
            cases = {name: answered for name in servable.light_signatures if (answered := _cases(export, name))}
            if export.description["reference"] != "savedmodel":
                cases = _answered_by_tensorflow(export, cases)
            on_examples = litert_signatures.candidates(export)
            return Proof(
                {
                    name: _summary(_ask(servable, name, rows, export), name in on_examples)
                    for name, rows in cases.items()
                }
            )
        except ServingError as error:
            return Proof({}, f"LiteRT cannot run it: {error.message}")


def _cases(export: Export, signature: str) -> list[Case]:
    """The evidence of a signature; ``static`` is ``serving_default`` for a fixed batch and shares its rows.

    Without labels: only ``serving_default`` names its outputs as the decision and the metric do, and values say enough.
    """
    found = export.evidence.cases(signature) or (export.evidence.cases() if signature == "static" else [])
    return [replace(case, labels=None) for case in found]


def _answered_by_tensorflow(export: Export, cases: dict[str, list[Case]]) -> dict[str, list[Case]]:
    """The same rows with the SavedModel's answers: those recorded are the Keras model's."""
    from export.running import LoadedModel

    loaded = LoadedModel(export.saved_model)
    return {
        name: [replace(case, outputs=loaded.signature(name).run(case.inputs)) for case in rows]
        for name, rows in cases.items()
    }


def _ask(servable: Any, name: str, cases: list[Case], export: Export) -> Verdict:
    signature = servable.signature(name)

    def predict(inputs: Tensors) -> Tensors:
        return servable.run(signature, inputs, signature.outputs)

    batch = fixed_batch(export)
    return verify(predict, cases, export.spec, precision=PRECISION, fixed_batch=batch, seconds=SECONDS)


def _summary(verdict: Verdict, on_examples: bool) -> SignatureProof:
    def worst(errors: list[float | None]) -> float | None:
        """None where names, dtypes or shapes were already wrong."""
        return None if None in errors else max(error for error in errors if error is not None)

    return SignatureProof(
        verdict.verdict,
        worst([output.max_abs for output in verdict.outputs]),
        worst([output.would_pass_at for output in verdict.outputs]),
        verdict.outputs[0].tolerance,
        min(output.n for output in verdict.outputs),
        verdict.reason,
        on_examples,
    )
