"""Sentences about the cells of a column that may not be read as they are meant."""

from __future__ import annotations

from unrolled.tables.column_profile import MAX_PROFILED_ROWS, ColumnProfile
from unrolled.tables.number_units import is_symbol
from unrolled.tables.text_oddities import joined_labels
from unrolled.tables.wav_files import SUFFIXES as SOUND_SUFFIXES

MAX_TOLD_UNITS = 5
"""Different units, at most, for a sentence that they differ; more are words of texts."""

LABELS_OF_STEPS = "labels of steps"
"""The kind of a column of texts in a table with one row per step, in sentences about it."""


def column_notes(profile: ColumnProfile, kind: str, declared: bool, is_target: bool) -> list[str]:
    """Return messages about unusual cells; `kind` is that of the column, which was `declared` by the user or inferred."""
    notes = [number_note(profile, kind, declared), *profile.oddities.notes(profile.name, profile.num_rows)]
    if kind in ("label", "text") and not declared and profile.num_words <= 6 * min(profile.num_rows, MAX_PROFILED_ROWS):
        notes.append(joined_labels(profile.name, profile.value_counts))
    if kind in ("text", "labels") and is_target and not declared:
        notes.append("" if notes[0] else measure_note(profile, f"read as {kind}"))
    return [*filter(None, notes)]


def measure_note(profile: ColumnProfile, how: str) -> str:
    """Return a sentence about dates, durations, ranges and the like, which are no numbers, or an empty one."""
    if not profile.measure or not profile.is_nearly_all(profile.num_measures):
        return ""
    return f"'{profile.name}': values such as {profile.measure} are {how}; to have numbers, write one in each cell"


def number_note(profile: ColumnProfile, kind: str, declared: bool) -> str:
    """Return what to tell about numbers with units, in groups, with commas and in parentheses, or an empty text."""
    numbers = profile.numbers(declared)
    if kind == "number" and (num_numbers := numbers.num_numbers(declared)):
        unit_note = "" if profile.is_nearly_all(num_numbers) else _unit_note(profile, kind)
        return "; ".join(filter(None, (*numbers.notes(profile.name, profile.num_rows, declared), unit_note)))
    if kind in ("number", "vector", "frames") and numbers.has_decimal_commas():
        return f"'{profile.name}': the comma is read as the decimal point, as in {numbers.comma_example}"
    return "; ".join(filter(None, (_unit_note(profile, kind), "" if declared else _missed_note(profile, kind))))


def _sound_note(profile: ColumnProfile, kind: str) -> str:
    """Return a sentence about names of sound files that are read as texts, or an empty one."""
    names = [text for text in profile.value_counts if text.lower().endswith(SOUND_SUFFIXES)]
    if kind not in ("text", "label") or not profile.is_nearly_all(sum(profile.value_counts[name] for name in names)):
        return ""
    files = f"names of files, such as {names[0]:.40}, are read as {kind}"
    return f"'{profile.name}': {files}; to have the sound in them, say {profile.name}:numbers"


def _missed_note(profile: ColumnProfile, kind: str) -> str:
    """Return a sentence about cells that may be numbers and are not read so, or an empty one."""
    if sounds := _sound_note(profile, kind):
        return sounds
    plain, how = profile.counts_of(""), f"are read as {kind}"
    num_numbers = max(counts.num_numbers() for counts in profile.number_counts.values())
    blanks = next(groups for groups in plain.digit_groups if groups.sign == " ")
    most = max(profile.number_counts.values(), key=lambda counts: counts.num_in_parentheses)
    commas = max(profile.number_counts.values(), key=lambda counts: counts.num_commas)
    if commas.num_commas and 2 * commas.num_commas >= profile.num_rows and not profile.allows_commas:
        how = "are read as a separator of numbers" if kind in ("vector", "frames") else how
        to_do = "write a point, or separate the columns of a CSV file by semicolons"
        return f"'{profile.name}': values with a comma, such as {commas.comma_example}, {how}; to have numbers, {to_do}"
    if (
        kind in ("text", LABELS_OF_STEPS)
        and blanks.num_grouped
        and profile.is_nearly_all(plain.num_numeric + blanks.num_grouped)
    ):
        why = f"such as {blanks.example}, {how}, since blanks may separate numbers"
        number = f"{profile.name}:number" + "s" * (kind == LABELS_OF_STEPS)
        return f"'{profile.name}': values with blanks, {why}; to have one number in each, say {number}"
    if kind in ("text", LABELS_OF_STEPS) and 2 * num_numbers > profile.num_rows and plain.other_example:
        numbers = f"{num_numbers:,} of {profile.num_rows:,} values are numbers"
        others = f"others are not, such as {plain.other_example:.40}"
        to_do = f"to leave out the others, say {profile.name}:number" if kind == "text" else "for a gap, leave a cell empty"
        return f"'{profile.name}': {numbers}, {others}: they {how}; {to_do}"
    if most.num_in_parentheses and profile.is_nearly_all(most.num_numeric + most.num_in_parentheses):
        example = most.example_in_parentheses
        return f"'{profile.name}': values such as {example} {how}; to have negative numbers, say {profile.name}:number"
    return ""


def _unit_note(profile: ColumnProfile, kind: str) -> str:
    """Return a sentence about numbers whose units differ, or an empty one."""
    counts = sorted(profile.number_counts.values(), key=lambda counts: (-counts.num_numbers(), counts.unit))
    examples = [found.example for found in counts if found.num_numbers()]
    units = [found for found in counts if found.unit and found.num_numbers()]
    num_with_unit = sum(found.num_numbers() for found in units)
    is_told = kind in ("number", "text") or any(is_symbol(found.unit) for found in units)
    if not units or len(examples) < 2 or len(units) > MAX_TOLD_UNITS or 2 * num_with_unit < profile.num_rows or not is_told:
        return ""
    how = "numbers of one unit are not read with others" if kind == "number" else f"they are read as {kind}"
    to_do = "to have numbers, write all with the same unit or with none"
    return f"'{profile.name}': not all values have the same unit, as in {' and '.join(examples[:2])}: {how}; {to_do}"
