"""The guided tour: a list of steps that really happen, each shown and each verified. Called by cli/demo.py.

A step that fails is shown, counted, and the tour goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hoopfast.demo import evidence, scenes
from hoopfast.demo.guide import Guide
from hoopfast.demo.show import Show
from hoopfast.demo.stage import Stage

Step = tuple[str, str, Callable[[Guide], None]]

STEPS: tuple[Step, ...] = (
    ("Ana signs in", "The password is a token of the company's identity provider. Whatever follows has a person.",
     scenes.sign_in),
    ("What Ana sees", "Masks follow the column, not its name: text, binary, COPY and tricks included.", scenes.masking),
    ("psql, unchanged", "Clients do not notice that there is a gateway.", scenes.psql),
    ("GRANT is denied", "A rule can say no, and why.", scenes.denied),
    ("DROP TABLE waits for Max", "The statement is held on Ana's open connection until somebody else approves it.",
     scenes.approval),
    ("The audit trail", "Everything that happened so far, recorded before it ran.", evidence.audit),
    ("Replay in a sandbox", "Ana's session again, on a copy of the shop from before: does it do the same?",
     evidence.replay),
    ("A secret, used and revoked", "For those who cannot bring a token. Revoking one ends its sessions at once.",
     evidence.secret),
    ("Metrics", "For Prometheus, from counters in shared memory.", evidence.metrics),
)


def run(stage: Stage, show: Show) -> bool:
    """The whole tour. True when every check held."""
    began = time.monotonic()
    guide = Guide(stage, show)
    try:
        for number, (title, why, step) in enumerate(STEPS, 1):
            show.step(number, len(STEPS), title, why)
            show.pause(0.3)
            try:
                step(guide)
            except Exception as failure:  # noqa: BLE001  # whatever it is, the person shall see it and the tour go on
                show.broken(failure)
            show.pause()
    finally:
        guide.sign_out()
    show.console.print()
    show.summary(time.monotonic() - began)
    return not show.failed
