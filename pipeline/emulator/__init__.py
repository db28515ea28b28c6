"""An emulator of the API: `world` computes operations, `server` serves them, `faults` injects faults."""

from pipeline.emulator.api import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN, Options
from pipeline.emulator.faults import FAULTS, Faults
from pipeline.emulator.server import Emulator, ServedRequest, running
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import World

__all__ = [
    "DEMO_ACCOUNT_SID",
    "DEMO_AUTH_TOKEN",
    "FAULTS",
    "Clock",
    "Emulator",
    "Faults",
    "Options",
    "ServedRequest",
    "World",
    "running",
]
