"""The settings of sample, eval, explain, report, score, predict, bench and serve, and help texts that several share.

Those of `train` are in `options.py`, which has these, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from unrolled.option_fields import force_option, option

ENCODING_HELP = "Encoding of texts and tables that are not UTF-8, such as windows-1252."
MASK_HELP = (
    "What becomes one symbol in the lines of a log, as in numbers,ip: any of numbers, hex, ip, uuid, path, time, and key (what "
    "--group-by captures); the model masks all texts that it is given later (default: nothing)."
)
HEADER_HELP = "Names of a table's columns, NAME,NAME; its first row is data. none: they are 0, 1, 2 ...; first: the first row."

TOKENS_HELP = (
    "What a token is. regex: the matches of a regular expression, and single characters for the rest; smiles: symbols of "
    "molecules; fasta: symbols of sequences, with the SETTINGS fold-case, reverse-complement (both strands are read) or both; "
    "abc: notes and bars of tunes; midi: notes of MIDI files (they are recognized), on a grid of 12 STEPS a beat. bpe: parts "
    "of words. In tables, words are the default if words repeat."
)

DOCUMENTS_HELP = (
    "What a document is: each line, part between blank lines, file, cell of --source (without --target), record of FASTA, "
    "ABC or MIDI, or session (--group-by REGEX) starts from the zero state and ends with an end token; none: an endless stream."
)


UNKNOWN_HELP = (
    "Tokens that the model does not know. keep: they are counted, and read as the nearest known ones, spelled or left out; "
    "refuse: an error that names them and their lines."
)


UNKNOWN_BASE_HELP = (
    "With --from: tokens of the text that the model does not know. keep: the vocabulary grows by them, and by how many is "
    "reported; refuse: an error that names them and their lines."
)


def unknown_option() -> Any:
    """Declare the setting `unknown` of a command that reads texts or tables with a trained model."""
    return option("keep", UNKNOWN_HELP)


@dataclass(frozen=True)
class SampleOptions:
    """How samples are drawn."""

    prompt: str = option("", "Text to continue.", old_names=("primetext", "start_text"))
    length: int = option(1000, "Maximum number of new tokens.", ge=0, le=2**40)
    temperature: float = option(
        1.0, "Divides the logits: below 1 more conservative, above 1 more varied; 0: always the most likely.", ge=0, le=1e6
    )
    top_k: int = option(0, "Draw from the k most likely tokens; 0: from all.", ge=0, le=2**31 - 1)
    top_p: float = option(1.0, "Draw from the smallest set of tokens with this total probability.", gt=0, le=1)
    min_p: float = option(
        0.0, "Exclude tokens less likely than this fraction of the most likely token's probability.", ge=0, le=1
    )
    stop: tuple[str, ...] = option((), "End a sample before this string; may be repeated.")
    count: int = option(1, "Number of samples, drawn in one batch; sample i has the seed SEED + i.", ge=1, le=1000000)
    clamp: tuple[str, ...] = option(
        (), "Set a hidden unit to a constant: LAYER.UNIT=VALUE (counted from 0; without =VALUE: to 0); may be repeated."
    )
    novel_only: bool = option(
        False, "Only samples that are not copied from the training text: whole documents, or long passages."
    )
    keep_if: str | None = option(
        None, "Only samples that this command keeps: it reads one on standard input, and the exit code 0 keeps it."
    )
    seed: int = option(1, "Random seed; -1: draw one and print it.", ge=-1, lt=2**63)
    unknown: Literal["keep", "refuse"] = unknown_option()
    adapt: bool = option(False, "Learn from the prompt before continuing it; the model file does not change.")
    int8: bool = option(False, "8-bit weights in the native kernel: fastest for large models; costs a little accuracy.")
    portable: bool = option(
        False, "Portable arithmetic, with 8-bit weights: one seed is one text on every machine, in the exported C and HTML too."
    )


@dataclass(frozen=True)
class EvaluateOptions:
    """Which text is evaluated, and with how much context."""

    split: Literal["train", "validation", "test", "all"] | None = option(
        None, "Split of the data (default: all of another text or table; of the run's own, test, or validation if it has none)."
    )
    window: int | None = option(None, "Reset the state every N tokens (default: the state is carried on).", ge=1, le=2**40)
    encoding: str | None = option(None, ENCODING_HELP)
    header: str | None = option(None, f"{HEADER_HELP} (default: as in training)")
    unknown: Literal["keep", "refuse"] = unknown_option()
    baselines: bool = option(
        False, "Also report baselines: uniform, n-grams (Kneser-Ney), xz, and PPMd and zpaq where they are installed."
    )
    order: int = option(20, "Order of the longest n-gram of --baselines.", ge=1, le=20)
    adapt: bool = option(
        False, "Go on learning from the text while it is read (dynamic evaluation): the command reports both losses."
    )
    portable: bool = option(False, "Portable arithmetic, with 8-bit weights: the same figure on every machine.")


@dataclass(frozen=True)
class ScoreOptions:
    """How surprising a text is, to one or more models."""

    encoding: str | None = option(None, ENCODING_HELP)
    unknown: Literal["keep", "refuse"] = unknown_option()
    per: Literal["line", "character"] = option("line", "Report a score per line, or per character.", old_names=("by",))
    top: int = option(20, "Number of lines to print, the most surprising first; 0: only the totals.", ge=0, le=1000000)
    compare: tuple[str, ...] = option(
        (), "Another model to compare with (RUN; may be repeated): who wrote this text?", old_names=("against",), reads=True
    )
    clamp: tuple[str, ...] = option(
        (), "Compare with the same model with a hidden unit set to a constant: LAYER.UNIT=VALUE; may be repeated."
    )
    html: str | None = option(
        None, "Write an HTML page: a heat map of the first lines, and the most surprising lines.", writes="html"
    )
    adapt: bool = option(
        False, "Go on learning from the text while it is read (dynamic evaluation); the model file does not change."
    )
    portable: bool = option(False, "Portable arithmetic, with 8-bit weights: the same figures on every machine.")
    force: bool = force_option()


@dataclass(frozen=True)
class AlertOptions:
    """Which lines of a log are alerts, and where the lines and their labels come from."""

    alert_rate: float | None = option(
        None,
        "Print lines as alerts that have more bits than all but this fraction of the lines of the model's own validation "
        "split, as in 0.001 (default: no alerts).",
        gt=0,
        lt=1,
    )
    alert_above: float | None = option(None, "Print lines with more than so many bits as alerts (default: no alerts).", ge=0)
    alert_cooldown: int | None = option(
        None,
        "Lines of a session after an alert that belong to it, and are no alerts of their own; of a log without sessions, lines "
        "(default: 10 with sessions, else 0).",
        ge=0,
    )
    labels: str | None = option(
        None,
        "File with a label for each line of INPUT: normal, ok, no, false, 0 or - for a normal line, else an anomaly; prints "
        "ROC AUC and, with alerts, precision, recall and F1.",
        reads=True,
    )
    label: str | None = option(None, "Column of the table INPUT with the label of each row, as --labels; see --source.")
    source: str | None = option(None, "Column of the table INPUT with the lines (default: the only one other than --label).")
    follow: str | None = option(
        None,
        "Score the lines that are appended to this file from now on, as tail -F does, until Ctrl-C; needs alerts.",
        reads=True,
    )
    from_start: bool = option(False, "With --follow: begin at the start of the file, not at its end.")


@dataclass(frozen=True)
class ExplainOptions:
    """What the neuron explorer shows."""

    encoding: str | None = option(None, ENCODING_HELP)
    header: str | None = option(None, f"{HEADER_HELP} (default: as in training)")
    length: int = option(3000, "Maximum number of tokens of the text to show.", ge=10, le=200000)
    clamp: tuple[str, ...] = option(
        (), "Show the effect of setting this hidden unit to a constant: LAYER.UNIT=VALUE (default: the clearest detectors)."
    )
    probe_length: int = option(30000, "Tokens on which units are compared with features of the text.", ge=100, le=200000)
    out: str | None = option(
        None, "The HTML file (default: explain.html in the run folder, or else in this folder).", writes="html"
    )
    save_activations: str | None = option(
        None, "Also write all activations, (T, L, H), and the logits to this .npz file.", old_names=("arrays",), writes="npz"
    )
    force: bool = force_option()
    terminal: bool = option(False, "Print the text in color, by the activation of --neuron; write no page.")
    neuron: str | None = option(
        None, "Hidden unit LAYER.UNIT that colors the text of --terminal (default: the clearest detector).", old_names=("unit",)
    )
    seed: int = option(1, "Random seed of the samples and of the permutation test.", ge=0, lt=2**62)


@dataclass(frozen=True)
class ReportOptions:
    """What the report of a run contains."""

    out: str | None = option(None, "The HTML file (default: report.html in the run folder).", writes="html")
    force: bool = force_option()
    order: int = option(20, "Order of the longest n-gram of the baseline.", ge=1, le=20)
    samples: int = option(5, "Number of samples that are searched for copies of the training text.", ge=1, le=100)
    keep_if: str | None = option(
        None, "Command that judges a generated document as in sample: the share that it keeps is reported as valid."
    )
    seed: int = option(1, "Random seed of the samples.", ge=0, lt=2**62)


@dataclass(frozen=True)
class PredictOptions:
    """How a table's target is predicted."""

    count: int = option(1, "Number of answers per row, the most likely first: labels, or texts of the beam.", ge=1, le=1000)
    encoding: str | None = option(None, ENCODING_HELP)
    header: str | None = option(None, f"{HEADER_HELP} (default: as in training)")
    unknown: Literal["keep", "refuse"] = unknown_option()
    beam: int = option(5, "Beam size, where text is generated; 1: greedy.", ge=1, le=1000)
    length_penalty: float = option(1.0, "Above 0, longer texts are preferred (Wu et al. 2016).", ge=0, le=10)
    temperature: float | None = option(None, "Draw at this temperature instead of beam search.", ge=0, le=1e6)
    seed: int = option(1, "Random seed of the draws.", ge=0, lt=2**62)
    probabilities: bool = option(False, "A column with the probability of each label.")
    min_probability: float = option(0.0, "Leave answers empty whose probability is less than this.", ge=0, le=1)
    image_dir: str | None = option(
        None,
        "Folder for generated images, as PNG files (default: pixel values in the cell).",
        old_names=("pictures",),
        writes="images",
    )
    wav: str | None = option(
        None, "Write the predicted sound of one row as this WAV file, in place of the table (32-bit floats).", writes="wav"
    )
    force: bool = force_option()


