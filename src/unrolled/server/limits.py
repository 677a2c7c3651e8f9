"""What one request may ask for. Every field of every request has its limit here."""

from __future__ import annotations

MAX_BODY_BYTES = 1 << 20
"""Bytes of a request body, except for uploads and states."""

MAX_STATE_BYTES = 40 << 20
"""Bytes of a state that is taken in: that of 64 layers of 65,536 units fits."""

MAX_LANES = 64
"""Samples that are drawn at the same time."""

MAX_QUEUED = 256
"""Requests that wait for a lane. Further ones are answered with 429."""

MAX_PROMPTS = 64
MAX_SAMPLES = 64
MAX_TOKENS = 1_000_000
MAX_TOTAL_TOKENS = 4_000_000
"""`max_tokens` of a request times its samples."""

MAX_LOGPROB_TOKENS = 100_000
"""`max_tokens` of a request times its samples, and the tokens of an echoed prompt, if logprobs are asked for."""

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 1000
MAX_GUESSES = 5
MAX_SCORE_CHARS = 200_000
MAX_TRACE_VALUES = 2_000_000
MAX_ROWS = 1000
"""Rows of one prediction."""

MAX_STEPS = 20_000
"""Rows of one prediction of a model of series, which have one for each step."""

MAX_NAME_CHARS = 128
MAX_UNSENT_CHARS = 16_384
"""Text of a lane that its reader has not taken, from which on the lane waits."""

FRAME_SECONDS = 1 / 30
"""Shortest time between two frames of a stream."""

MAX_FRAMES_PER_SECOND = 512
"""Frames of all streams together: with more than 17 of them, each has fewer and longer ones, which cost the server less."""

HEADER_SECONDS = 10.0
"""Time from the first byte of a request, or from the connection, to the end of its headers."""

BODY_SECONDS = 30.0
"""Time in which a request body is received; for uploads, the longest time without a byte."""

STALLED_SECONDS = 30.0
"""Time without progress after which a client that does not read is disconnected."""

REQUEST_SECONDS = 600.0
"""Longest time of a completion."""

SHUTDOWN_SECONDS = 5.0
"""Time that running completions have to finish when the server stops."""
