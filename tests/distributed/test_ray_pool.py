"""RayPool gives the picks of LocalPool, whatever the number of shards."""

import numpy as np
import pytest
import ray
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.explain import runners_up
from ray_itl.core.limits import Limits
from ray_itl.core.messages import Request
from ray_itl.core.near_rows import NearQuery
from ray_itl.core.posterior import Posterior
from ray_itl.core.ranking import RankQuery
from ray_itl.errors import InputError, ShardError
from tests.distributed.helpers import (
    DIM,
    assert_no_process_left,
    local_pool,
    make_rows,
    make_targets,
    picked,
    ray_pool,
    select,
    write_rows,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]
RULES = [InformationGain(0.1), VarianceReduction(0.1), Uncertainty(0.1)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("pool"), make_rows(1500))


@pytest.fixture(scope="module", params=[1, 2, 3])
def opened(request, cluster, source):
    """Yield a pool of some shards, its reports while loading, and its reports of passes."""
    del cluster
    loading, times = [], []
    with ray_pool(source, request.param, on_pass=times.append) as pool:
        pool.load(loading.append)
        assert pool.num_shards == request.param
        yield pool, loading, times


def test_loading_reports_progress(opened):
    _, seen, _ = opened
    assert seen[-1] == 1500
    assert seen == sorted(seen)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_picks_are_those_of_a_local_pool(opened, source, rule):
    pool, _, times = opened
    times.clear()
    result, expected = select(pool, rule), select(local_pool(source), rule)
    assert picked(result) == picked(expected)
    assert [p.gain for p in result.picks] == pytest.approx([p.gain for p in expected.picks], rel=1e-9)
    assert len(times) >= len(result.stats.blocks) > 3
    assert sum(part.num_rows for part in times[0]) == 1500


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_it_stops_and_passes_over_rows_as_a_local_pool_does(opened, source, rule):
    pool, _, _ = opened
    first = select(local_pool(source), rule, n=20)
    limits = {
        "limits": Limits(min_gain=0.9 * first.picks[-1].gain),
        "excluded": np.array([p.position for p in first.picks[:10]]),
    }
    result, expected = select(pool, rule, 40, **limits), select(local_pool(source), rule, 40, **limits)
    assert picked(result) == picked(expected)
    assert not set(picked(result)) & set(picked(first)[:10])
    assert 0 < len(result.picks) < 40
    assert result.next_gain == pytest.approx(expected.next_gain, rel=1e-9)


def test_facts_and_rankings_are_those_of_a_local_pool(opened, source):
    pool, _, _ = opened
    local = local_pool(source)
    assert (pool.num_rows, pool.dim, pool.largest_norm()) == (1500, local.dim, local.largest_norm())
    assert pool.repeated_id() is None
    directions = torch.nn.functional.normalize(make_targets().rows, dim=1)
    for query in (RankQuery("cosine", directions, 5), RankQuery("random", directions[:1], 20, seed=3)):
        found, expected = pool.rank(query), local.rank(query)
        for a, b in zip(found.lists, expected.lists, strict=True):
            assert np.array_equal(found.rows.ids[a], expected.rows.ids[b])
    query = NearQuery(directions, 0.5)
    found, expected = pool.near(query), local.near(query)
    assert 0 < len(found.positions) < 1500
    for name in ("positions", "nearest", "similarities"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_runners_up_are_those_of_a_local_pool(opened, source, rule):
    pool, _, _ = opened
    result, state = select(pool, rule, n=12), rule.start(Posterior.prior(DIM), make_targets())
    found, expected = (runners_up(p, rule, state, result.picks, result.features) for p in (pool, local_pool(source)))
    assert found == expected
    assert not {runner.position for runner in found[-1:] if runner} & {pick.position for pick in result.picks}


def test_bad_rows_surface_as_input_error_and_leave_nothing_behind(tmp_path):
    rows = make_rows(300)
    rows[250, 3] = np.nan
    source = write_rows(tmp_path, rows)
    with pytest.raises(InputError, match=r"^file .pool\.parquet., row 250 .*embed it again$") as caught:
        ray_pool(source, 2, num_cpus=1).load()
    assert "Traceback" not in str(caught.value)
    assert_no_process_left()


def test_a_closed_pool_says_so(source):
    pool = ray_pool(source, 1)
    pool.load()
    pool.close()
    pool.close()
    with pytest.raises(ShardError, match="closed"):
        pool.propose(Request(1))
    assert ray.is_initialized()
