"""InterpreterPool: as many interpreters of one file as calls run at once, up to a limit, each lent to one at a time."""

from __future__ import annotations

import threading
from collections import deque
from time import thread_time
from typing import TYPE_CHECKING, Any, TypeVar

from edge.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

Result = TypeVar("Result")


class NamedInterpreter:
    """A runtime's interpreter with the file's tensors by name. It remembers the shapes that it was last resized to.

    ``stateful``: its variables are reset before each invocation; a fused LSTM would go on from the row before.
    """

    def __init__(self, interpreter: Any, *, stateful: bool) -> None:
        self._interpreter, self._stateful = interpreter, stateful
        runner = interpreter.get_signature_runner()
        details = runner.get_input_details()
        self.inputs = {name: detail["index"] for name, detail in details.items()}
        self.outputs = {name: detail["index"] for name, detail in runner.get_output_details().items()}
        self.cpu_seconds = 0.0  # of its calls so far, on the threads that made them
        self._shapes = {name: tuple(d["shape"]) for name, d in details.items() if -1 in d["shape_signature"]}

    def invoke(self, inputs: Tensors) -> Tensors:
        """One invocation, in the file's own units. Raises RuntimeError or ValueError when the runtime refuses."""
        started = thread_time()
        interpreter = self._interpreter
        if self._shapes:
            self._resize(inputs)
        if self._stateful:
            interpreter.reset_all_variables()
        for name, value in inputs.items():
            interpreter.set_tensor(self.inputs[name], value)
        interpreter.invoke()
        outputs = {name: interpreter.get_tensor(index) for name, index in self.outputs.items()}
        self.cpu_seconds += thread_time() - started
        return outputs

    def _resize(self, inputs: Tensors) -> None:
        resized = {name: inputs[name].shape for name, shape in self._shapes.items() if inputs[name].shape != shape}
        for name, shape in resized.items():
            self._interpreter.resize_tensor_input(self.inputs[name], shape)
        if resized:
            self._interpreter.allocate_tensors()
            self._shapes |= resized


class InterpreterPool:
    """The first interpreter is made at once, so that a file that cannot run is refused; the others when they are needed.

    They share the file's content; each has its own tensors, variables and shapes. All three runtimes release the GIL in
    ``invoke``, so a second one helps where an invocation takes longer than the Python around it: ``pool_speed.py``.
    Raises what ``make`` raises, and SettingError for a ``size`` below 1.
    """

    def __init__(self, make: Callable[[], NamedInterpreter], *, size: int = 1) -> None:
        if size < 1:
            raise SettingError(f"a pool of {size} interpreters cannot answer anything; use 1 or more")
        self._make = make
        self._made = [make()]
        self._idle = deque(self._made)
        self._turns = threading.Lock() if size == 1 else threading.Semaphore(size)  # a lock is four times cheaper

    def lend(self, work: Callable[[NamedInterpreter], Result]) -> Result:
        """What ``work`` returns, done with an interpreter of its own; waits for one where all are lent.

        One that raised is in an unknown state: it is dropped, and the next call makes another.
        """
        with self._turns:
            try:
                interpreter = self._idle.pop()
            except IndexError:
                interpreter = self._make()
                self._made.append(interpreter)
            try:
                result = work(interpreter)
            except BaseException:
                self._made.remove(interpreter)
                raise
            self._idle.append(interpreter)
        return result

    def cpu_seconds(self) -> float:
        """Of the interpreters that are there; only the threads that called them, not those of the runtime."""
        return sum(interpreter.cpu_seconds for interpreter in tuple(self._made))
