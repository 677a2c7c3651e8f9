"""A WebAssembly module with the products and the tanh of the portable step, assembled instruction by instruction.

It imports its memory as `env.memory`, and has three functions; `weight`, `vector`, `out`, `values` and `end` are addresses.

* `multiply(weight, stride, rows, vector, count, out)` writes, for each of `rows` rows (a multiple of 4) of int8 weights that
  are `stride` bytes apart, the exact sum of the products of `count` weights (a multiple of 8) and the int16 numbers of the
  vector, as int32.
* `tanh(values, end)` replaces the float32 numbers from `values` to `end`, four at a time, by their tanh, with the operations of
  `runtime/portable_arithmetic.py` in the same order.
* `multiply_floats(weight, stride, rows, vector, out)` writes, for each of `rows` rows of float32 weights that are `stride`
  bytes apart (a multiple of 64), the ordered sum of their products with as many numbers of the vector: 16 partial sums, then a
  tree.

The encoding is that of the WebAssembly specification, 2.0, with its 128-bit vectors.
"""

from __future__ import annotations

import numpy as np

from unrolled.runtime.portable_arithmetic import TANH_LIMIT, TANH_P, TANH_Q, Floats

WEIGHT, STRIDE, ROWS, VECTOR, COUNT, OUT = range(6)
"""The parameters, which are locals too."""

K, ROW_1, ROW_2, ROW_3 = range(6, 10)
SUM_0, SUM_1, SUM_2, SUM_3, NUMBERS = range(10, 15)
FLOAT_VECTOR, FLOAT_OUT, OFFSET, *LANE_SUMS = range(3, 10)
"""The last parameters and the locals of `multiply_floats`; the first ones are those of `multiply`."""

VALUES, VALUES_END, NUMBER, SQUARE = range(4)
"""The parameters and the locals of `tanh`."""

ROW_POINTERS, SUMS = (WEIGHT, ROW_1, ROW_2, ROW_3), (SUM_0, SUM_1, SUM_2, SUM_3)

I32, V128, EMPTY_BLOCK = b"\x7f", b"\x7b", b"\x40"
ADD, SUB, LESS_SIGNED, IS_ZERO = b"\x6a", b"\x6b", b"\x48", b"\x45"
BLOCK, LOOP, END = b"\x02" + EMPTY_BLOCK, b"\x03" + EMPTY_BLOCK, b"\x0b"


def leb128(value: int) -> bytes:
    """Return an integer that is not negative in the unsigned LEB128 encoding.

    Example:
        >>> leb128(300).hex()
        'ac02'
    """
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + leb128(rest) if rest else bytes([low])


def _vector(opcode: int, operands: bytes = b"") -> bytes:
    return b"\xfd" + leb128(opcode) + operands


NO_OFFSET = b"\x00\x00"  # an address without alignment and offset
LOAD, LOAD_INT8_AS_INT16, STORE = (_vector(opcode, NO_OFFSET) for opcode in (0x00, 0x01, 0x0B))
ZEROS, ADD_INT32, DOT_INT16 = _vector(0x0C, bytes(16)), _vector(0xAE), _vector(0xBA)
ADD_FLOAT, MULTIPLY_FLOAT, DIVIDE_FLOAT, LESS_OR_FIRST, MORE_OR_FIRST = map(_vector, (0xE4, 0xE6, 0xE7, 0xEA, 0xEB))


def _get(local: int) -> bytes:
    return b"\x20" + leb128(local)


def _set(local: int) -> bytes:
    return b"\x21" + leb128(local)


def _const(value: int) -> bytes:
    return b"\x41" + leb128(value)  # signed LEB128: the same for 0 to 63


def _branch_if(depth: int) -> bytes:
    return b"\x0d" + leb128(depth)


def _branch(depth: int) -> bytes:
    return b"\x0c" + leb128(depth)


def _shuffle(*lanes: int) -> bytes:
    """Return four lanes of int32 of two vectors, 0 to 3 of the first and 4 to 7 of the second."""
    return _vector(0x0D, bytes(4 * lane + i for lane in lanes for i in range(4)))


def _add_halves(first: bytes, second: bytes, low: tuple[int, ...], high: tuple[int, ...]) -> bytes:
    return first + second + _shuffle(*low) + first + second + _shuffle(*high) + ADD_INT32


def _columns() -> bytes:
    """Return the loop over the columns: eight products of each of four rows at a time."""
    load_numbers = _get(VECTOR) + _get(K) + _const(1) + b"\x74" + ADD + LOAD + _set(NUMBERS)  # at vector + (k << 1)
    products = b"".join(
        _get(total) + _get(row) + _get(K) + ADD + LOAD_INT8_AS_INT16 + _get(NUMBERS) + DOT_INT16 + ADD_INT32 + _set(total)
        for row, total in zip(ROW_POINTERS, SUMS, strict=True)
    )
    next_columns = _get(K) + _const(8) + ADD + b"\x22" + leb128(K) + _get(COUNT) + LESS_SIGNED + _branch_if(0)
    return _const(0) + _set(K) + LOOP + load_numbers + products + next_columns + END


def _store_sums() -> bytes:
    """Return the code that adds the four lanes of each of four sums, and writes them side by side."""
    low, high = (0, 4, 1, 5), (2, 6, 3, 7)
    pairs = [_add_halves(_get(a), _get(b), low, high) + _set(a) for a, b in ((SUM_0, SUM_1), (SUM_2, SUM_3))]
    total = _add_halves(_get(SUM_0), _get(SUM_2), (0, 1, 4, 5), (2, 3, 6, 7))
    return b"".join(pairs) + _get(OUT) + total + STORE


