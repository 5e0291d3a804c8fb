"""Which step asks which service, as its code does."""

import pytest

from docs.generate.plans import planned_steps, services_of
from mavedb_audit.pipelines import Step
from mavedb_audit.services import ASKED_BY

_STEPS = planned_steps()


@pytest.mark.parametrize("step", _STEPS.values(), ids=_STEPS)
def test_a_step_asks_the_services_that_it_is_said_to(step: Step) -> None:
    assert set(ASKED_BY.get(step.function, ())) == services_of(step)


def test_no_other_function_is_said_to_ask() -> None:
    assert ASKED_BY.keys() <= _STEPS.keys()
