"""Ends a run of a TensorFlow session from outside, which the session itself offers only for all of its runs at once.

Each run gets a switch, a queue in the graph, and two operations more to do: one waits at the queue, without a thread, the
other puts True into it when the outputs are there. What comes out is asserted: a False from outside fails the assertion,
and an operation that fails ends the run it belongs to. It costs about 15 µs a run.
"""

from __future__ import annotations

import os
from queue import SimpleQueue
from typing import Any

import numpy as np

# Runs at the same time; more wait for each other, as they would for a core. A switch costs every run about 0.3 µs.
SWITCHES = min(max(16, 4 * (os.cpu_count() or 1)), 64)


class Switches:
    """Made within a graph. ``chosen``, ``throw`` and ``left`` are names for the session: the number of a switch is fed."""

    def __init__(self, tensorflow: Any) -> None:
        tf, raw = tensorflow, tensorflow.raw_ops
        self._tf = tf
        self._added: dict[tuple[str, ...], list[str]] = {}
        self._free: SimpleQueue[np.int32] = SimpleQueue()
        for number in range(SWITCHES):
            self._free.put(np.int32(number))
        with tf.name_scope("model_server"):
            queues = [
                raw.FIFOQueueV2(
                    component_types=[tf.bool], shapes=[()], capacity=4, shared_name=f"model_server_{number}"
                )
                for number in range(SWITCHES)
            ]
            self._chosen = tf.compat.v1.placeholder(tf.int32, (), name="switch")
            self._queue = tf.gather(tf.stack(queues), self._chosen)
            (out,) = raw.QueueDequeueV2(handle=self._queue, component_types=[tf.bool])
            self._watch = raw.Assert(condition=out, data=["stopped"], summarize=1).name
            self.chosen = self._chosen.name
            self.throw = raw.QueueEnqueueV2(handle=self._queue, components=[tf.constant(False)]).name
            count = raw.QueueSizeV2(handle=self._queue)
            self.left = raw.QueueDequeueManyV2(handle=self._queue, n=count, component_types=[tf.bool])[0].name

    def add(self, tensors: list[str]) -> list[str]:
        """The targets of a run that fetches these tensors."""
        key = tuple(tensors)
        if key not in self._added:
            tf, graph = self._tf, self._tf.compat.v1.get_default_graph()
            with tf.name_scope("model_server"):
                # An assertion that always holds: TensorFlow's optimizer drops a mere control edge from a function's call.
                data = [graph.get_tensor_by_name(name) for name in tensors]
                there = tf.raw_ops.Assert(condition=self._chosen >= 0, data=data, summarize=1)
                with tf.control_dependencies([there]):
                    done = tf.raw_ops.QueueEnqueueV2(handle=self._queue, components=[tf.constant(True)])
            self._added[key] = [done.name, self._watch]
        return self._added[key]

    def take(self) -> np.int32:
        """A switch that no other run has. It may wait."""
        return self._free.get()

    def put_back(self, switch: np.int32) -> None:
        self._free.put(switch)
