"""Tiny models of random weights, in the files that libraries write."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch


def text_folder(tmp_path: Path, seed: int = 0) -> str:
    """Write a tiny BERT of random weights with a tokenizer of single letters."""
    transformers = pytest.importorskip("transformers")
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz."]
    words = [*letters, *(f"##{letter}" for letter in letters[5:])]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    transformers.BertModel(config).save_pretrained(tmp_path)
    return str(tmp_path)


def sentence_folder(folder: Path, seed: int = 0, pooling: Any = "mean") -> str:
    """Write the same BERT as a model of sentence-transformers, with prompts."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    (folder / "bert").mkdir(exist_ok=True)
    transformer = Transformer(text_folder(folder / "bert", seed))
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling), Normalize()]
    model = library.SentenceTransformer(modules=modules, device="cpu", prompts={"passage": "abc: ", "query": ""})
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


def clip_folder(folder: Path) -> str:
    """Write a tiny CLIP of random weights as a model of sentence-transformers: texts of letters, images of 16 x 16."""
    library, transformers = pytest.importorskip("sentence_transformers"), pytest.importorskip("transformers")
    from sentence_transformers.sentence_transformer.modules import Transformer

    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: number for number, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **layers,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 80,
        "bos_token_id": 52,
        "eos_token_id": 53,
    }
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**layers, "image_size": 16, "patch_size": 8}, projection_dim=12
    )
    (folder / "clip").mkdir()
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder / "clip")
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder / "clip")
    model = library.SentenceTransformer(modules=[Transformer(str(folder / "clip"))], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


def pictures() -> pa.Array:
    """PNG images of noise, of sizes of their own."""
    image = pytest.importorskip("PIL.Image")
    rng, found = np.random.default_rng(0), []
    for size in (40, 64, 90):
        with io.BytesIO() as file:
            image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(file, "PNG")
            found.append(file.getvalue())
    return pa.array(found)
