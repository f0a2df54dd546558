"""Make a checkpoint to train from its parents, or read one, check it and write it again.

python -m model checkpoint=RELEASED out=DIR
python -m model sam=sam_vit_b.pth clip=CLIP_DIR language=DECODER_DIR out=DIR
python -m model clip=clip.safetensors preset=nano out=DIR dtype=float32
python -m model --help
"""

from __future__ import annotations

import sys

import torch

from model.config import PRESETS, DeepseekOCRConfig, ModelConfigError
from model.convert import rewrite
from model.parents import import_parents
from model.tensor_files import CheckpointError

KEYS = {
    "checkpoint": "a checkpoint in the released layout: it is read, every tensor checked, and written to out",
    "sam": "SAM ViT-B: a .pth or .safetensors file, as published or in the HF layout",
    "clip": "CLIP-L/14: a file or directory, HF or OpenAI layout",
    "language": "a DeepSeek mixture-of-experts decoder: a directory in the HF layout, sharded or not",
    "preset": f"sizes, one of {', '.join(PRESETS)} (default: deepseek_ocr_3b)",
    "out": "directory to write; must not exist (required)",
    "seed": "of what no parent gives (default: 0)",
    "dtype": "of the written weights: bfloat16 or float32 (default: bfloat16; with checkpoint its own)",
}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def help_text() -> str:
    return (__doc__ or "") + "\n" + "\n".join(f"{key:>9}  {meaning}" for key, meaning in KEYS.items())


def parse(arguments: list[str]) -> dict[str, str]:
    """`key=value` arguments, checked.

    Raises:
        CheckpointError: in one sentence, what is wrong with an argument.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in KEYS or not equals or not value:
            raise CheckpointError(
                f"'{argument}' is not understood; write key=value with one of {', '.join(KEYS)}."
            )
        values[key] = value
    if "out" not in values:
        raise CheckpointError("out is required: give out=DIR.")
    if "checkpoint" in values and (other := values.keys() - {"checkpoint", "out", "dtype"}):
        raise CheckpointError(
            f"checkpoint= is a whole model, and {', '.join(sorted(other))} would say otherwise; leave one out."
        )
    if "checkpoint" not in values:
        values = {"preset": "deepseek_ocr_3b", "seed": "0", "dtype": "bfloat16", **values}
    if values.get("dtype", "bfloat16") not in DTYPES:
        raise CheckpointError(f"dtype={values['dtype']} is not one of {', '.join(DTYPES)}.")
    if not values.get("seed", "0").isdecimal():
        raise CheckpointError(f"seed={values['seed']} is not a whole number from 0.")
    return values


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(help_text())
        return 0
    try:
        values = parse(arguments)
        if "checkpoint" in values:
            dtype = DTYPES[values["dtype"]] if "dtype" in values else None
            parameters = rewrite(values["checkpoint"], values["out"], dtype)
            print(f"{parameters:,} parameters\nwritten: {values['out']}")
            return 0
        config = DeepseekOCRConfig.preset(values["preset"])
        report = import_parents(
            values["out"],
            config,
            sam=values.get("sam"),
            clip=values.get("clip"),
            language=values.get("language"),
            seed=int(values["seed"]),
            dtype=DTYPES[values["dtype"]],
        )
    except (CheckpointError, ModelConfigError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(f"{report}\nwritten: {values['out']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
