"""The callbacks through which a sync reports its progress."""

from collections.abc import Sequence

from pipeline.extract.scan import FailedScan
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.windows import Window
from pipeline.twilio.client import Page


class Observer:
    """Callbacks for the events of a sync, called from threads. Override those of interest."""

    def planned(self, windows: Sequence[Window]) -> None:
        """Called with windows before they are scanned, and with the parts of a window that is split."""

    def received(self, page: Page) -> None:
        """Called with each page as it arrives."""

    def landed(self, facts: ScanFacts) -> None:
        """Called when a scan has landed."""

    def failed(self, failure: FailedScan) -> None:
        """Called when a window could not be scanned."""

    def looking_up(self, lookups: int) -> None:
        """Called once with the number of lookups by id that this sync may make."""

    def looked_up(self, batch: LookupBatch) -> None:
        """Called when the responses to some lookups have landed."""

    def publishing(self) -> None:
        """Called when the delivery tables are derived and the warehouse is published."""

    def ended(self) -> None:
        """Called when the sync ends, whether it succeeded or not."""

    def merged(self, report: MergeReport) -> None:
        """Called when a day was merged."""
