"""Names in the authors' PCRLv2 state dicts and their names here: one table a dimension, data and not code."""

from __future__ import annotations

import re

TABLES: dict[int, list[tuple[str, str]]] = {
    2: [
        (r"^model\.encoder\.", "net.encoder."),
        (r"^model\.segmentation_head\.", "restore.final.0."),
        (r"^model\.decoder\.blocks\.(\d)\.conv1\.0\.", r"net.decoder.blocks.\1.convs.0.conv."),
        (r"^model\.decoder\.blocks\.(\d)\.conv1\.1\.", r"net.decoder.blocks.\1.convs.0.norm."),
        (r"^model\.decoder\.blocks\.(\d)\.conv2\.0\.", r"net.decoder.blocks.\1.convs.1.conv."),
        (r"^model\.decoder\.blocks\.(\d)\.conv2\.1\.", r"net.decoder.blocks.\1.convs.1.norm."),
        (r"^model\.decoder\.blocks\.(\d)\.bn\.", r"embed.\1.projector."),
        (r"^model\.decoder\.blocks\.(\d)\.predictor_head\.", r"embed.\1.predictor."),
        (r"^model\.decoder\.blocks\.(\d)\.deep_supervision_head\.0\.", r"restore.heads.\1.0.conv."),
        (r"^model\.decoder\.blocks\.(\d)\.deep_supervision_head\.1\.", r"restore.heads.\1.0.norm."),
        (r"^model\.decoder\.blocks\.(\d)\.deep_supervision_head\.3\.", r"restore.heads.\1.1."),
    ],
    3: [
        (r"^down_tr64\.", "net.encoder.levels.0."),
        (r"^down_tr128\.", "net.encoder.levels.1."),
        (r"^down_tr256\.", "net.encoder.levels.2."),
        (r"^down_tr512\.", "net.encoder.levels.3."),
        (r"^up_tr256\.(up_conv|ops)", r"net.decoder.blocks.0.\1"),
        (r"^up_tr128\.(up_conv|ops)", r"net.decoder.blocks.1.\1"),
        (r"^up_tr64\.(up_conv|ops)", r"net.decoder.blocks.2.\1"),
        (r"\.up_conv\.", ".up."),
        (r"(encoder.*)\.ops\.", r"\1."),
        (r"(decoder.*)\.ops\.", r"\1.convs."),
        (r"^up_tr256\.", "scale.0."),
        (r"^up_tr128\.", "scale.1."),
        (r"^up_tr64\.", "scale.2."),
        (r"^scale\.(\d)\.bn\.", r"embed.\1.projector."),
        (r"^scale\.(\d)\.predictor_head\.", r"embed.\1.predictor."),
        (r"^scale\.(\d)\.deep_supervision_head\.conv1\.", r"restore.heads.\1.0."),
        (r"^scale\.(\d)\.deep_supervision_head\.bn1\.", r"restore.heads.\1.1."),
        (r"\.conv1\.", ".conv."),
        (r"\.bn1\.", ".norm."),
        (r"^out_tr\.final_conv\.", "restore.final.0."),
    ],
}


def translate(name: str, dimension: int) -> str:
    """The name here of one of the authors' names.

    >>> translate("down_tr64.ops.0.conv1.weight", 3)
    'net.encoder.levels.0.0.conv.weight'
    """
    for pattern, replacement in TABLES[dimension]:
        name = re.sub(pattern, replacement, name)
    return name
