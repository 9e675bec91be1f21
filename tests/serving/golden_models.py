"""The SavedModels that the recordings in ``golden/`` speak of: small graphs, each with one property that a server can get wrong.

    python tests/serving/golden_models.py FOLDER

``FOLDER/<model>/<version>/`` is a base path to serve; ``FOLDER/parts/<name>/`` is one version, good or broken, for tests
that publish versions one after the other.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

v1 = tf.compat.v1
FLOATS = tf.TensorSpec([None], tf.float32)
GRID = tf.TensorSpec([None, None], tf.float32)
SCALAR = tf.TensorSpec([], tf.float32)
STRINGS = tf.TensorSpec([None], tf.string)
# What the dtypes model gives back as it comes, under the signature id_<key>.
DTYPES = {
    "f32": tf.float32, "f64": tf.float64, "f16": tf.float16, "bf16": tf.bfloat16, "i8": tf.int8, "i16": tf.int16,
    "i32": tf.int32, "i64": tf.int64, "u8": tf.uint8, "u16": tf.uint16, "u32": tf.uint32, "u64": tf.uint64,
    "bool": tf.bool, "str": tf.string, "c64": tf.complex64,
}  # fmt: skip


def traced(body: Callable, **inputs: tf.TensorSpec) -> Any:
    """A function of named inputs, ready to be a signature."""
    return tf.function(body, input_signature=[tf.TensorSpec(s.shape, s.dtype, name) for name, s in inputs.items()])


def save(folder: Path, signatures: dict[str, Any], **state: Any) -> None:
    """A TF2 SavedModel; ``state`` are the variables and tables that the signatures use."""
    module = tf.Module()
    for name, value in state.items():
        setattr(module, name, value)
    tf.saved_model.save(module, str(folder), signatures=signatures)


class V1Graph:
    """A graph-mode SavedModel in the making: only there do signatures keep the method names classify and regress."""

    def __init__(self) -> None:
        self.graph = tf.Graph()

    def save(self, folder: Path, signatures: dict[str, tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
        """``signatures``: name → (method: predict, classify or regress; input tensors; output tensors)."""

        def info(tensors: dict[str, Any]) -> dict[str, Any]:
            return {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}

        with self.graph.as_default(), v1.Session() as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(folder))
            definitions = {
                name: v1.saved_model.build_signature_def(info(inputs), info(outputs), f"tensorflow/serving/{method}")
                for name, (method, inputs, outputs) in signatures.items()
            }
            builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=definitions)
            builder.save()


# ------------------------------------------------------------------ linear models


def half(folder: Path) -> None:
    """y = x / 2 + 2, with classify and regress signatures, some of them on a feature that may be missing."""
    v1_graph = V1Graph()
    with v1_graph.graph.as_default():
        serialized = v1.placeholder(tf.string, name="tf_example")
        features = v1.parse_example(
            serialized,
            {
                "x": v1.FixedLenFeature([1], tf.float32),
                "x2": v1.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        a, b, c = (v1.Variable(value, name=name) for name, value in (("a", 0.5), ("b", 2.0), ("c", 3.0)))
        x, x2 = tf.identity(features["x"], name="x"), tf.identity(features["x2"], name="x2")
        y = tf.add(tf.multiply(a, x), b, name="y")
        y2 = tf.add(tf.multiply(a, x), c, name="y2")
        y3 = tf.add(tf.multiply(a, x2), c, name="y3")
    v1_graph.save(
        folder,
        {
            "serving_default": ("predict", {"x": x}, {"y": y}),
            "regress_x_to_y": ("regress", {"inputs": serialized}, {"outputs": y}),
            "regress_x_to_y2": ("regress", {"inputs": serialized}, {"outputs": y2}),
            "regress_x2_to_y3": ("regress", {"inputs": x2}, {"outputs": y3}),
            "classify_x_to_y": ("classify", {"inputs": serialized}, {"scores": y}),
            "classify_x2_to_y3": ("classify", {"inputs": x2}, {"scores": y3}),
        },
    )


def half_tf2(folder: Path) -> None:
    """The same saved by TF2, where every signature's method is predict."""
    a, b = tf.Variable(0.5), tf.Variable(2.0)

    def line(examples: tf.Tensor) -> tf.Tensor:
        return a * tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"] + b

    signatures = {
        "serving_default": traced(lambda x: {"y": a * x + b}, x=FLOATS),
        "classify_x_to_y": traced(lambda inputs: {"scores": line(inputs)}, inputs=STRINGS),
        "regress_x_to_y": traced(lambda inputs: {"outputs": line(inputs)}, inputs=STRINGS),
    }
    save(folder, signatures, a=a, b=b)


