"""Raw rows into embeddings.

settings, encoder (what every encoder does) and opening (the one a name stands for): embedder (features and gradients of
a model that can be trained; lora_gradients and gradient_sketch: of its adapters), sentence_models and timm_models (of
libraries, by torch_encoder), functions (of the user's) and held_function (one that a caller hands over); batches (rows
of like length, side by side on cores), precision and weights. source (a pool embedded while it is read), layout (which
rows are which part) and parts (embeddings on disk), keeping (of tries before), progress (told and written), on_ray
(parts on a cluster), job (`embed_pool`), planning (what that would take).

Of a selection from rows without embeddings: encoder_settings, encodings (of any column, by these) and
cached (a column embedded while it is read), option_names (as a selection has them), content
(what a row holds, as a key), store (embeddings by these keys) and segments (its files), survey (what a plan says).
"""
