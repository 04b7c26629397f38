"""The training loop: it learns, it is deterministic, and any number of workers gives the same model."""

import math

import pytest
import torch
from torch.nn import functional

from ray_itl.errors import ConfigError, DivergedError, InputError
from ray_itl.training.examples import Examples
from ray_itl.training.loop import train
from ray_itl.training.objectives import Classification, evaluate, training_objective
from ray_itl.training.registry import ModelSpec
from ray_itl.training.settings import TrainingSettings
from tests.training.worker_helpers import CNN, MLP, ThreadWorkers, digits, on_threads

FEW = digits().take(slice(0, 100))


def trained(model, examples, seed=0, workers=None, **options):
    """Train a model (or the fresh one of a spec) on classes."""
    learner = model.build(seed) if isinstance(model, ModelSpec) else model
    settings = TrainingSettings(**options)
    objective = training_objective("classification", examples, settings.reweight_classes)
    history = train(learner, examples, objective, settings, seed, workers)
    return learner, history


def weights(learner):
    return torch.cat([parameter.detach().reshape(-1) for parameter in learner.parameters()])


@pytest.mark.parametrize(("spec", "epochs"), [(MLP, 20), (CNN, 30)])
def test_it_learns_digits(spec, epochs):
    examples = digits(spec.name)
    learner, history = trained(spec, examples.take(slice(0, 500)), epochs=epochs, batch_size=32, learning_rate=3e-3)
    assert history.losses[-1] < 0.2 * history.losses[0]
    assert len(history.seconds) == epochs
    assert evaluate(learner, examples.take(slice(500, None)), Classification())["accuracy"] > 0.9


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "options", [{"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.1}, {"max_gradient_norm": 0.5}]
)
def test_any_number_of_workers_gives_the_same_model(size, options):
    examples = FEW.take(slice(0, 65))  # the last batch of 1 leaves workers without examples
    alone, expected = trained(MLP, examples, epochs=3, batch_size=16, **options)
    models = [MLP.build(0) for _ in range(size)]

    def work(workers):
        return trained(models[workers.rank], examples, epochs=3, batch_size=16, workers=workers, **options)

    results = on_threads(size, work)
    for learner, history in results:
        torch.testing.assert_close(weights(learner), weights(alone), rtol=1e-4, atol=1e-5)
        assert history.losses == pytest.approx(expected.losses, rel=1e-5)
    assert all(torch.equal(weights(learner), weights(results[0][0])) for learner, _ in results)


def test_workers_that_do_not_sum_give_another_model(monkeypatch):
    """The check itself: without the sum over workers the test above would fail."""
    alone, _ = trained(MLP, FEW, epochs=1)
    monkeypatch.setattr(ThreadWorkers, "sum_", lambda *_: None)
    models = [MLP.build(0), MLP.build(0)]
    learner, _ = on_threads(2, lambda workers: trained(models[workers.rank], FEW, epochs=1, workers=workers))[0]
    assert not torch.allclose(weights(learner), weights(alone), rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_random_state():
    before = torch.get_rng_state()
    first, second, other = (trained(MLP, FEW, seed, epochs=2)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_batches_are_drawn_anew_for_every_epoch_and_hold_every_example_once(monkeypatch):
    seen = []
    step = Classification.loss
    monkeypatch.setattr(
        Classification, "loss", lambda self, m, b: seen.append(b.inputs["vectors"][:, 0]) or step(self, m, b)
    )
    examples = Examples({"vectors": torch.arange(20.0)[:, None] * torch.ones(64)}, torch.zeros(20, dtype=torch.int64))
    trained(MLP, examples, epochs=2, batch_size=8)
    assert [len(batch) for batch in seen] == [8, 8, 4] * 2
    first, second = torch.cat(seen[:3]).tolist(), torch.cat(seen[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("reweight", [True, False])
def test_a_step_is_that_of_a_hand_written_loop(reweight):
    examples = FEW
    labels = examples.labels
    assert labels is not None
    counts = torch.bincount(labels, minlength=10).double()
    by_class = (len(labels) / (10 * counts)).float() if reweight else None
    expected = MLP.build(0)
    optimiser = torch.optim.Adam(expected.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(expected(examples.inputs), labels, weight=by_class).backward()
        optimiser.step()
    learner, _ = trained(MLP, examples, epochs=3, batch_size=100, learning_rate=1e-2, reweight_classes=reweight)
    torch.testing.assert_close(weights(learner), weights(expected), rtol=1e-4, atol=1e-6)


def test_gradients_are_scaled_down_to_the_maximum_norm():
    before = weights(MLP.build(0))
    options = {"epochs": 1, "batch_size": 100, "optimiser": "sgd", "learning_rate": 1.0}
    step = weights(trained(MLP, FEW, **options)[0]) - before
    clipped = weights(trained(MLP, FEW, max_gradient_norm=0.01, **options)[0]) - before
    assert step.norm() > 0.1
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert functional.cosine_similarity(step, clipped, dim=0).item() == pytest.approx(1, abs=1e-4)


def test_it_stops_at_convergence():
    _, long = trained(MLP, FEW, epochs=30, learning_rate=1e-2)
    stop = long.losses[10]
    _, short = trained(MLP, FEW, epochs=30, learning_rate=1e-2, stop_at_loss=stop)
    assert short.losses == long.losses[: len(short.losses)]
    assert short.losses[-1] <= stop < min(short.losses[:-1])


def test_no_epochs_change_nothing():
    empty = FEW.take(slice(0, 0))
    learner, history = trained(MLP, empty, epochs=0)
    assert history.losses == []
    assert torch.equal(weights(learner), weights(MLP.build(0)))


def test_it_says_what_cannot_be_trained():
    with pytest.raises(InputError, match="label at least one"):
        trained(MLP, FEW.take(slice(0, 0)))
    with pytest.raises(InputError, match=r"example 1 .* has label 10, but the model has classes 0 to 9"):
        trained(MLP, Examples({"vectors": torch.zeros(2, 64)}, torch.tensor([0, 10])))
    with pytest.raises(InputError, match="no labels"):
        trained(MLP, Examples({"vectors": torch.zeros(2, 64)}))
    frozen = MLP.build(0).requires_grad_(False)
    with pytest.raises(ConfigError, match="requires a gradient"):
        train(frozen, FEW, Classification(), TrainingSettings(), 0)


def test_a_loss_that_is_no_number_names_step_epoch_and_option():
    with pytest.raises(DivergedError, match=r"loss is nan at step 2 \(epoch 1\); lower training\.learning_rate"):
        trained(MLP, FEW, optimiser="sgd", learning_rate=1e30, batch_size=50)


@pytest.mark.parametrize("batch_size", [64, 100])
def test_weights_that_the_last_step_made_no_numbers_are_seen(batch_size, monkeypatch):
    step, steps = torch.optim.SGD.step, iter(range(1, 9))
    last = math.ceil(len(FEW) / batch_size)

    def spoil(self, *args, **kwargs):
        step(self, *args, **kwargs)
        if next(steps) == last:
            self.param_groups[0]["params"][1].data[0] = math.inf

    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    with pytest.raises(DivergedError, match=rf"weights are no numbers at step {last} \(epoch 1\)"):
        trained(MLP, FEW, optimiser="sgd", epochs=1, batch_size=batch_size)


def test_all_workers_end_alike_when_a_training_diverges():
    def work(workers):
        with pytest.raises(DivergedError) as caught:
            trained(MLP, FEW, workers=workers, optimiser="sgd", learning_rate=1e30)
        return str(caught.value)

    told = on_threads(3, work)
    assert told[0] == told[1] == told[2] != ""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", -1),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", math.nan),
        ("optimiser", "lion"),
        ("weight_decay", -1),
        ("momentum", 0.9),  # of Adam
        ("reweight_classes", "yes"),
        ("stop_at_loss", 0),
        ("max_gradient_norm", True),
    ],
)
def test_settings_name_the_option_that_cannot_be(option, value):
    with pytest.raises(ConfigError, match=rf"training\.{option}="):
        TrainingSettings(**{option: value})
