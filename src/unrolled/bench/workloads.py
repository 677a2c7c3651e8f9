"""What is timed: one class per workload, ours and the peers'. A workload is called once per round, and states its amount of
work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.bench.peers import PlainLSTM, PlainLSTMCells
from unrolled.generation.sampling import generate
from unrolled.generation.torch_model import as_text_network
from unrolled.nn.cells import CELLS
from unrolled.nn.device import select_device, tune_malloc
from unrolled.nn.kernels.extension import native_module
from unrolled.nn.kernels.select import KERNELS, choose_kernel
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import DataOptions, MachineOptions, ModelOptions, SampleOptions, TrainingOptions
from unrolled.text.batching import Batch
from unrolled.text.corpus import open_corpus
from unrolled.text.tokenizer import CharTokenizer
from unrolled.training.thread_control import ThreadControl
from unrolled.training.train_step import TrainStep

VOCAB_SIZE = 96
"""Vocabulary size, about that of the characters of an English text."""

SAMPLE_LINE = "The quick brown fox jumps over the lazy dog; 0123456789, and THE DOG sleeps on (for now).\n"


class Workload(Protocol):
    """Something to time. `work` is what one call does: tokens, megabytes, floating-point operations."""

    work: float

    def __call__(self) -> None:
        """Do the work once."""
        ...


class UnrolledStep:
    """A training step of this package, as `unrolled train --optimizer adamw` takes it, on random tokens.

    `threads` is the number of threads, 0 for all there are; with `threads_follow`, it follows the load of the machine.
    `cell`, `kernels` and `precision` are those of `unrolled train`; the kernel and number format that were chosen are kept.
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        batch: int,
        bptt: int,
        optimizer: Any,
        threads: int = 0,
        threads_follow: bool = False,
        cell: Any = "lstm",
        kernels: Any = "auto",
        precision: Any = "auto",
    ) -> None:
        options = MachineOptions(threads=threads, kernels=kernels, precision=precision)
        training = TrainingOptions(batch=batch, bptt=bptt, optimizer=optimizer)
        model = RecurrentLM(VOCAB_SIZE, ModelOptions(cell=cell, layers=layers, hidden=hidden, dropout=0.0)).train()
        machine, self.kernels = choose_kernel(model, select_device(options), options, training)
        self.precision = str(machine.dtype).removeprefix("torch.")
        ids = np.random.default_rng(0).integers(VOCAB_SIZE, size=(2, bptt, batch))
        self.batch, self.work = Batch(ids[0], ids[1], None, True, ids[0].size), float(ids[0].size)
        self.train_step = TrainStep(model, machine, training, batch)
        self.seconds = 0.0
        # Its clock stops while other contenders run.
        self.thread_control = ThreadControl(machine.threads, clock=lambda: self.seconds) if threads_follow else None

    def __call__(self) -> None:
        if self.thread_control is None:
            self.train_step.step(self.batch, 1e-4, 0)
            return
        torch.set_num_threads(self.thread_control.threads)
        started = time.perf_counter()
        self.train_step.step(self.batch, 1e-4, 0)
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self.thread_control.record(self.work, seconds)


class PeerStep:
    """A training step with `nn.LSTM`, Adam and the usual clipping; in bfloat16 by `torch.autocast` around the forward pass.

    `tuned`: with the allocator set to keep memory, which is not the default. `threads` is their number, 0 for all there are.
    """

    def __init__(
        self, layers: int, hidden: int, batch: int, bptt: int, autocast: bool, tuned: bool = False, threads: int = 0
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        if tuned:
            tune_malloc()
        self.model, self.autocast = PlainLSTM(VOCAB_SIZE, hidden, hidden, layers), autocast
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)
        self.ids = torch.randint(VOCAB_SIZE, (2, bptt, batch))
        self.state: tuple[Tensor, Tensor] | None = None
        self.work = float(batch * bptt)

    def __call__(self) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            logits, state = self.model(self.ids[0], self.state)
            loss = F.cross_entropy(logits.flatten(0, 1), self.ids[1].flatten())
        self.state = (state[0].detach(), state[1].detach())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()


class LayerPass:
    """One recurrent layer forward and backward through time by one of our kernels, all gradients taken."""

    def __init__(self, cell: str, hidden: int, batch: int, bptt: int, kernel: str, precision: str) -> None:
        select_device(MachineOptions())  # sets the allocator to keep memory, for every kernel
        self.cell, self.unroll = CELLS[cell](hidden, hidden), KERNELS[kernel]
        self.use_bfloat16 = precision == "bfloat16"
        self.xs = torch.randn(bptt, batch, hidden, requires_grad=True)
        self.grad_output = torch.randn(bptt, batch, hidden)
        self.work = float(batch * bptt)

    def __call__(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.use_bfloat16):
            ys, _ = self.unroll(self.cell, self.xs, self.cell.initial_state(self.xs.shape[1]), None)
        ys.backward(self.grad_output.to(ys.dtype))  # type: ignore[no-untyped-call]  # torch leaves it untyped


class MatrixProduct:
    """A large matrix product by torch, in floating-point operations."""

    def __init__(self, size: int, precision: str) -> None:
        dtype = getattr(torch, precision)
        self.a, self.b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        self.out = torch.empty(size, size, dtype=dtype)
        self.work = 2.0 * size**3

    def __call__(self) -> None:
        torch.mm(self.a, self.b, out=self.out)


