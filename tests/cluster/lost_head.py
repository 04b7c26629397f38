"""A run whose only shard never answers; for the test that ends the head under it. Arguments: address, folder."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

from ray_itl.cli.guard import guarded
from ray_itl.cluster.connection import connect
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.distributed.shard_actor import ShardActor
from tests.distributed.helpers import make_rows, ray_pool, select, write_rows


class SilentActor(ShardActor):
    """A shard that loads, and then works for ever."""

    def restore(self, recovery):  # noqa: ARG002
        """Never come back."""
        time.sleep(3600)


@guarded
def main(_: SimpleNamespace) -> None:
    """Select on the cluster; says when the shard is at work."""
    folder = Path(sys.argv[2])
    source = write_rows(folder / "pool", make_rows(100))
    with connect(sys.argv[1]), ray_pool(source, 1, actor_class=SilentActor) as pool:
        pool.load()
        (folder / "loaded").touch()
        select(pool, InformationGain(0.1), n=5)


if __name__ == "__main__":
    main(SimpleNamespace())
