"""A vision language model in the form that OpenVINO GenAI reads, with random weights: 16 numbers wide, one layer.

It has LLaVA's files and layout: a vision encoder (patches of the picture), embeddings of tokens, a language model with
one layer of attention and a cache of keys and values, a tokenizer and a detokenizer of single letters. What it writes
has no meaning, but follows from the picture and the prompt. It never ends by itself, unless `ends` is set: then only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDE, HEADS, PATCH, SIDE = 16, 2, 14, 28
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
END = SPECIAL.index("</s>")
WORDS = (*SPECIAL, *(chr(code) for code in range(32, 127)), "\n", "é")


def write(folder: Path, *, seed: int = 0, ends: bool = False) -> Path:
    """Write the files into `folder`, and return it. With `ends` it writes nothing at all. Needs openvino-tokenizers."""
    import openvino as ov

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    models = {
        "vision_embeddings": _vision(random),
        "text_embeddings": _text(random),
        "language": _language(random, ends),
    }
    for name, model in models.items():
        ov.save_model(model, folder / f"openvino_{name}_model.xml", compress_to_fp16=False)
    for name, model in zip(("tokenizer", "detokenizer"), _tokenizers(), strict=True):
        ov.save_model(model, folder / f"openvino_{name}.xml")
    for name, value in _CONFIGS.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


_CONFIGS: dict[str, Any] = {
    "config.json": {"model_type": "llava", "hidden_size": WIDE},
    "preprocessor_config.json": {
        "crop_size": {"height": SIDE, "width": SIDE},
        "size": {"shortest_edge": SIDE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "patch_size": PATCH,
    },
    "tokenizer_config.json": {
        "chat_template": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %} assistant: ",
        "eos_token": "</s>",
        "bos_token": "<s>",
        "pad_token": "<pad>",
    },
    "generation_config.json": {"eos_token_id": END, "pad_token_id": 0, "bos_token_id": 1},
}


def _vision(random: np.random.Generator) -> Any:
    from openvino import Model
    from openvino import opset13 as op

    pixels = _input(op, "pixel_values", [-1, 3, -1, -1], np.float32)
    kernel = random.normal(0, 0.3, (WIDE, 3, PATCH, PATCH)).astype(np.float32)
    patches = op.convolution(pixels, op.constant(kernel), [PATCH, PATCH], [0, 0], [0, 0], [1, 1])
    flat = op.reshape(patches, op.constant(np.array([0, WIDE, -1])), True)
    return Model([_named(op.transpose(flat, op.constant(np.array([0, 2, 1]))), "last_hidden_state")], [pixels])


def _text(random: np.random.Generator) -> Any:
    from openvino import Model
    from openvino import opset13 as op

    ids = _input(op, "input", [-1, -1], np.int64)
    table = op.constant(random.normal(0, 1, (len(WORDS), WIDE)).astype(np.float32))
    return Model([_named(op.gather(table, ids, op.constant(np.int64(0))), "inputs_embeds")], [ids])


def _language(random: np.random.Generator, ends: bool) -> Any:
    from openvino import Model
    from openvino import opset13 as op

    def times(value: Any, wide: int) -> Any:
        matrix = random.normal(0, 1 / np.sqrt(WIDE), (WIDE, wide)).astype(np.float32)
        return op.matmul(value, op.constant(matrix), False, False)

    def heads(value: Any) -> Any:
        split = op.reshape(value, op.constant(np.array([0, 0, HEADS, WIDE // HEADS])), True)
        return op.transpose(split, op.constant(np.array([0, 2, 1, 3])))

    embeds = _input(op, "inputs_embeds", [-1, -1, WIDE], np.float32)
    mask = _input(op, "attention_mask", [-1, -1], np.int64)
    positions = _input(op, "position_ids", [-1, -1], np.int64)
    beams = _input(op, "beam_idx", [-1], np.int32)
    phase = op.unsqueeze(op.convert(positions, "f32"), op.constant(np.array([2])))
    wave = op.constant(random.normal(0, 1, (1, WIDE)).astype(np.float32))
    x = op.add(embeds, op.sin(op.multiply(phase, wave)))
    caches, sinks = zip(
        *(_cache(op, name, heads(times(x, WIDE)), embeds, beams) for name in ("key", "value")), strict=True
    )
    hidden = op.subtract(op.convert(mask, "f32"), op.constant(np.float32(1)))
    bias = op.unsqueeze(op.multiply(hidden, op.constant(np.float32(1e4))), op.constant(np.array([1, 2])))
    seen = op.scaled_dot_product_attention(heads(times(x, WIDE)), *caches, bias)
    back = op.transpose(seen, op.constant(np.array([0, 2, 1, 3])))
    joined = op.reshape(back, op.constant(np.array([0, 0, WIDE])), True)
    logits = times(op.add(x, op.multiply(times(joined, WIDE), op.constant(np.float32(4)))), len(WORDS))
    likely = np.where(np.arange(len(WORDS)) < len(SPECIAL), -1e4, 0.0).astype(np.float32)
    likely[END] = 1e4 if ends else -1e4
    return Model(
        [op.result(_named(op.add(logits, op.constant(likely)), "logits"))], [*sinks], [embeds, mask, positions, beams]
    )


def _cache(op: Any, name: str, new: Any, embeds: Any, beams: Any) -> tuple[Any, Any]:
    """What earlier tokens left, with that of the `new` ones; and what keeps it."""
    from openvino import PartialShape, Type
    from openvino.op.util import Variable, VariableInfo

    info = VariableInfo()
    info.data_shape = PartialShape([-1, HEADS, -1, WIDE // HEADS])
    info.data_type = Type.f32
    info.variable_id = f"past_key_values.0.{name}present.0.{name}"
    variable = Variable(info)
    batch = op.gather(op.shape_of(embeds), op.constant(np.array([0])), op.constant(np.int64(0)))
    shape = op.concat([batch, op.constant(np.array([HEADS, 0, WIDE // HEADS]))], 0)
    past = op.read_value(op.broadcast(op.constant(np.float32(0)), shape), variable)
    both = op.concat([op.gather(past, beams, op.constant(np.int64(0))), new], 2)
    return both, op.assign(both, variable)


def _tokenizers() -> tuple[Any, Any]:
    from openvino import opset13 as op
    from openvino_tokenizers.build_tokenizer import build_rwkv_tokenizer

    def lines(words: Sequence[str]) -> list[str]:
        return [f"{index} {word!r} {len(word.encode())}" for index, word in enumerate(words)]

    tokenizer, _ = build_rwkv_tokenizer(lines(WORDS))
    _, detokenizer = build_rwkv_tokenizer(lines([*[""] * len(SPECIAL), *WORDS[len(SPECIAL) :]]))
    dense = next(one for one in tokenizer.get_ops() if one.get_type_name() == "RaggedToDense")
    tokenizer.add_results([op.result(_named(op.convert(dense.output(1), "i64"), "attention_mask"))])
    return tokenizer, detokenizer


def _input(op: Any, name: str, shape: list[int], dtype: type) -> Any:
    return _named(op.parameter(shape, dtype, name=name), name)


def _named(node: Any, name: str) -> Any:
    node.output(0).set_names({name})
    return node
