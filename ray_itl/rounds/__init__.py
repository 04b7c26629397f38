"""Active fine-tuning.

settings, data, skipping (rows that cannot be read), tuner (ActiveFineTuner: the loop of rounds), selecting and picking
(which rows), features (of one checkpoint), labelling, resources (kept between rounds), round_folder (the durable
steps), sweep (variants x seeds), result, report, tracking.
"""
