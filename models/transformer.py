"""transformer: which language is a name in? Subclassed layers, own attention, a training loop written with GradientTape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from models.attention import Block, Keep, MeanOverText, TokenEmbedding
from models.data import cldr
from models.spec import Decision, Metric, ModelSpec, TensorSpec
from models.string_signatures import ExtraSignature, from_text

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.training_run import TrainingRun

EPOCHS, BATCH = 9, 128
TRAINING_SECONDS = 45  # roughly, on one core: models are trained side by side, the longest first


def build(spec: ModelSpec) -> keras.Model:
    """The core: tokens [N, 40] → probabilities [N, languages]. Tokens are not normalised."""
    tokens = keras.Input((cldr.LENGTH,), dtype="int32", name="tokens")
    keep = Keep(name="keep")(tokens)
    x = TokenEmbedding(256, 32, name="embedding")(tokens)
    for number in (1, 2):
        x = Block(heads=2, dropout=0.05, name=f"block_{number}")(x, keep)
    x = MeanOverText(name="mean")(keras.layers.LayerNormalization(name="norm")(x), keep)
    probabilities = keras.layers.Dense(len(cldr.LANGUAGES), activation="softmax", name="probabilities")(x)
    return keras.Model(tokens, probabilities, name="core")


def fit(core: keras.Model, run: TrainingRun) -> None:
    """Train with a loop of our own; the same callbacks as ``Model.fit`` watch it."""
    train, validation = run.train(batch=BATCH), run.validation(batch=512)
    steps = int(train.cardinality())
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * steps, alpha=0.02))
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def learn(inputs, labels):
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, core(inputs, training=True))
        gradients = tape.gradient(loss, core.trainable_variables)
        optimizer.apply(gradients, core.trainable_variables)
        return loss

    @tf.function
    def judge(inputs, labels):
        answers = core(inputs, training=False)
        accuracy.update_state(labels, answers)
        return cross_entropy(labels, answers)

    core.optimizer = optimizer
    core.stop_training = False
    watchers = keras.callbacks.CallbackList(run.callbacks(patience=3), model=core)
    watchers.on_train_begin()
    for epoch in range(EPOCHS):
        watchers.on_epoch_begin(epoch)
        losses = [learn(inputs, labels) for inputs, labels in train]
        accuracy.reset_state()
        held_out = [judge(inputs, labels) for inputs, labels in validation]
        logs = {
            "loss": float(tf.reduce_mean(losses)),
            "val_loss": float(tf.reduce_mean(held_out)),
            "val_accuracy": float(accuracy.result()),
        }
        watchers.on_epoch_end(epoch, logs)
        if core.stop_training:
            break
    watchers.on_train_end()


def baselines(data: Dataset) -> dict[str, float]:
    """Macro-F1 on the test strings of a logistic regression on character 1- to 3-grams."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import f1_score

    (train, train_labels), (test, test_labels) = cldr.texts("train"), cldr.texts("test")
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=2**16)
    regression = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=30, random_state=0)
    regression.fit(grams.transform(train), train_labels)
    score = f1_score(test_labels, regression.predict(grams.transform(test)), average="macro")
    return {"logistic regression on character n-grams": float(score)}


def extra_signatures(spec: ModelSpec) -> list[ExtraSignature]:
    return [from_text(spec, cldr.tokens_of)]


def dataset() -> Dataset:
    return cldr.dataset()


SPEC = ModelSpec(
    name="transformer",
    task="Which of 16 languages is a name in? UTF-8 bytes",
    inputs=(TensorSpec("tokens", (None, cldr.LENGTH), "int32", unit="UTF-8 byte, 0 pads"),),
    outputs=(TensorSpec("probabilities", (None, len(cldr.LANGUAGES)), "float32", unit="probability of each language"),),
    decision=Decision("argmax", "probabilities", labels=cldr.LANGUAGES),
    metric=Metric("macro_f1", higher_is_better=True, bound=0.70),
    build=build,
    dataset=dataset,
    fit=fit,
    baselines=baselines,
    extra_signatures=extra_signatures,
)
