"""Regular expressions of users, matched by an automaton: in time linear in the text, whatever the expression.

Python's `re` backtracks, so that an expression such as `(a+)+b` takes exponential time on some texts, and nothing can stop it.
Here the syntax tree of `re` becomes a nondeterministic automaton (Thompson, 1968), whose sets of states are the states of a
deterministic one, made when they are first needed (Cox, "Regular Expression Matching in the Wild", 2010). States of a set are
in the order in which `re` would try them, so that the same match is found. What such an automaton cannot express is refused.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from unrolled.errors import UsageError

MAX_MATCH_CHARS = 256
"""Maximum characters of a match."""

MAX_INSTRUCTIONS = 5000
"""Size of an automaton: repeats with a count are written out."""

MAX_CACHED_STEPS = 100_000
"""Steps of the deterministic automaton that are kept; with more, it is made anew."""

Predicate = Callable[[str], bool]


class _Instruction(NamedTuple):
    """A character to read, if `predicate` is set; else the `targets` in order of preference; without any, the match."""

    predicate: Predicate | None
    targets: tuple[int, ...] = ()


class _State:
    """A set of instructions, in order of preference, and the steps from it that were made so far."""

    def __init__(self, instructions: tuple[int, ...], is_match: bool) -> None:
        self.instructions, self.is_match = instructions, is_match
        self.steps: dict[str, _State] = {}


class TokenPattern:
    """A regular expression that finds tokens.

    Args:
        pattern: An expression of Python's `re` without assertions, references, atomic groups and flags.

    Raises:
        UsageError: It does not compile, has a part that is not allowed, is too large, or matches the empty text.

    Example:
        >>> TokenPattern(r"Cl|Br|%[0-9]{2}|[A-Za-z]").pieces("ClC%10!")
        ['Cl', 'C', '%10', '!']
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of what another version of Python may read otherwise: [[:alpha:]]
                tree = _parser().parse(pattern)
        except (re.error, Warning, OverflowError, RecursionError) as error:
            raise UsageError(f"The regular expression {pattern!r:.200} does not compile: {error}.") from error
        if tree.state.flags & ~int(re.UNICODE):
            raise UsageError(_not_allowed(pattern, "flags"))
        self._program: list[_Instruction] = []
        try:
            self._add(tree)
        except RecursionError as error:
            raise UsageError(f"The regular expression {pattern!r:.200} is nested too deeply.") from error
        self._emit(_Instruction(None))
        self._reset()
        if self._start.is_match:
            raise UsageError(
                f"The regular expression {pattern!r:.200} matches the empty text, and a token has at least one character: "
                "write + in place of *."
            )

    def pieces(self, text: str) -> list[str]:
        """Return the text in pieces: the matches, and each character between them."""
        pieces, position, length = [], 0, len(text)
        while position < length:
            stop, state = position + 1, self._start
            for index in range(position, min(length, position + MAX_MATCH_CHARS)):
                character = text[index]
                state = state.steps.get(character) or self._step(state, character)
                if not state.instructions:
                    break
                if state.is_match:
                    stop = index + 1
            pieces.append(text[position:stop])
            position = stop
        return pieces

    def matches(self, text: str) -> bool:
        """Return whether a match begins at the start of a text."""
        state = self._start
        for character in text[:MAX_MATCH_CHARS]:
            state = state.steps.get(character) or self._step(state, character)
            if state.is_match:
                return True
        return False

    def _reset(self) -> None:
        self._states: dict[tuple[int, ...], _State] = {}
        self._num_steps = 0
        self._start = self._state((0,))

    def _step(self, state: _State, character: str) -> _State:
        if self._num_steps >= MAX_CACHED_STEPS:
            self._reset()
        reads = ((index, self._program[index].predicate) for index in state.instructions)
        next_state = self._state(tuple(index + 1 for index, predicate in reads if predicate and predicate(character)))
        state.steps[character] = next_state
        self._num_steps += 1
        return next_state

    def _state(self, entries: tuple[int, ...]) -> _State:
        """Return the state of all instructions that can be reached from `entries`; what a match is preferred to is left out."""
        reached: dict[int, None] = {}
        seen: set[int] = set()
        stack = list(reversed(entries))
        is_match = False
        while stack and not is_match:
            index = stack.pop()
            if index in seen:
                continue
            seen.add(index)
            instruction = self._program[index]
            if instruction.predicate is None and instruction.targets:
                stack.extend(reversed(instruction.targets))
            else:
                reached[index] = None
                is_match = instruction.predicate is None
        key = tuple(reached)
        return self._states.setdefault(key, _State(key, is_match))

    def _emit(self, instruction: _Instruction) -> int:
        if len(self._program) >= MAX_INSTRUCTIONS:
            raise UsageError(f"The regular expression {self.pattern!r:.200} is too large: lower its counts of repeats.")
        self._program.append(instruction)
        return len(self._program) - 1

    def _add(self, tree: Iterable[Any]) -> None:
        """Append the instructions for a sequence of nodes of the syntax tree of `re`."""
        for operation, argument in tree:
            name = str(operation)
            if name in ("MAX_REPEAT", "MIN_REPEAT"):
                minimum, maximum, body = argument
                self._add_repeat(minimum, maximum, body, is_greedy=name == "MAX_REPEAT")
            elif name == "BRANCH":
                self._add_branches(argument[1])
            elif name == "SUBPATTERN" and not argument[1] and not argument[2]:
                self._add(argument[3])
            else:
                self._emit(_Instruction(self._predicate(name, argument)))

    def _add_branches(self, branches: list[Any]) -> None:
        ends = []
        for branch in branches[:-1]:
            split = self._emit(_Instruction(None, (0,)))
            self._add(branch)
            ends.append(self._emit(_Instruction(None, (0,))))
            self._program[split] = _Instruction(None, (split + 1, len(self._program)))
        self._add(branches[-1])
        for end in ends:
            self._program[end] = _Instruction(None, (self._next(),))

    def _next(self) -> int:
        return len(self._program)

    def _add_repeat(self, minimum: Any, maximum: Any, body: Any, is_greedy: bool) -> None:
        minimum, is_endless = int(minimum), str(maximum) == "MAXREPEAT"
        first = self._next()
        self._add(body)
        if self._next() == first:  # an empty body
            return
        del self._program[first:]
        for _ in range(minimum):
            self._add(body)
        splits = []
        for _ in range(1 if is_endless else int(maximum) - minimum):
            splits.append(self._emit(_Instruction(None, (0,))))
            self._add(body)
        if is_endless:
            self._emit(_Instruction(None, (splits[0],)))
        for split in splits:
            targets = (split + 1, self._next())
            self._program[split] = _Instruction(None, targets if is_greedy else targets[::-1])

    def _predicate(self, name: str, argument: Any) -> Predicate:
        """Return the test of one character that a node stands for. Raises `UsageError` for any other node."""
        if name == "LITERAL":
            return chr(argument).__eq__
        if name == "NOT_LITERAL":
            return chr(argument).__ne__
        if name == "ANY":
            return "\n".__ne__
        if name == "IN":
            is_negated = str(argument[0][0]) == "NEGATE"
            tests = [_member_test(str(operation), member) for operation, member in argument[is_negated:]]
            return lambda character: any(test(character) for test in tests) != is_negated
        raise UsageError(_not_allowed(self.pattern, _NODE_WORDS.get(name, name.lower().replace("_", " "))))