def numbered(folder: Path, number: int) -> None:
    """Version N of a model that tells which version answered: y = x / 2 + (N + 1)."""
    a, b = tf.Variable(0.5), tf.Variable(float(number + 1))
    save(folder, {"serving_default": traced(lambda x: {"y": a * x + b}, x=FLOATS)}, a=a, b=b)


# ------------------------------------------------------------------ shapes and dtypes


def multi(folder: Path) -> None:
    """Several inputs and outputs, with and without a batch axis."""
    signatures = {
        "serving_default": traced(
            lambda a, b: {
                "sum": a + tf.reduce_sum(b, axis=1),
                "scaled": b * a[:, None],
                "count": tf.fill([tf.shape(a)[0]], tf.shape(b)[1]),
            },
            a=FLOATS,
            b=tf.TensorSpec([None, 3], tf.float32),
        ),
        "loose": traced(lambda a, b: {"sa": a * 2.0, "sb": b * 3.0}, a=FLOATS, b=FLOATS),
        "scalar": traced(lambda x: {"y": x + 1.0}, x=SCALAR),
        "total": traced(lambda x: {"y": tf.reduce_sum(x)}, x=FLOATS),
        "empty": traced(lambda x: {"y": x[:, :0]}, x=GRID),
        "uneven": traced(lambda x: {"every": x + 0.0, "first": x[:1]}, x=FLOATS),
    }
    save(folder, signatures)


def strs(folder: Path) -> None:
    """Strings; an output whose name ends in _bytes is base64 in JSON."""
    signatures = {
        "serving_default": traced(
            lambda s: {"upper": tf.strings.upper(s), "raw_bytes": tf.identity(s), "length": tf.strings.length(s)},
            s=STRINGS,
        ),
        "one": traced(lambda s: {"t": tf.identity(s)}, s=STRINGS),
        "b64": traced(lambda s_bytes: {"out_bytes": tf.identity(s_bytes)}, s_bytes=STRINGS),
        "grid": traced(
            lambda s: {"joined": tf.strings.reduce_join(s, axis=1, separator="|")},
            s=tf.TensorSpec([None, None], tf.string),
        ),
    }
    save(folder, signatures)


def dtypes(folder: Path) -> None:
    """Every dtype, given back as it comes."""
    signatures = {
        f"id_{name}": traced(lambda x: {"y": tf.identity(x)}, x=tf.TensorSpec(None, dtype))
        for name, dtype in DTYPES.items()
    }
    # float16 only on the way out, so that REST has to print it
    signatures["to_f16"] = traced(lambda x: {"y": tf.cast(x, tf.float16)}, x=FLOATS)
    save(folder, {**signatures, "serving_default": signatures["id_f32"]}, kept=tf.Variable(1.0))


def nonfinite(folder: Path) -> None:
    """Answers with NaN and infinities, and a graph that fails while it runs."""
    signatures = {
        "serving_default": traced(lambda x: {"y": tf.math.log(x)}, x=FLOATS),
        "checked": traced(lambda x: {"y": tf.debugging.check_numerics(x, "kit says no")}, x=FLOATS),
    }
    save(folder, signatures)


def big(folder: Path) -> None:
    signatures = {
        "serving_default": traced(lambda x: {"total": tf.reduce_sum(x, axis=1)}, x=GRID),
        "echo": traced(lambda x: {"y": tf.identity(x)}, x=GRID),
    }
    save(folder, signatures)


