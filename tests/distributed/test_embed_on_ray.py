"""Embedding by Ray Data: the files that one process would write, although workers die."""

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from ray_itl.embedding.on_ray import WorkerOptions, embed_on_ray, plan_workers
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import ConfigError, InputError, NoRoomError, ShardError
from ray_itl.training.models.classifiers import MnistCnn
from ray_itl.training.registry import ModelSpec
from tests.distributed.helpers import assert_no_process_left
from tests.embedding.embedding_helpers import CNN, embedder, write_raw

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),  # Ray Data warns of its own defaults
]
NUM_ROWS = 133


class Mortal(MnistCnn):
    """A model that ends its process when it meets a certain image, a number of times; notes lie in a folder."""

    def __init__(self, folder: str, deadly: int, times: int) -> None:
        super().__init__(**CNN.options)
        self.folder, self.deadly, self.times = Path(folder), deadly, times

    def encode(self, column):
        first = round(float(column[0].values[0].as_py()) * 1e6)
        if first == self.deadly and len(list(self.folder.glob("death-*"))) < self.times:
            (self.folder / f"death-{time.time_ns()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(column)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("raw"))


def parts_of(base, folder: Path, spec: ModelSpec = CNN) -> EmbeddingParts:
    folder.mkdir()
    return EmbeddingParts(EmbeddedSource(base, "image", embedder(spec)), ("label",), "float32", 32, str(folder))


def mortal(base, folder: Path, times: int) -> EmbeddingParts:
    """Parts whose third kills its writer."""
    value = base.take(np.array([64]), ["image"]).column(0)[0].values[0].as_py()
    options = {"folder": str(folder), "deadly": round(value * 1e6), "times": times}
    return parts_of(base, folder / "parts", ModelSpec(f"{__name__}:Mortal", options))


def contents(parts: EmbeddingParts) -> list[bytes]:
    return [parts.path(part).read_bytes() for part in range(parts.num_parts)]


def test_parts_are_those_of_one_process_although_a_worker_dies(base, tmp_path, monkeypatch):
    monkeypatch.setattr("ray_itl.embedding.on_ray._ASKED_EVERY_S", 0.1)  # of the driver
    told = []
    local = parts_of(base, tmp_path / "local")
    for part in local.missing():
        local.write(part)
    parts = mortal(base, tmp_path, times=1)
    workers = plan_workers(2, 0.5, 0, parts.num_parts, 300)
    found = dict(embed_on_ray(parts, parts.missing(), workers, on_rows=told.append))
    assert len(list(tmp_path.glob("death-*"))) == 1
    assert 0 < max(told) <= 133
    assert found == {0: 32, 1: 32, 2: 32, 3: 32, 4: 5}
    assert contents(parts) == contents(local)
    parts.check()


def test_a_part_that_kills_every_worker_ends_in_an_error_and_the_rest_goes_on_later(base, tmp_path):
    parts = mortal(base, tmp_path, times=3)
    with pytest.raises(ShardError, match=r"embedding\.batch_size.*same command goes on"):
        list(embed_on_ray(parts, parts.missing(), WorkerOptions(1, 0.5, 0, 300)))
    assert len(list(tmp_path.glob("death-*"))) == 3
    assert 2 in parts.missing()
    dict(embed_on_ray(parts, parts.missing(), WorkerOptions(1, 0.5, 0, 300)))
    parts.check()
    parts.tidy()
    assert len(list(Path(parts.folder).iterdir())) == parts.num_parts


def test_what_a_worker_raises_arrives_in_its_own_class(base, tmp_path):
    parts = parts_of(base, tmp_path / "parts")
    bad = EmbeddingParts(parts.source, ("nosuch",), "float32", 32, parts.folder)
    with pytest.raises(InputError, match="no column 'nosuch'") as caught:
        list(embed_on_ray(bad, bad.missing(), WorkerOptions(1, 0.5, 0, 300)))
    assert "Traceback" not in str(caught.value)


def test_workers_without_a_place_name_the_options(base, tmp_path):
    parts = parts_of(base, tmp_path / "parts")
    with pytest.raises(ConfigError, match=r"cluster\.num_workers=3.*room for 2 such"):
        plan_workers(3, 2.0, 0, 5, 300)
    with pytest.raises(ConfigError, match=r"cluster\.gpus_per_worker=1"):
        plan_workers(None, 1.0, 1.0, 5, 300)
    gc.collect()  # workers of tests before end with the last reference to what started them
    assert plan_workers(None, 1.0, 0, 3, 300).num_workers == 3
    assert plan_workers(None, 1.0, 0, 30, 300).num_workers == 4
    with hog(3):
        assert plan_workers(None, 1.0, 0, 30, 300).num_workers == 1  # what is free, not what there is
    with hog(4):
        options = plan_workers(None, 1.0, 0, 30, 2.0)
        assert options.num_workers == 1  # and where nothing is, it waits for one
        with pytest.raises(NoRoomError, match=r"cluster\.start_deadline_s=2 seconds: 1 worker needs 1 CPU.*hold 4"):
            list(embed_on_ray(parts, parts.missing(), options))
    gc.collect()  # the workers end with the last reference to what started them
    assert_no_process_left()


def test_workers_wait_aloud_and_go_on_once_there_is_room(base, tmp_path):
    parts, told = parts_of(base, tmp_path / "parts"), []
    gc.collect()
    with hog(4) as let_go:

        def tell(line):
            told.append(line)
            let_go()

        dict(embed_on_ray(parts, parts.missing(), WorkerOptions(1, 1.0, 0, 300.0), tell))
    parts.check()
    assert "1 worker needs 1 CPU, but the cluster has 4 CPUs, of which 0 are free: others hold 4" in told[0]
    assert told[-1] is None
    gc.collect()
    assert_no_process_left()


@contextmanager
def hog(cpus: float) -> Iterator[Callable[[], None]]:
    """Hold CPUs, as somebody else's actor; yields what lets go of them."""

    @ray.remote(num_cpus=cpus)
    class Hog:
        def ready(self):
            return True

    actor: Any = Hog.remote()
    ray.get(actor.ready.remote(), timeout=120)
    try:
        yield lambda: ray.kill(actor)
    finally:
        ray.kill(actor)
