"""Fine-tuning, with or without Ray.

Models: learner (what rounds ask of one), registry, models/, checkpoint, second_moments (Adam's), seeds,
adapter_gradients (of each text alone).
The loop: settings, inputs, chat (conversations as texts), examples, objectives, stopping, loop. Who runs it: trainer
(in this process), ray_trainer (a Ray Train run a task), worker_group and coordinator (workers that stay), workers (one
worker's view of all). Trainers of the user's: round_trainer (what one must be), trl_sft (one that is there: TRL's).
picks_dataset: picks for a DataLoader.
"""
