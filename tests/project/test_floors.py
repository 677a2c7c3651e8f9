"""Imports go down, functions and files keep their budgets, and no file is a catch-all."""

import ast
import bisect
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "unrolled"
FLOORS = [
    {"display", "flag_names"}, {"errors"}, {"option_fields", "atomic_io"},
    {"command_options", "series_options", "output_paths", "presets"},
    {"options"}, {"option_rules", "keywords", "keyword_docs", "network_shapes"}, {"datasets"}, {"text"}, {"tables"},
    {"nn"}, {"checkpoints"}, {"runtime"}, {"generation"},
    {"evaluation"}, {"interpret", "training"}, {"views"}, {"analysis"}, {"exchange"}, {"models"},
    {"server"}, {"api", "doctor"}, {"bench"}, {"cli"}, {"__main__"},
]  # fmt: skip
"""Packages and top-level modules, from the lowest: a file imports from lower floors only."""

ORDER = {
    "datasets": ["stdlib", "base_models", "cldr", "glyphs", "formal_languages", "service_log", "tables", "builtin"],
    "text": [
        "compressed_files", "file_signatures", "encoding_guess", "encodings", "html_text", "pdf_files", "mail_files",
        "office_files",
        "archives", "subtitles", "folder_files", "text_files", "fingerprint", "line_format", "normalization", "decode_stream",
        "tokenizer", "token_pattern", "rule_tokenizer", "bpe_tokenizer", "word_list_tokenizer",
        "midi_text", "midi_files", "record_files", "record_tokenizers", "tokenizers", "unknown_tokens", "followed_file",
        "session_files", "document_files",
        "tokenized_text", "text_encoder", "shards", "parallel_encode", "splitting", "corpus", "recoding", "batching",
    ],
    "tables": [
        "digit_groups", "text_oddities", "printed_lists", "cell_values", "number_units", "number_counts", "ragged", "ngrams",
        "base_text", "word_tokenizer", "metric_report", "entities", "metrics",
        "column", "text_column", "label_columns", "sound_delay", "wav_files", "step_arrays", "series_baselines",
        "series_metrics", "scaling",
        "month_names", "date_formats", "clock_times", "step_times", "step_gaps", "time_columns", "time_features",
        "known_covariates", "numbers_column", "numeric_columns", "image_column", "columns", "modes",
        "column_profile", "column_notes", "type_inference", "other_formats", "table_format", "kept_data",
        "json_files", "header_rows", "delimited_layout", "delimiters", "commented_names", "printed_tables",
        "delimited_files", "json_lists",
        "conll_files", "arff_files", "fasttext_files", "arrow_files", "spreadsheet_files", "labeled_files",
        "table_folders", "span_rows", "file_kinds",
        "file_rows", "table_files", "suggested_columns", "frames", "series",
        "source_columns", "step_notation", "long_series", "long_table", "model_dims", "spec", "spec_inference", "series_spec",
        "row_tally", "column_text", "padding", "pair_batching", "row_splits", "series_rows",
    ],
    "nn": [
        "unit_clamp", "cells", "stack", "cell_wrappers", "number_loss", "ngram_classifier", "language_model",
        "base_classifier", "attention", "encoder", "decoder", "encoder_decoder", "sequence_model", "device",
        "stateful", "kernels",
    ],
    "checkpoints": [
        "format_1", "array_file", "model_file", "run_dir", "run_data", "run_summary", "tensorboard",
    ],
    "runtime": [
        "blas", "text_network", "language_model", "numpy_model", "window_model", "native_model", "native_decoder",
        "portable_arithmetic", "portable", "portable_draw", "native_portable",
    ],
    "generation": [
        "prompt_replacements", "random_streams", "portable_sampling", "torch_model", "text_streamer", "sampling", "beam_search",
    ],
    "evaluation": [
        "text_loss", "calibration", "adaptation", "compressors", "number_predictions", "predictor", "session_surprisal",
        "surprisal", "line_surprisal", "log_blocks", "line_alerts", "ngram",
        "memorization",
    ],
    "interpret": [
        "activations", "table_activations", "occlusion", "text_features", "probes", "intervention", "context_use",
        "gate_saturation", "loss_breakdown",
    ],
    "training": [
        "distributed", "optim", "train_step", "schedule", "recipe", "table_recipe", "throughput",
        "forecast_choice", "diagnosis",
        "callbacks", "thread_control", "signals", "ngram_fit", "grown_model", "fine_tuning",
        "tasks", "resume",
        "automatic_base", "open_data", "trainer", "launch",
    ],
    "views": [
        "png", "colored_text", "progress", "svg_curves", "notebook_progress", "series_table",
        "prediction_writer", "js_linker",
        "html_page", "surprisal_page", "explorer", "report", "rows_page", "series_page", "wasm_products",
        "portable_data", "writer_page", "series_predictor_page", "text_classifier_page",
    ],
    "analysis": [
        "keep_if",
        "notebook", "notebook_activations", "text_session", "linear_baseline", "tree_baseline", "learned_baselines",
        "table_session", "evaluate_text", "midi_samples",
        "score_text",
        "log_alerts", "novel_samples",
        "baselines", "cell_views", "series_charts", "explain_text", "explain_rows", "explain_series", "explain_table",
        "report_data", "report_text", "report_table",
    ],
    "exchange": [
        "import_options", "torch7", "torch_pickle", "vocabulary",
        "source_model", "gate_orders", "import_check", "torch7_graph", "char_rnn",
        "torch_rnn", "pytorch_state_dict", "keras_config", "keras_model", "textgenrnn", "ml5", "numbers_lstm",
        "numbers_import", "imports",
        "export_options", "export_job", "vectors", "c_source", "c_export", "html_export", "onnx_builder",
        "onnx_cells", "onnx_graph", "onnx_table", "onnx_export", "numpy_export", "card_export", "exports", "open_job",
        "series_model", "series_c_export", "onnx_series", "series_onnx_export", "series_page_data",
        "series_html_export", "classifier_page_data", "classifier_rounding", "classifier_html_export",
        "unicode_tables", "text_c_tables", "text_c_export",
        "table_export", "table_card", "export_file",
    ],
    "models": ["base", "text_scoring", "text", "table"],
    "server": [
        "limits", "ids", "http_errors", "security", "http_protocol", "lanes", "lane_groups", "engine", "catalog", "requests",
        "frames",
        "run_log", "runs", "prompt_scores", "states", "uploads", "trainings", "table_columns", "table_worker", "table_process",
        "services",
        "predict_routes", "completions", "text_routes", "token_routes", "state_routes", "run_routes", "training_routes",
        "prometheus", "openapi", "app", "run_server",
    ],
    "bench": ["peers", "workloads", "process", "busy", "languages", "learning", "benchmarks"],
    "cli": ["json_output", "parser", "alerts", "completion", "registry", "commands", "main"],
}  # fmt: skip
"""Within a package, the order in which the data passes: a module imports from earlier ones only."""

FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(parse(path)))


def dotted(node: ast.expr) -> str:
    """Return `a.b` of a name or an attribute of names; an empty text of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def floor(package: str) -> int:
    return next(level for level, packages in enumerate(FLOORS) if package in packages)


def imports(path: Path) -> set[tuple[str, ...]]:
    names = {f"{n.module}.{a.name}" for n in nodes(path) if isinstance(n, ast.ImportFrom) and n.module for a in n.names}
    names |= {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    names -= {"unrolled.__version__", "unrolled.JSON_VERSION"}
    return {tuple(name.split(".")[1:]) for name in names if name.startswith("unrolled.")}


def test_imports_only_go_down() -> None:
    for path in FILES:
        own = path.relative_to(ROOT).with_suffix("").parts
        for other in imports(path):
            if other[0] != own[0]:
                assert floor(other[0]) < floor(own[0]), f"{'.'.join(own)} imports {'.'.join(other)}"
            elif own[1] != other[1] and own[1] != "__init__":
                order = ORDER[own[0]]
                assert order.index(other[1]) < order.index(own[1]), f"{'.'.join(own)} imports {'.'.join(other)}"


def test_the_architecture_page_has_the_floors() -> None:
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text("utf-8")
    listed = page.split("never up and never in a circle:\n\n")[1].split("\n\n")[0]
    assert [set(re.findall(r"\w+", level)) for level in listed.split("<")] == FLOORS[:-1]  # the last one is `__main__`


def test_every_file_has_its_place() -> None:
    for path in FILES:
        own = path.relative_to(ROOT).with_suffix("").parts
        floor(own[0])
        assert not {"utils", "common", "helpers", "misc"} & set(own), path
        if len(own) > 1 and own[1] != "__init__":
            assert own[1] in ORDER[own[0]], f"{path} is not in the order of its package"


def code_line_numbers(path: Path) -> list[int]:
    """Return the numbers of the lines that are neither blank nor part of a docstring."""
    docstrings: set[int] = set()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False):
            body = node.body[0]
            docstrings |= set(range(body.lineno, (body.end_lineno or body.lineno) + 1))
    lines = enumerate(path.read_text("utf-8").splitlines(), 1)
    return [number for number, line in lines if line.strip() and number not in docstrings]


def test_budgets() -> None:
    for path in FILES:
        numbers = code_line_numbers(path)
        assert len(numbers) <= 300, f"{path} is too long: split it by noun"
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef):
                length = bisect.bisect_right(numbers, node.end_lineno or 0) - bisect.bisect_left(numbers, node.lineno)
                assert length <= 40, f"{path}: {node.name} is too long"
        for node in parse(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node, clean=False), f"{path}: {node.name} has no docstring"


def test_nothing_is_unpickled_or_evaluated_and_only_atomic_io_replaces_files() -> None:
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "dill"}, path
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                if name == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), path
                assert name not in {"eval", "exec", "torch.save", "np.load", "yaml.load"}, (path, name)
                assert name not in {"os.replace", "os.rename", "shutil.move"} or path.name == "atomic_io.py", (path, name)


def eager_imports(path: Path) -> set[str]:
    """Return the modules that a file imports when it is imported itself, each with the packages that it is in."""
    names: set[str] = set()
    for node in parse(path).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names | {name.rpartition(".")[0] for name in names}


def test_the_runtime_imports_neither_torch_nor_anything_that_does() -> None:
    """Nor does what samples and scores with it: these are the modules at which `unrolled sample`, `score` and `eval` begin."""
    files = {".".join(("unrolled", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    begin = [name for name in files if name.startswith("unrolled.runtime.")]
    begin += ["unrolled.api", "unrolled.models.text", "unrolled.analysis.score_text", "unrolled.evaluation.line_surprisal"]
    reached, waiting = set(begin), list(begin)
    while waiting:
        name = waiting.pop()
        found = eager_imports(files[name])
        assert not {other for other in found if other.split(".")[0] == "torch"}, f"{name} imports torch"
        new = {other for other in found & files.keys()} - reached
        reached |= new
        waiting += new
    assert "unrolled.text.tokenizer" in reached
    assert "unrolled.nn.cells" not in reached


def test_constants_that_docstrings_name_exist() -> None:
    """A docstring that names a constant must not keep its old name."""
    known: set[str] = set()
    named: dict[str, Path] = {}
    constant = re.compile(r"`(?:\w+\.)*(_[A-Z][A-Z0-9_]+|[A-Z][A-Z0-9]*_[A-Z0-9_]+)`")
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, ast.Name):
                known.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                known.add(node.value)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                named |= dict.fromkeys(constant.findall(node.value.value), path)
    assert len(named) > 50
    assert not {name: path for name, path in named.items() if name not in known}
