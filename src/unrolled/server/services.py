"""What the routes of one server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unrolled.server.catalog import Catalog
from unrolled.server.engine import Engine
from unrolled.server.states import StateStore

if TYPE_CHECKING:
    from unrolled.server.completions import Completion


@dataclass
class Services:
    """Models, engine, states and running requests of one server."""

    catalog: Catalog
    engine: Engine
    states: StateStore = field(default_factory=StateStore)
    completions: dict[str, Completion] = field(default_factory=dict)
    num_requests: int = 0
    started: float = field(default_factory=time.time)

    def count_request(self) -> None:
        """Count a completion."""
        self.num_requests += 1

    def close(self) -> None:
        """End the engine."""
        self.engine.close()
