"""Lazy: what a session is asked for seldom, each module loaded when first named."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from . import bisect as bisect
    from . import calibrated as calibrated
    from . import curve as curve
    from . import ledger as ledger
    from . import steps as steps
else:
    __getattr__ = lazily(__name__, ["bisect", "calibrated", "curve", "ledger", "steps"])