def matrix(folder: Path) -> None:
    w = tf.Variable([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    save(
        folder,
        {"serving_default": traced(lambda x: {"y": tf.matmul(x, w)}, x=tf.TensorSpec([None, 3], tf.float32))},
        w=w,
    )


# ------------------------------------------------------------------ state and time


def counter(folder: Path) -> None:
    """Counts, so that one can see how often something ran; a signature without inputs."""
    count = tf.Variable(0.0)
    get = traced(lambda: {"output": tf.identity(count)})
    signatures = {
        "serving_default": get,
        "get_counter": get,
        "incr_counter": traced(lambda: {"output": count.assign_add(1.0)}),
        "reset_counter": traced(lambda: {"output": count.assign(0.0)}),
        "incr_counter_by": traced(lambda delta: {"output": count.assign_add(delta)}, delta=SCALAR),
    }
    save(folder, signatures, count=count)


def slow(folder: Path) -> None:
    """Runs a loop of n steps; 2,000,000,000 of them do not end while a test waits."""

    def spin(n: tf.Tensor) -> dict[str, tf.Tensor]:
        _, value = tf.while_loop(
            lambda i, _: i < n[0],
            lambda i, value: (i + 1, value * 0.5 + 1.0),
            (tf.constant(0), tf.constant(0.0)),
            parallel_iterations=1,
        )
        return {"y": tf.fill(tf.shape(n), value)}

    save(folder, {"serving_default": traced(spin, n=tf.TensorSpec([None], tf.int32))})


def probe(folder: Path) -> None:
    """Tells with how many rows the graph ran (``rows``), which shows batching."""

    def rows(x: tf.Tensor) -> dict[str, tf.Tensor]:
        n = tf.shape(x)[0]
        return {"y": x * 2.0, "rows": tf.fill([n], n)}

    signatures = {
        "serving_default": traced(rows, x=GRID),
        "two": traced(lambda a, b: {"sa": a * 2.0, "sb": b * 3.0}, a=FLOATS, b=FLOATS),
        "scalar": traced(lambda x: {"y": x + 1.0}, x=SCALAR),
        "total": traced(lambda x: {"y": tf.reduce_sum(x)}, x=FLOATS),
    }
    save(folder, signatures)


# ------------------------------------------------------------------ tf.Example


def classes(folder: Path) -> None:
    """Three labels, with and without scores, and regressions that are not of one float a row."""
    v1_graph = V1Graph()
    with v1_graph.graph.as_default():
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        features = v1.parse_example(
            serialized,
            {
                "score": v1.FixedLenFeature([3], tf.float32),
                "tag": v1.FixedLenFeature([1], tf.string, default_value=["none"]),
                "k": v1.FixedLenFeature([1], tf.int64, default_value=[0]),
            },
        )
        scores = tf.identity(features["score"], name="score_out")
        names = tf.tile(tf.constant([["ant", "bee", "cat"]]), tf.stack([tf.shape(scores)[0], 1]))
        labels = tf.strings.join([names, tf.tile(features["tag"], [1, 3])], separator=":")
        best = tf.cast(tf.argmax(scores, axis=1), tf.float32)
        v1.Variable(1.0)  # a SavedModel without variables has no variables folder
        tag, k = tf.identity(features["tag"]), tf.identity(features["k"])
    inputs = {"inputs": serialized}
    v1_graph.save(
        folder,
        {
            "serving_default": ("classify", inputs, {"classes": labels, "scores": scores}),
            "labels_only": ("classify", inputs, {"classes": labels}),
            "scores_only": ("classify", inputs, {"scores": scores}),
            "best": ("regress", inputs, {"outputs": best}),
            "wide_regress": ("regress", inputs, {"outputs": scores}),
            "string_regress": ("regress", inputs, {"outputs": tag}),
            "int_regress": ("regress", inputs, {"outputs": k}),
        },
    )


# ------------------------------------------------------------------ warm-up


def predict_log(model: str, signature: str, inputs: dict[str, list[float]]) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log


def inference_logs() -> list[Any]:
    """A regress, a classify and a multi-inference record of one example."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0)
    regress, classify, both = (prediction_log_pb2.PredictionLog() for _ in range(3))
    request = regress.regress_log.request
    request.model_spec.name, request.model_spec.signature_name = "m", "regress_x_to_y"
    request.input.example_list.examples.append(example)
    request = classify.classify_log.request
    request.model_spec.name, request.model_spec.signature_name = "m", "classify_x_to_y"
    request.input.example_list.examples.append(example)
    request = both.multi_inference_log.request
    task = request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "m", "regress_x_to_y"
    request.input.example_list.examples.append(example)
    return [regress, classify, both]


def with_warmup(source: Path, folder: Path, records: Iterable[Any]) -> None:
    """A copy of a version with these warm-up records."""
    shutil.copytree(source, folder)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record.SerializeToString())


def warm(source: Path, parts: Path) -> None:
    """Copies of ``half`` whose warm-up files are right or wrong in one way each."""
    predict = predict_log("m", "serving_default", {"x": [1.0, 2.0]})
    session_run = prediction_log_pb2.PredictionLog()
    session_run.session_run_log.SetInParent()
    with_warmup(source, parts / "warm_all", [predict, *inference_logs()])
    with_warmup(source, parts / "warm_badsig", [predict_log("m", "no_such_signature", {"x": [1.0]})])
    with_warmup(source, parts / "warm_badinput", [predict_log("m", "serving_default", {"nope": [1.0]})])
    with_warmup(source, parts / "warm_sessionrun", [session_run])
    with_warmup(source, parts / "warm_toomany", [predict] * 1001)
    with_warmup(source, parts / "warm_notrecord", [])
    text = b"plain text, not a TFRecord file at all, long enough to hold a header\n" * 4
    (parts / "warm_notrecord" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(text)


# ------------------------------------------------------------------ broken versions


def broken(parts: Path) -> None:
    """Versions that cannot be loaded, or that load and then fail."""
    (parts / "hollow").mkdir()
    (parts / "garbage").mkdir()
    (parts / "garbage" / "saved_model.pb").write_bytes(b"\x08\xff\xffthis is not a SavedModel" * 20)
    shutil.copytree(parts / "v2", parts / "novars")
    (parts / "novars" / "variables" / "variables.data-00000-of-00001").unlink()
    shutil.copytree(parts / "v2", parts / "novardir")
    shutil.rmtree(parts / "novardir" / "variables")
    shutil.copytree(parts / "v2", parts / "badtags")
    file = parts / "badtags" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].meta_info_def.tags[:] = ["other_tag"]
    file.write_bytes(saved.SerializeToString())

    words = parts / "vocab.txt"
    words.write_text("red\ngreen\nblue\n")
    asset = tf.saved_model.Asset(str(words))
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            asset.asset_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )
    lookup = traced(lambda word: {"index": table.lookup(word)}, word=STRINGS)
    save(parts / "noasset", {"serving_default": lookup}, asset=asset, table=table)
    shutil.rmtree(parts / "noasset" / "assets")


def build(folder: Path) -> None:
    tf.get_logger().setLevel("ERROR")
    parts = folder / "parts"
    parts.mkdir(parents=True)
    models = (half, half_tf2, multi, strs, dtypes, nonfinite, counter, slow, big, matrix, probe, classes)
    for model in models:
        model(folder / model.__name__ / "1")
    shutil.copytree(folder / "half" / "1", folder / "padded_version" / "00000123")
    for number in (1, 2, 3, 4):
        numbered(parts / f"v{number}", number)
    for number in (1, 2, 3):
        shutil.copytree(parts / f"v{number}", folder / "triple" / str(number))
    increments = [predict_log("warm_counter", "incr_counter", {})] * 2
    with_warmup(folder / "counter" / "1", folder / "warm_counter" / "1", increments)
    warm(folder / "half" / "1", parts)
    broken(parts)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
