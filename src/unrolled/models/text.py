"""A trained language model of texts: sample, evaluate, score, explain. Each method imports what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from unrolled.checkpoints.run_dir import run_of_model
from unrolled.errors import UsageError
from unrolled.generation.sampling import Sample, encode_prompt, resolve_seed, sampling_backend, stream_text
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import EvaluateKwargs, ExplainKwargs, SampleKwargs
from unrolled.models.base import METHODS_ELSEWHERE
from unrolled.models.text_scoring import ScoringModel, file_name, file_name_or_none
from unrolled.nn.unit_clamp import parse_clamp
from unrolled.option_rules import check_adaptation, refuse_unused
from unrolled.options import (
    EvaluateOptions,
    ExplainOptions,
    MachineOptions,
    ModelOptions,
    ReportOptions,
    SampleOptions,
    from_dict,
)
from unrolled.text.tokenizer import replace_undecodable, require_text, to_utf8
from unrolled.text.unknown_tokens import UnknownTokens

if TYPE_CHECKING:
    from unrolled.analysis.baselines import Baselines
    from unrolled.analysis.explain_text import ExplainResult
    from unrolled.analysis.midi_samples import SavedSong
    from unrolled.analysis.text_session import TextSession
    from unrolled.checkpoints.model_file import TextModelFile
    from unrolled.evaluation.text_loss import Evaluation
    from unrolled.interpret.activations import Activations
    from unrolled.nn.device import DeviceConfig
    from unrolled.nn.language_model import RecurrentLM
    from unrolled.runtime.text_network import TextModel


NOT_IN_STREAM = "samples() has it, since a stream cannot take back what it gave"
NOT_IN_SAMPLE = {"prompt": "", "count": "samples(count=...) draws several"}
NOT_IN_STREAMS = {**NOT_IN_SAMPLE, "novel_only": NOT_IN_STREAM, "keep_if": NOT_IN_STREAM}
"""Settings of `unrolled sample` that a method does not have, and what to use instead."""

TRACED = "trace(text) has h, c, gates and logits of each token, and bits()"
METHODS_OF_TEXTS = {
    **dict.fromkeys(("logits", "activations", "hidden_states", "embed", "probabilities", "log_prob", "loss", "bits"), TRACED),
    "predict": "sample(prompt) draws a text, and score(text) has the bits of each token",
    **dict.fromkeys(("finetune", "fine_tune"), "unrolled.train(text, init_from=model.path) starts from this model"),
}
"""What other libraries have as methods of a language model, and what is here instead."""


class Model(ScoringModel):
    """A trained language model of texts. `train` and `load` return it.

    Attributes:
        tokenizer: Converts text to token ids and back; `tokenizer.vocab_size` is the number of tokens.
    """

    _methods_elsewhere: ClassVar[Mapping[str, str]] = {**METHODS_ELSEWHERE, **METHODS_OF_TEXTS}

    def __init__(self, path: Path, text_model: TextModel, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.text_session import TextSession

        super().__init__(path, text_model.history, text_model.network.num_parameters)
        self.text_model, self.tokenizer = text_model, text_model.tokenizer
        self.session = TextSession(path, text_model, machine or MachineOptions(), run_of_model(path))

    @property
    def model_file(self) -> TextModelFile:
        """The content of the model file, with the network of torch."""
        return self.session.torch_parts[0]

    @property
    def network(self) -> RecurrentLM:
        """The `torch.nn.Module`. torch is imported when it is first asked for: sampling and scoring need none."""
        return self.session.model

    @property
    def machine(self) -> DeviceConfig:  # type: ignore[override]  # an attribute of models of tables
        """Device, number format and threads of the network."""
        return self.session.machine

    @property
    def kernels(self) -> str:  # type: ignore[override]  # an attribute of models of tables
        """Name of the implementation of the recurrent layers of the network."""
        return self.session.torch_parts[2]

    @property
    def generation_defaults(self) -> dict[str, Any]:
        """What this model itself says about sampling, such as {"temperature": 0.8}: used where a call says nothing."""
        return dict(self.text_model.generation)

    def __repr__(self) -> str:
        options = self.text_model.options
        shape = f"{options.layers}x{options.hidden} {options.cell}"
        return f"<unrolled.Model {shape}, {self.parameters:,} parameters, {self.tokenizer.vocab_size} tokens, {self.path}>"

    @property
    def _model_options(self) -> ModelOptions:
        return self.text_model.options

    @property
    def _loss_unit(self) -> str:
        return "character"

    def _kind_facts(self) -> dict[str, Any]:
        return {
            "kind": "text",
            "tokens": f"{self.tokenizer.vocab_size:,} {self.tokenizer.kind}",
            "documents": self.text_model.documents,
            **({"generation": self.generation_defaults} if self.text_model.generation else {}),
        }

    @keyword_arguments(SampleOptions, exclude=NOT_IN_SAMPLE)
    def sample(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> str:
        """Draw one sample.

        Args:
            prompt: Text to continue. Unknown characters are replaced, see `replaced_characters`.

        Returns:
            The prompt and the new text.

        Raises:
            UsageError: An option is unknown or cannot be used.

        Options that are not given have the defaults below, or those of the model, `generation_defaults`.

        Example:
            >>> text = model.sample("The ", length=40, temperature=0.8, seed=3)
            >>> text.startswith("The "), len(text)
            (True, 44)
        """
        return next(self.samples(prompt, **options)).text

    @keyword_arguments(SampleOptions, exclude=("prompt",))
    def samples(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> Iterator[Sample]:
        """Draw `count` samples in one batch.

        Args:
            prompt: Text that each sample continues.

        Yields:
            Sample objects: `text` (with the prompt), `seed`, `num_tokens`, `finish_reason`. Sample i has the seed
            `seed + i` and is the same text that `sample` draws with that seed.

        Raises:
            UsageError: An option cannot be used, or nearly all samples are rejected by `novel_only` or `keep_if`.

        Example:
            >>> [sample.seed for sample in model.samples("The ", count=3, length=20, seed=5)]
            [5, 6, 7]
        """
        from unrolled.analysis.notebook import NotebookSample
        from unrolled.analysis.novel_samples import draw_samples

        settings = self._sample_options(prompt, options)
        for sample in draw_samples(self._session_for(settings), settings, resolve_seed(settings)):
            yield NotebookSample(**vars(sample), to_html=lambda text: self.score(text)._repr_html_())

    @keyword_arguments(SampleOptions, exclude=NOT_IN_STREAMS)
    def stream(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> Iterator[str]:
        """Draw one sample piece by piece, in constant memory and time per token.

        Args:
            prompt: Text to continue.

        Yields:
            Pieces of the new text, without the prompt. Joined, they are the text that `sample` draws.

        Raises:
            UsageError: An option cannot be used; `novel_only` and `keep_if` need complete samples.

        Example:
            >>> "".join(model.stream("The ", length=20)) == model.sample("The ", length=20)[4:]
            True
        """
        return map(replace_undecodable, self._stream_raw(self._sample_options(prompt, options)))

    @keyword_arguments(SampleOptions, exclude=NOT_IN_STREAMS)
    def stream_bytes(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> Iterator[bytes]:
        """Draw one sample piece by piece, as bytes: those that a model of bytes draws, or UTF-8.

        Args:
            prompt: Text to continue.

        Yields:
            Pieces of the new text, without the prompt.

        Raises:
            UsageError: As for `stream`.

        Example:
            >>> b"".join(model.stream_bytes("The ", length=20)).decode() == model.sample("The ", length=20)[4:]
            True
        """
        return map(to_utf8, self._stream_raw(self._sample_options(prompt, options)))

    def _stream_raw(self, settings: SampleOptions) -> Iterator[str]:
        clamps, session = [parse_clamp(unit) for unit in settings.clamp], self._session_for(settings)
        return stream_text(
            session.network, self.tokenizer, settings, resolve_seed(settings), clamps, session.sampling_precision
        )

    def _session_for(self, settings: SampleOptions) -> TextSession:
        """Return the session to draw samples from: with `adapt`, that of a copy that has learned from the prompt."""
        check_adaptation(settings)
        return self.session.adapted_to(settings.prompt) if settings.adapt else self.session

    def _sample_options(self, prompt: str, options: Mapping[str, Any]) -> SampleOptions:
        settings = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        own = {name: value for name, value in self.generation_defaults.items() if name not in options}
        settings = dataclasses.replace(settings, **own)
        if settings.unknown == "refuse":
            tally = UnknownTokens(self.tokenizer)
            tally.add(self.tokenizer.normalize(prompt))
            tally.require_none("The prompt")
        if settings.temperature == 0:
            reason = "chooses among several tokens, and --temperature 0 always takes the most likely one"
            refuse_unused(settings, options, dict.fromkeys(("top_k", "top_p", "min_p"), reason))
        return settings

    @keyword_arguments(SampleOptions)
    def sampling_backend(self, **options: Any) -> dict[str, str]:
        """Return which implementation and number format `sample` would use with these options.

        Returns:
            A dictionary with the keys `backend` (native, with its instruction set, or reference) and `precision`.

        Example:
            >>> model.sampling_backend(top_k=5)["precision"] in ("float32", "bfloat16")
            True
        """
        settings = from_dict(SampleOptions, options, "sample")
        return sampling_backend(self.session.network, settings, settings.clamp, self.session.sampling_precision)

    def replaced_characters(self, prompt: str) -> dict[str, str]:
        """Return the characters of a prompt that the model does not know, each with its replacement ("": removed).

        Example:
            >>> model.replaced_characters("Th\u00e9 cat")
            {'\u00e9': 'e'}
        """
        return encode_prompt(self.tokenizer, require_text(prompt))[1]

    @keyword_arguments(EvaluateOptions, exclude=dict.fromkeys(("baselines", "order"), "the method baselines() has it"))
    def evaluate(self, *inputs: str | Path, text: str | None = None, **options: Unpack[EvaluateKwargs]) -> Evaluation:
        """Return the loss on a text.

        Args:
            inputs: Files, folders or `builtin:NAME`; none: the run's own text.
            text: The text itself, in place of `inputs`.

        Returns:
            An Evaluation: `nats` and `bits` per character, `standard_error` of the nats, `num_tokens`, `num_chars`,
            `context`, `split`, and `num_unknown`, the number of characters that the model does not know, which are left out.

        Raises:
            DataError: The text has fewer than two known tokens.
            UsageError: There is no input, and the model file is not in a run folder.

        Example:
            >>> result = model.evaluate("book.txt", split="validation")
            >>> 0 < result.bits < 8, result.context
            (True, 'carried')
        """
        from unrolled.analysis.evaluate_text import evaluate_text

        inputs = inputs if text is None else (_kept_text(text, *inputs),)
        return evaluate_text(self.session, tuple(map(file_name, inputs)), from_dict(EvaluateOptions, options, "evaluate"))

    @keyword_arguments(EvaluateOptions, exclude={"baselines": "", "window": "evaluate() has it", "adapt": "evaluate() has it"})
    def baselines(self, *inputs: str | Path, **options: Unpack[EvaluateKwargs]) -> Baselines:
        """Return the losses of n-gram models, compressors and the uniform distribution on the text that `evaluate` takes.

        Args:
            inputs: Files, folders or `builtin:NAME`; none: the run's own text.

        Returns:
            Baselines, in nats per character: `uniform`, `ngram_nats` by order (counted on the training split), `xz`.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> sorted(model.baselines(order=3).ngram_nats)
            [1, 2, 3]
        """
        from unrolled.analysis.baselines import measure_baselines
        from unrolled.analysis.evaluate_text import select_split

        settings = from_dict(EvaluateOptions, options, "evaluate")
        if self.run is None:
            raise UsageError(f"{self.path} is not in a run folder, and n-grams need the training text: name a run folder.")
        ids, corpus, split = select_split(self.session, tuple(map(file_name, inputs)), settings)
        continues_training = not inputs and split == "validation"
        return measure_baselines(
            self.tokenizer, self.session.train_and_held_out()[0], ids, settings.order, continues_training, corpus.is_text, True
        )

    def save_midi(self, text: str, path: str | Path, force: bool = False) -> SavedSong:
        """Write a sample of a model of MIDI files as one that can be played.

        Args:
            text: Events, as `sample` draws them.
            path: The file to write.
            force: Replace an existing file that is no MIDI file.

        Returns:
            A SavedSong: `path`, `notes`, `seconds`, and `left_out`, the symbols that are no event, with their counts.

        Raises:
            UsageError: The model reads other tokens, or the file is not to be replaced.
            DataError: The text has no note.

        Example:
            >>> songs = unrolled.load("runs/songs")
            >>> songs.save_midi("T120 M4/4\\n C4:12 E4:12", "song.mid").notes
            2
        """
        from unrolled.analysis.midi_samples import save_midi

        return save_midi(self.tokenizer, require_text(text), Path(path), self.path, self.session.run_path, force)

    def trace(self, text: str, clamp: Sequence[str] = ()) -> Activations:
        """Return the activations of all hidden units while the model reads a text.

        Args:
            text: The text, T tokens. Unknown characters are replaced by similar ones.
            clamp: Hidden units to set to a constant, each as "LAYER.UNIT=VALUE".

        Returns:
            Activations as arrays: states `h` `(T, L, H)` for L layers of H units, `c` of an LSTM, `gates` by name,
            `logits` `(T, V)` for V tokens; `bits()` `(T,)` is the surprisal of each token.

        Raises:
            UsageError: A clamp names no unit of the model.

        Example:
            >>> activations = model.trace("The cat", clamp=["0.3=1"])
            >>> activations.h.shape, float(activations.h[-1, 0, 3])
            ((7, 2, 8), 1.0)
        """
        from unrolled.analysis.notebook_activations import NotebookActivations
        from unrolled.interpret.activations import record_activations

        result = record_activations(self.network, self.session.tokenize(text), [parse_clamp(unit) for unit in clamp])
        return NotebookActivations(**vars(result))

    @keyword_arguments(ExplainOptions)
    def explain(
        self, name: str | Path | None = None, text: str | None = None, **options: Unpack[ExplainKwargs]
    ) -> ExplainResult:
        """Record the hidden units while the model reads a text, and write the neuron explorer, an HTML page.

        Args:
            name: A file or `-`; None: the validation split of the run.
            text: The text itself, in place of `name`.

        Returns:
            An ExplainResult: `page_path`, `activations`, `probe_report` (what units detect) and `effects` (of clamping).

        Raises:
            DataError: The text is too short.

        Example:
            >>> model.explain("book.txt", length=100, probe_length=200).page_path.name
            'explain.html'
        """
        from unrolled.analysis.explain_text import explain_text

        name = name if text is None else _kept_text(text, name)
        return explain_text(self.session, file_name_or_none(name), from_dict(ExplainOptions, options, "explain"))

    def _build_report(self, settings: ReportOptions) -> dict[str, Any]:
        from unrolled.analysis.report_text import TextReportBuilder

        return TextReportBuilder(self.session, settings).build()


def _kept_text(text: object, *inputs: object) -> str:
    """Return a copy of a text in the cache. Raises `UsageError` for anything else, and if there are inputs as well."""
    from unrolled.tables.frames import keep_text

    if any(name is not None for name in inputs):
        raise UsageError("A text is given, and the name of a file too: give one of them.")
    if not isinstance(text, str):
        raise UsageError(f"text is {type(text).__name__}, and a string is expected.")
    return keep_text(text)
