"""What the steps of the tour share: the stage, the terminal, and what earlier steps left for later ones.

Ana's session is opened in the first step, and read back from the audit trail later. See demo/tour.py.
"""

from __future__ import annotations

from typing import Any

import psycopg

from hoopfast.demo.show import Show
from hoopfast.demo.stage import Stage


class Guide:
    """What the steps know: where they play, where they speak, and what happened before."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self.stage = stage
        self.show = show
        self.session = ""                                       # ana's, 16 hex digits
        self._ana: psycopg.Connection[Any] | None = None
        self.approval = ""

    @property
    def ana(self) -> psycopg.Connection[Any]:
        """Ana's open connection through the gateway."""
        if self._ana is None or self._ana.closed:
            raise RuntimeError("ana is not connected")
        return self._ana

    def sign_in_ana(self) -> psycopg.Connection[Any]:
        self._ana = self.stage.connect("ana")
        return self._ana

    def sign_out(self) -> None:
        if self._ana is not None:
            self._ana.close()
