"""What prefect.yaml deploys."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prefect import Flow

from mavedb_audit.dispatcher import DEPLOYMENT_NAME
from mavedb_audit.events import OUR_FLOWS

FILE = Path(__file__).parents[2] / "prefect.yaml"
DEPLOYMENTS = yaml.safe_load(FILE.read_text())["deployments"]


def flow_of(entrypoint: str) -> Flow[..., object]:
    path, _, name = entrypoint.partition(":")
    found = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_a_deployments_entrypoint_is_a_flow_that_takes_its_parameters(
    deployment: dict[str, object],
) -> None:
    flow = flow_of(str(deployment["entrypoint"]))
    assert deployment["name"] == DEPLOYMENT_NAME
    parameters = deployment.get("parameters", {})
    assert isinstance(parameters, dict)
    assert flow.validate_parameters(parameters) is not None
    assert flow.description


def test_every_flow_that_is_ours_is_deployed() -> None:
    assert {flow_of(d["entrypoint"]).name for d in DEPLOYMENTS} == OUR_FLOWS