def _parser() -> Any:
    """Return the parser of `re`, a module of Python without documentation."""
    return importlib.import_module("re._parser")


def _member_test(operation: str, member: Any) -> Predicate:
    """Return the test of a member of a set: a character, a range, or a category such as `\\w`."""
    if operation == "LITERAL":
        return chr(member).__eq__
    if operation == "RANGE":
        first, last = map(chr, member)
        return lambda character: first <= character <= last
    name = str(member).removeprefix("CATEGORY_")
    test = _CATEGORIES[name.removeprefix("NOT_")]
    return (lambda character: not test(character)) if name.startswith("NOT_") else test


_CATEGORIES: dict[str, Predicate] = {
    "DIGIT": str.isdecimal,
    "SPACE": str.isspace,
    "WORD": lambda character: character.isalnum() or character == "_",
}

_NODE_WORDS = {
    "AT": "an anchor or boundary (^, $, \\b)",
    "ASSERT": "a look-ahead or look-behind",
    "ASSERT_NOT": "a look-ahead or look-behind",
    "GROUPREF": "a reference to a group",
    "GROUPREF_EXISTS": "a reference to a group",
    "SUBPATTERN": "flags",
    "POSSESSIVE_REPEAT": "a possessive repeat",
    "ATOMIC_GROUP": "an atomic group",
}


def _not_allowed(pattern: str, part: str) -> str:
    return (
        f"The regular expression {pattern!r:.200} has {part}, and a token is described by its own characters alone, so that "
        "every expression takes linear time: leave it out."
    )