def _four(value: np.float32) -> bytes:
    """Return a vector of four equal constants."""
    return _vector(0x0C, value.astype("<f4").tobytes() * 4)


def _polynomial(coefficients: Floats) -> bytes:
    """Return the code of a polynomial in the square, by Horner's rule."""
    steps = b"".join(_get(SQUARE) + MULTIPLY_FLOAT + _four(value) + ADD_FLOAT for value in coefficients[-2::-1])
    return _four(coefficients[-1]) + steps


def _clamped(code: bytes, limit: np.float32) -> bytes:
    """Return what is the number of a code between -limit and limit, and -limit where it is NaN."""
    return _four(limit) + _four(-limit) + code + MORE_OR_FIRST + LESS_OR_FIRST


def _tanh_body() -> bytes:
    number = _clamped(_get(VALUES) + LOAD, TANH_LIMIT) + _set(NUMBER)
    square = _get(NUMBER) + _get(NUMBER) + MULTIPLY_FLOAT + _set(SQUARE)
    numerator = _get(NUMBER) + _polynomial(TANH_P) + MULTIPLY_FLOAT
    result = _clamped(numerator + _polynomial(TANH_Q) + DIVIDE_FLOAT, np.float32(1))
    store = _get(VALUES) + result + STORE
    advance = _get(VALUES) + _const(16) + ADD + b"\x22" + leb128(VALUES) + _get(VALUES_END) + LESS_SIGNED + _branch_if(0)
    return leb128(1) + leb128(2) + V128 + LOOP + number + square + store + advance + END + END


def _multiply_floats_body() -> bytes:
    def at(address: int, lanes: int) -> bytes:
        return _get(address) + _get(OFFSET) + ADD + _vector(0x00, b"\x00" + leb128(16 * lanes))

    clear = b"".join(ZEROS + _set(total) for total in LANE_SUMS) + _const(0) + _set(OFFSET)
    products = b"".join(
        _get(total) + at(WEIGHT, lanes) + at(FLOAT_VECTOR, lanes) + MULTIPLY_FLOAT + ADD_FLOAT + _set(total)
        for lanes, total in enumerate(LANE_SUMS)
    )
    step = _get(OFFSET) + b"\x41\xc0\x00" + ADD + b"\x22" + leb128(OFFSET)  # 64: two bytes in signed LEB128
    columns = LOOP + products + step + _get(STRIDE) + LESS_SIGNED + _branch_if(0) + END
    first, second, third, fourth = LANE_SUMS
    halves = [_get(a) + _get(b) + ADD_FLOAT for a, b in ((first, third), (second, fourth))]
    quarters = halves[0] + halves[1] + ADD_FLOAT + _set(first)
    for lanes in ((2, 3, 2, 3), (1, 1, 1, 1)):
        quarters += _get(first) + _get(first) + _get(first) + _shuffle(*lanes) + ADD_FLOAT + _set(first)
    store = _get(FLOAT_OUT) + _get(first) + _vector(0x1F, b"\x00") + b"\x38" + NO_OFFSET
    advance = _get(WEIGHT) + _get(STRIDE) + ADD + _set(WEIGHT) + _get(FLOAT_OUT) + _const(4) + ADD + _set(FLOAT_OUT)
    count_down = _get(ROWS) + _const(1) + SUB + _set(ROWS) + _branch(0)
    rows = _get(ROWS) + IS_ZERO + _branch_if(1) + clear + columns + quarters + store + advance + count_down
    local_types = leb128(2) + leb128(1) + I32 + leb128(4) + V128
    return local_types + BLOCK + LOOP + rows + END + END + END


def _multiply_body() -> bytes:
    next_rows = b"".join(
        _get(above) + _get(STRIDE) + ADD + _set(row) for above, row in zip(ROW_POINTERS, ROW_POINTERS[1:], strict=False)
    )
    clear = b"".join(ZEROS + _set(total) for total in SUMS)
    advance = _get(ROW_3) + _get(STRIDE) + ADD + _set(WEIGHT) + _get(OUT) + _const(16) + ADD + _set(OUT)
    count_down = _get(ROWS) + _const(4) + SUB + _set(ROWS) + _branch(0)
    rows = _get(ROWS) + IS_ZERO + _branch_if(1) + next_rows + clear + _columns() + _store_sums() + advance + count_down
    local_types = leb128(2) + leb128(4) + I32 + leb128(5) + V128
    return local_types + BLOCK + LOOP + rows + END + END + END


def _sized(content: bytes) -> bytes:
    return leb128(len(content)) + content


def _name(text: str) -> bytes:
    return _sized(text.encode())


def _function_type(count: int) -> bytes:
    """Return the type of a function of `count` int32, without a result."""
    return b"\x60" + _sized(I32 * count) + leb128(0)


def _exported(name: str, function: int) -> bytes:
    return _name(name) + b"\x00" + leb128(function)


def products_module() -> bytes:
    """Return the module.

    Example:
        >>> products_module()[:8]
        b'\\x00asm\\x01\\x00\\x00\\x00'
    """
    sections = {
        1: leb128(3) + _function_type(6) + _function_type(2) + _function_type(5),
        2: leb128(1) + _name("env") + _name("memory") + b"\x02\x00" + leb128(1),  # imports: a memory of at least one page
        3: leb128(3) + leb128(0) + leb128(1) + leb128(2),  # functions, by their types
        7: leb128(3) + _exported("multiply", 0) + _exported("tanh", 1) + _exported("multiply_floats", 2),
        10: leb128(3) + _sized(_multiply_body()) + _sized(_tanh_body()) + _sized(_multiply_floats_body()),  # code
    }
    return b"\x00asm\x01\x00\x00\x00" + b"".join(bytes([number]) + _sized(content) for number, content in sections.items())
