"""What hosts agree on and share out, on hosts that are made up; tests/hosts/test_runs.py has real ones."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like import distributed
from t5like.data.lanes import ONLY_HOST, HostShare
from t5like.distributed import agree, fetch_each, host_share, shared_cursor
from t5like.errors import UserError
from t5like.sharding import put_batch

ROWS = PartitionSpec(("data", "fsdp"))


@dataclasses.dataclass
class OfOneHost:
    """The sharding of rows over a mesh as a host sees it that has some of the eight devices."""

    sharding: NamedSharding
    own: set[int]

    def addressable_devices_indices_map(self, shape: tuple[int, ...]) -> dict[Any, Any]:
        """Returns the rows of this host's devices."""
        indices = self.sharding.devices_indices_map(shape)
        return {device: index for device, index in indices.items() if device.id in self.own}


def sharding_over(data: int, fsdp: int, tensor: int) -> NamedSharding:
    devices = np.asarray(jax.devices()).reshape(data, fsdp, tensor)
    return NamedSharding(Mesh(devices, ("data", "fsdp", "tensor")), ROWS)


def shares_of(
    sharding: NamedSharding, owners: list[set[int]], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> list[HostShare]:
    """Returns the share of each host."""
    monkeypatch.setattr(jax, "process_count", lambda: len(owners))
    return [host_share(OfOneHost(sharding, own), batch_size) for own in owners]  # type: ignore[arg-type]


def devices_in_order(num_hosts: int) -> list[set[int]]:
    """Returns the devices of each host as JAX numbers them: those of a host lie together."""
    return [set(part.tolist()) for part in np.split(np.arange(8), num_hosts)]


def test_one_host_makes_whole_batches() -> None:
    assert host_share(sharding_over(8, 1, 1), 16) == ONLY_HOST


@pytest.mark.parametrize("num_hosts", [2, 4, 8])
@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 4, 1), (1, 8, 1)])
def test_hosts_share_the_rows_of_their_devices(
    mesh: tuple[int, int, int], num_hosts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = shares_of(sharding_over(*mesh), devices_in_order(num_hosts), 16, monkeypatch)
    assert shares == [HostShare(host, num_hosts) for host in range(num_hosts)]


def test_hosts_over_which_the_model_is_split_hold_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    # [data 2, tensor 4] on four hosts of two devices: two hosts hold each half of the batch.
    shares = shares_of(sharding_over(2, 1, 4), devices_in_order(4), 16, monkeypatch)
    assert shares == [HostShare(0, 2), HostShare(0, 2), HostShare(1, 2), HostShare(1, 2)]
    assert shares_of(sharding_over(1, 1, 8), devices_in_order(2), 16, monkeypatch) == [ONLY_HOST] * 2


def test_a_host_whose_rows_are_scattered_makes_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    scattered = [{0, 1, 4, 5}, {2, 3, 6, 7}]
    assert shares_of(sharding_over(8, 1, 1), scattered, 16, monkeypatch) == [ONLY_HOST] * 2
    # Three quarters together are no part that counts.
    assert shares_of(sharding_over(8, 1, 1), [set(range(6)), {6, 7}], 16, monkeypatch) == [
        ONLY_HOST,
        HostShare(3, 4),
    ]


def test_a_share_is_put_where_its_rows_belong() -> None:
    # One process has all devices, and so can only be given whole batches; a part of one is what it lacks rows for.
    batch = {"x": np.arange(48).reshape(16, 3)}
    array = put_batch(batch, sharding_over(4, 2, 1))["x"]
    np.testing.assert_array_equal(array, batch["x"])
    assert array.sharding.spec == ROWS
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, batch["x"][shard.index])


def hosts_that_state(monkeypatch: pytest.MonkeyPatch, *stated: Any) -> None:
    """Makes all hosts give these when they are asked."""
    monkeypatch.setattr(distributed, "gather", lambda own: list(stated))
    monkeypatch.setattr(jax, "process_count", lambda: len(stated))


def test_hosts_that_differ_are_told_which_and_in_what(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"config": {"seed": 1}, "vocabulary": "aa"}
    hosts_that_state(monkeypatch, facts, facts, {**facts, "vocabulary": "bb"})
    with pytest.raises(UserError) as error:
        agree(facts, remedy="give all the same.")
    assert str(error.value) == "Host 2 of 3 has another vocabulary than host 0; give all the same."
    hosts_that_state(monkeypatch, facts, facts)
    agree(facts, remedy="give all the same.")


def test_the_cursor_of_a_batch_is_that_of_all_its_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"num_lanes": 2, "lanes": {"0": {"row": 5}}}
    second = {"num_lanes": 2, "lanes": {"1": {"row": 6}}}
    hosts_that_state(monkeypatch, first, second)
    assert shared_cursor(first) == {"num_lanes": 2, "lanes": {"0": {"row": 5}, "1": {"row": 6}}}


@pytest.mark.parametrize("num", [0, 1, 4])
def test_each_is_fetched_once_the_next_is_being_computed(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, int]] = []
    original = distributed.fetch

    def fetch(tree: Any) -> Any:
        events.append(("fetched", int(tree)))
        return original(tree)

    def computed() -> Iterator[tuple[str, jax.Array]]:
        for i in range(num):
            events.append(("computed", i))
            yield f"note {i}", jax.numpy.asarray(i)

    monkeypatch.setattr(distributed, "fetch", fetch)
    assert list(fetch_each(computed())) == [(f"note {i}", i) for i in range(num)]
    for i in range(num - 1):
        assert events.index(("computed", i + 1)) < events.index(("fetched", i))
