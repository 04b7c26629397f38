"""The digest of a model's weights."""

import pytest
import torch

from ray_itl.embedding.weights import check_weights, weights_digest
from ray_itl.errors import InputError


def test_it_sees_names_values_and_buffers() -> None:
    plain, digest = torch.nn.BatchNorm1d(3), weights_digest(torch.nn.BatchNorm1d(3))
    assert weights_digest(plain) == digest
    plain.get_buffer("running_mean")[1] = 1e-6
    assert weights_digest(plain) != digest


def test_other_weights_are_refused_by_name() -> None:
    check_weights("a", "a", "mlp")
    with pytest.raises(InputError, match=r"^model 'mlp' \(checkpoint 'w\.safetensors'\) has other weights here"):
        check_weights("a", "b", "mlp", "w.safetensors")