@dataclass(frozen=True)
class BenchOptions:
    """What `unrolled bench` measures, and for how long."""

    rounds: int = option(5, "Rounds in which the programs take turns; the medians are reported.", ge=1, le=1000)
    seconds: float | None = option(
        None,
        "Training time of each program or cell (default: 60 in learning and cells, 8 of one processor in languages).",
        gt=0,
    )
    text: str = option("builtin:python", "Text of `learning` and `cells`.", reads=True)
    seed: int = option(1, "Random seed of `learning`, the first of `cells` and `languages`.", ge=0, lt=2**62)
    seeds: int = option(1, "Seeds of `cells` and `languages`; the medians are reported.", ge=1, le=1000)
    cells: str | None = option(
        None, "Cells of `cells` and `languages`, separated by commas (default: all but those with hard sigmoids)."
    )
    languages: str | None = option(None, "Languages of `languages`, separated by commas (default: all).")
    quick: bool = option(False, "An eighth of the training time of `cells` and `languages`, and no strings of 1,000 symbols.")
    svg: str | None = option(
        None,
        "Write loss against seconds (of languages: accuracy against length) to this SVG file.",
        old_names=("picture",),
        writes="svg",
    )
    force: bool = force_option()


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens, and who may use it."""

    host: str = option(
        "127.0.0.1", "Address to listen on. Any other than one of this machine alone needs --api-key-file; 0.0.0.0: all."
    )
    port: int = option(8000, "Port to listen on; 0: any free one.", ge=0, le=65535)
    runs: str = option("runs", "Folder of the runs that are served if no RUN is given, and of new trainings.")
    api_key_file: str | None = option(None, "File with a key that clients must send: Authorization: Bearer KEY.", reads=True)
    allow_host: tuple[str, ...] = option(
        (), "Name by which the server may be reached, besides IP addresses and localhost; may be repeated."
    )
    max_upload: int = option(256, "Largest uploaded file, in MiB.", ge=1, le=2**20)
