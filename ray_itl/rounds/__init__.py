"""Active fine-tuning.

settings (of group_settings and trainer_settings), data, skipping (rows that cannot be read), heldout (rows nearly equal
to held-out ones), tuner (ActiveFineTuner: the loop of rounds), selecting and picking (which rows), features (of one
checkpoint), classes,
label_survey, labelling and labelled (what labels are, what files hold, where they come from, what is trained on),
to_label and label_files (what people get, and give back), model (as rounds see it: learner_model or own_trainer),
divergence (trainings that became NaN), scores (which way is better, and falls), resources (kept between rounds),
round_folder (the durable steps), result, tuned_model (what is left, for use), report, shown_rows (what the report shows
of them), tracking.

Of sweeps of variants and seeds: sweep_settings, sweep, seed_curves and comparison (what they say), sweep_table.
"""