class MatrixPeak:
    """Products of numbers in registers, on all threads: what the processor can do, in floating-point operations."""

    ROUNDS = 1_000_000

    def __init__(self, precision: str) -> None:
        select_device(MachineOptions())
        self.parameters = {"bfloat16": precision == "bfloat16", "threads": torch.get_num_threads(), "rounds": self.ROUNDS}
        self.work = native_module().multiply(**self.parameters)

    def __call__(self) -> None:
        native_module().multiply(**self.parameters)


class UnrolledSampling:
    """`unrolled sample`: embedding, layers, head, draw, and text. `precision` is the native step's; empty, there is none."""

    def __init__(self, layers: int, hidden: int, streams: int, length: int, precision: str) -> None:
        self.precision: Any = precision or None
        select_device(MachineOptions())
        self.model = RecurrentLM(VOCAB_SIZE, ModelOptions(layers=layers, hidden=hidden)).eval()
        self.tokenizer = CharTokenizer([chr(32 + index) for index in range(VOCAB_SIZE)])
        self.options = SampleOptions(length=length, count=streams)
        self.work = float(streams * length)

    def __call__(self) -> None:
        for _ in generate(self.model, self.tokenizer, self.options, seed=1, precision=self.precision):
            pass


class PeerSampling:
    """A loop that draws with `torch.multinomial`: over `nn.LSTM` with one step a call, or over `nn.LSTMCell` (`cells`).

    Without `onednn`, torch's own code runs the layers. oneDNN packs the weights anew at every call, which takes most of the
    time of a single step (torch 2.13).
    """

    def __init__(self, layers: int, hidden: int, streams: int, length: int, cells: bool, onednn: bool = True) -> None:
        torch.backends.mkldnn.enabled = onednn  # type: ignore[assignment]  # a property of the module
        model_class: Any = PlainLSTMCells if cells else PlainLSTM
        self.model = model_class(VOCAB_SIZE, hidden, hidden, layers).eval()
        self.cells, self.streams, self.length = cells, streams, length
        self.work = float(streams * length)

    @torch.no_grad()
    def __call__(self) -> None:
        ids, state, texts = torch.zeros(self.streams, dtype=torch.long), None, [""] * self.streams
        for _ in range(self.length):
            logits, state = self.model(ids if self.cells else ids[None], state)
            ids = torch.multinomial(F.softmax(logits if self.cells else logits[0], -1), 1)[:, 0]
            texts = [text + chr(32 + index) for text, index in zip(texts, ids.tolist(), strict=True)]


class OnnxSampling:
    """A loop over onnxruntime's session on the step graph that `unrolled export --to onnx` writes, on all threads."""

    def __init__(self, layers: int, hidden: int, streams: int, length: int) -> None:
        import onnxruntime

        from unrolled.exchange.onnx_graph import build_graph

        network = as_text_network(RecurrentLM(VOCAB_SIZE, ModelOptions(layers=layers, hidden=hidden)).eval())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        content = build_graph(network, True, False, {}).SerializeToString()
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names = [item.name for item in self.session.get_inputs()]
        self.state = [np.zeros((streams, hidden), np.float32) for _ in self.names[1:]]
        self.streams, self.length, self.work = streams, length, float(streams * length)

    def __call__(self) -> None:
        ids, state, texts = np.zeros(self.streams, np.int64), self.state, [""] * self.streams
        for _ in range(self.length):
            logits, *state = self.session.run(None, dict(zip(self.names, [ids, *state], strict=True)))
            ids = torch.multinomial(F.softmax(torch.from_numpy(logits), -1), 1)[:, 0].numpy()
            texts = [text + chr(32 + index) for text, index in zip(texts, ids.tolist(), strict=True)]


class UnrolledEncoding:
    """Text to token ids, as `unrolled train` reads a file it never saw; in megabytes."""

    def __init__(self, megabytes: int) -> None:
        self.text, self.work = SAMPLE_LINE * (megabytes * 1_000_000 // len(SAMPLE_LINE)), float(megabytes)
        self.round = 0

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(self.text[self.round :], "ascii")  # another text each time, so that no cache knows it
            self.round += 1
            open_corpus([str(path)], DataOptions())


class PeerEncoding:
    """Text to token ids as tutorials do it: a dictionary and a list comprehension; in megabytes."""

    def __init__(self, megabytes: int) -> None:
        self.text, self.work = SAMPLE_LINE * (megabytes * 1_000_000 // len(SAMPLE_LINE)), float(megabytes)

    def __call__(self) -> None:
        index = {character: number for number, character in enumerate(sorted(set(self.text)))}
        torch.tensor([index[character] for character in self.text])


WORKLOADS: dict[str, Callable[..., Workload]] = {
    "our step": UnrolledStep,
    "peer step": PeerStep,
    "layer": LayerPass,
    "product": MatrixProduct,
    "matrix peak": MatrixPeak,
    "our sampling": UnrolledSampling,
    "peer sampling": PeerSampling,
    "onnx sampling": OnnxSampling,
    "our encoding": UnrolledEncoding,
    "peer encoding": PeerEncoding,
}
