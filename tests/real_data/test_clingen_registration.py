"""Registering real HGVS at ClinGen, where a captured answer is at hand with that answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.simulators.clingen import create_app
from tasks.clients.clingen import Account, Outcome, Registered, Rejected, register
from tests.support_servers import Simulator, served


@pytest.fixture(scope="module")
def registry() -> Iterator[Simulator]:
    with served(create_app("curator", "secret")) as simulator:
        yield simulator


def register_lines(registry: Simulator, file: Path, batch_size: int) -> dict[str, Outcome]:
    return register(
        registry.url,
        Account("curator", "secret"),
        file.read_text().splitlines(),
        batch_size=batch_size,
        connect_timeout=5,
        read_timeout=20,
    )


def test_a_real_answer_is_tied_to_its_lines(registry: Simulator, data: Path) -> None:
    answer = (data / "car" / "bulk_put_hgvs_6_response.json").read_text()
    registry.fail("malformed", body=answer, times=1)

    outcomes = register_lines(registry, data / "car" / "bulk_put_hgvs_6_input.txt", 2_000)

    assert [*outcomes.items()][:3] == [
        ("ENST00000450305.2:n.182+58G>A", Registered("CA887895211")),
        # Two transcripts' names of one change.
        ("ENST00000327044.6:c.1667C>T", Registered("CA503883")),
        ("ENST00000477976.5:n.3114C>T", Registered("CA503883")),
    ]
    refused = [outcome for outcome in outcomes.values() if isinstance(outcome, Rejected)]
    assert len(refused) == 3
    assert refused[0].message == (
        "InternalServerError: Unknown reference: ENST00000387314.1 (ENST00000387314.1:n.1G>C)"
    )


def test_a_thousand_real_lines_go_out_in_batches(registry: Simulator, data: Path) -> None:
    file = data / "car" / "hgvs_1000_input.txt"
    registry.reset()

    outcomes = register_lines(registry, file, 300)

    assert list(outcomes) == file.read_text().splitlines()
    assert registry.requests("PUT") == 4
    assert outcomes == register_lines(registry, file, 1_000)
    few = register_lines(registry, data / "car" / "hgvs_10_input.txt", 3)
    assert len(few) == 10
    assert sum(isinstance(outcome, Registered) for outcome in outcomes.values()) > 900
