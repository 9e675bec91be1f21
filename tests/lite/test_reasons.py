"""Converter messages, as TensorFlow 2.20 writes them, become one sentence."""

from __future__ import annotations

from lite.reasons import LONGEST, plain_reason

UNSUPPORTED = """Could not translate MLIR to FlatBuffer. UNKNOWN: <unknown>:0: error: loc(callsite(fused["StridedSlice:", \
"strided_slice@__inference_serving_41"] at fused["StatefulPartitionedCall:"])): 'tf.UnicodeDecode' op is neither a custom op nor a flex op
<unknown>:0: error: failed while converting: 'main':
Some ops are not supported by the native TFLite runtime, you can enable TF kernels fallback using TF Select. See instructions
TF Select ops: UnicodeDecode, StringSplitV2
Details:
\ttf.UnicodeDecode(tensor<?x!tf_type.string>) -> (tensor<?xi64>, tensor<?xi32>) : {device = ""}
"""


def test_reason_with_unsupported_operators_names_them():
    assert plain_reason(UNSUPPORTED) == (
        "TFLite has no built-in operator for StringSplitV2, UnicodeDecode; a server with TensorFlow can run this model"
    )


def test_reason_with_one_failed_operator_names_it():
    message = "/x/lite.py:9:0: error: 'tf.Einsum' op is neither a custom op nor a flex op\nmore"
    assert plain_reason(message).startswith("TFLite has no built-in operator for Einsum;")


def test_reason_without_operators_is_the_first_line():
    assert plain_reason("\n  Unsupported data type\nTraceback …") == "Unsupported data type"
    assert len(plain_reason("x" * 5000)) == LONGEST + 1
    assert plain_reason("") == "the TFLite converter gave no reason"


def test_reason_without_a_range_names_the_tensor():
    message = (
        "Max and min for dynamic tensors should be recorded during calibration: Failed for tensor core_tokens:0\nmore"
    )
    assert plain_reason(message).startswith(
        "int16x8 needs a range for every tensor, and the calibrator records none for 'core_tokens:0'"
    )


def test_reason_inside_a_layer_is_the_line_that_says_what_is_wrong():
    message = 'Exception encountered when calling layer "quantize_layer" (type QuantizeLayer).\n\nin user code:\n\n    File "/x/y.py", line 79\n        weights=self.v)\n\n    TypeError: Input has type int32.\n\n\nCall arguments'
    assert plain_reason(message) == "Input has type int32 (in the layer 'quantize_layer')"
