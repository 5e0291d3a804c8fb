"""Prefect's engine for one flow run, as `python -m flows.engine`: what its deployments start.

Python looks through its objects for cycles each time that 700 more exist than before, and now and
then through all of them. A step holds a row for each variant and the engine's modules are large,
so this took a third of the CPU of a flow on 12,000 variants, and a tenth of that of its start.
Next to nothing of what a flow makes is garbage in cycles: it is looked for seldom.
"""

import gc
import runpy

_NEW_OBJECTS_BEFORE_A_COLLECTION = 50_000
#: Of so many collections one takes in what the last ones have left, and of so many of these one
#: takes in everything.
_COLLECTIONS_BEFORE_A_LARGER_ONE = 20

if __name__ == "__main__":
    gc.set_threshold(
        _NEW_OBJECTS_BEFORE_A_COLLECTION,
        _COLLECTIONS_BEFORE_A_LARGER_ONE,
        _COLLECTIONS_BEFORE_A_LARGER_ONE,
    )
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
