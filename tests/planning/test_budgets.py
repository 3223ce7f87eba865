"""What is stored of the shipped configs' plans: there for each, fitting, and of the config as it is."""

import pytest

from t5like.config import load_config_file, override
from t5like.planning.record import plan_from_json, regressions
from t5like.planning.topologies import find_topology
from t5like.pretrain import Pretrain
from tests.planning import budgets

STORED = [name for name in budgets.TARGETS if budgets.read_budget(name) is not None]


def test_budgets_are_of_targets():
    assert {path.stem for path in budgets.FOLDER.glob("*.json")} == set(STORED)
    assert STORED


@pytest.mark.parametrize("name", STORED)
def test_a_stored_plan_fits_and_is_of_its_config_and_topology(name):
    config_name, topology_name, num_slices, fields = budgets.TARGETS[name]
    config = load_config_file(budgets.ROOT / f"configs/{config_name}.py", Pretrain)
    config = override(config, list(fields), command="test")
    topology = find_topology(topology_name, num_slices=num_slices)
    stored = budgets.read_budget(name)
    assert stored is not None
    plan = stored[1]
    assert plan.memory.fits
    assert 0 < plan.mfu_percent() < plan.mfu_percent(counts_wires=False) < 100
    assert plan.num_devices == topology.num_devices
    assert plan.batch_size == config.batch_size
    assert (plan.remat, plan.attention) == (config.model.remat, config.model.attention)
    sizes = config.mesh.sizes(topology.num_devices)
    assert list(plan.mesh.values()) == [size for size in sizes if size != 1]
    assert regressions(plan, plan_from_json(plan.to_json())) == []
