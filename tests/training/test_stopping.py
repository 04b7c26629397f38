"""When training stops: a few labels are learnt, many are not learnt by heart, and the reason is told."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import ConfigError
from ray_itl.training.examples import Examples
from ray_itl.training.loop import train
from ray_itl.training.objectives import CausalLanguageModelling, Classification, evaluate, training_objective
from ray_itl.training.settings import MOST_HELD_BACK, TrainingSettings
from ray_itl.training.stopping import Course, History, StoppingPlan
from tests.training.worker_helpers import MLP, digits, on_threads

ALL = digits()


def trained(count: int, seed: int = 0, **options) -> tuple[float, History]:
    """Train on the first digits; return the accuracy on others, and the history."""
    learner, settings = MLP.build(seed), TrainingSettings(**options)
    examples = ALL.take(slice(0, count))
    objective = training_objective("classification", examples, settings.reweight_classes)
    history = train(learner, examples, objective, settings, seed)
    return evaluate(learner, ALL.take(slice(1000, None)), Classification())["accuracy"], history


@pytest.mark.parametrize(("count", "least"), [(40, 0.6), (100, 0.8)])
def test_few_labels_make_a_model_without_any_option(count: int, least: float) -> None:
    (before, _), (now, history) = trained(count, epochs=5), trained(count)
    assert now > least > before + 0.1
    assert history.losses[-1] < 0.05
    assert history.steps <= 1000


def test_what_is_learnt_ends_training() -> None:
    _, history = trained(20, learning_rate=1e-2)
    assert history.stopped == "the loss of training was at most 0.01"
    assert history.losses[-1] <= 0.01 < history.losses[-5]
    assert history.steps < 200


def test_weights_that_the_last_step_spoilt_are_not_what_was_learnt() -> None:
    now = iter([0.35, 0.005])
    plan = StoppingPlan(100, "", 0.01, patience=None, check_every=1, num_held_back=0)
    course = Course(plan, [], lambda: 0.0, lambda: next(now))
    sums = [torch.tensor([loss, 1.0]) for loss in (0.5, 0.006, 0.5, 0.006)]
    over = [course.is_over(step, each, ends_epoch=True) for step, each in enumerate(sums, start=1)]
    assert over == [False, False, False, True]


def test_steps_are_steps_however_few_the_examples() -> None:
    for count in (5, 100):
        _, history = trained(count, steps=33, batch_size=32)
        assert (history.steps, history.stopped) == (33, "training.steps=33")
    assert len(history.losses) == math.ceil(33 / 4)
    _, history = trained(100, steps=33, epochs=2, batch_size=32)
    assert (history.steps, history.stopped) == (8, "training.epochs=2")
    assert trained(5, steps=0)[1].losses == []


def test_steps_that_end_within_an_epoch_are_those_of_one_that_goes_on() -> None:
    short, long = trained(100, epochs=2, batch_size=32), trained(100, steps=8, batch_size=32)
    assert short[0] == long[0]
    assert short[1].losses == long[1].losses


def test_a_loss_that_stops_falling_ends_training() -> None:
    """Labels that say nothing of the inputs: what is held back can only become worse."""
    torch.manual_seed(0)
    noise = Examples({"vectors": torch.randn(300, 64)}, torch.randint(0, 10, (300,)))
    learner = MLP.build(0)
    settings = TrainingSettings(learning_rate=1e-2)
    history = train(learner, noise, Classification(), settings, 0)
    assert history.steps < 1000
    assert "the loss of 30 examples held back had not fallen since step" in history.stopped
    rest, held = StoppingPlan.of(settings, 300, Classification()).split(noise, 0)
    long = MLP.build(0)
    train(long, rest, Classification(), TrainingSettings(learning_rate=1e-2, steps=history.steps), 0)
    kept, last = (evaluate(model, held, Classification())["log_loss"] for model in (learner, long))
    assert kept < last


def test_workers_stop_at_the_same_step_with_the_same_weights() -> None:
    examples = ALL.take(slice(0, 250))
    models = [MLP.build(0) for _ in range(3)]

    def work(workers):
        settings = TrainingSettings(learning_rate=1e-2, batch_size=50)
        return train(models[workers.rank], examples, Classification(), settings, 0, workers)

    histories = on_threads(3, work)
    assert len({(history.steps, history.stopped) for history in histories}) == 1
    weights = [torch.cat([p.detach().reshape(-1) for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@given(count=st.integers(1, 20_000), batch=st.integers(1, 300), share=st.one_of(st.none(), st.floats(0, 0.5)))
def test_a_plan_trains_on_something_and_ends(count: int, batch: int, share: float | None) -> None:
    for objective in (Classification(), CausalLanguageModelling()):
        plan = StoppingPlan.of(TrainingSettings(batch_size=batch, held_back=share), count, objective)
        assert 0 <= plan.num_held_back <= min(count / 2, MOST_HELD_BACK)
        assert plan.most_steps >= 10 * math.ceil((count - plan.num_held_back) / batch)
        assert plan.most_steps >= 1000
        fixed = StoppingPlan.of(TrainingSettings(batch_size=batch, epochs=3), count, objective)
        assert (fixed.num_held_back, fixed.patience, fixed.stop_at_loss) == (0, None, None)
        assert fixed.most_steps == 3 * math.ceil(count / batch)


def test_what_is_held_back_is_drawn_by_the_seed_and_not_trained_on() -> None:
    examples = Examples({"x": torch.arange(100.0)})
    plan = StoppingPlan.of(TrainingSettings(held_back=0.25), 100, Classification())
    rest, held = plan.split(examples, 3)
    assert sorted(rest.inputs["x"].tolist() + held.inputs["x"].tolist()) == list(range(100))
    assert len(held) == 25
    assert torch.equal(plan.split(examples, 3)[1].inputs["x"], held.inputs["x"])
    assert not torch.equal(plan.split(examples, 4)[1].inputs["x"], held.inputs["x"])


def test_the_weights_of_the_least_loss_are_kept() -> None:
    weight, losses = torch.zeros(1), iter([3.0, 1.0, 2.0, 2.0])
    plan = StoppingPlan(100, "", None, patience=2, check_every=1, num_held_back=1)
    course = Course(plan, [weight], lambda: next(losses), lambda: 0.0)
    over = []
    for step in range(1, 5):
        weight.fill_(step)
        over.append(course.is_over(step, torch.tensor([0.0, 1.0]), ends_epoch=False))
    assert over == [False, False, False, True]
    assert course.history.stopped.endswith("held back had not fallen since step 2, whose weights are kept")
    course.keep_best()
    assert weight.item() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, r"training\.steps=-1"),
        ({"patience": 0}, r"training\.patience=0"),
        ({"held_back": 0.6}, r"training\.held_back=0\.6 cannot be used: give a number from 0 to 0\.5"),
        ({"epochs": 3, "held_back": 0.1}, r"training\.held_back=0\.1 .*set training\.patience with it"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**options)


def test_options_that_are_not_set_leave_runs_of_earlier_versions_what_they_are() -> None:
    assert TrainingSettings(epochs=5).identity_of("steps") is None
    assert TrainingSettings(epochs=5).identity_of("epochs") == "5"
    assert TrainingSettings(steps=5).identity_of("steps") == "5"
    assert TrainingSettings(steps=0).identity_of("steps") == "0"
    assert TrainingSettings(patience=3, held_back=0).identity_of("held_back") == "0.0"
    assert TrainingSettings().identity_of("keep_second_moments") is None
    assert TrainingSettings(keep_second_moments=True).identity_of("keep_second_moments") == "True"
