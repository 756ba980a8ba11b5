"""What single characters become, as the table of SentencePiece that the `tokenizers` library reads."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping

__all__ = ["charsmap"]

_LEAF = 1 << 8
_VALUE = 1 << 31
# Up to 21 bits; a wider one would need a coarser step, and no table here comes near.
_OFFSET = 10


def charsmap(characters: Mapping[str, str]) -> str:
    """A double array over the characters' UTF-8 bytes, each end pointing at its text, in base64.

    The format is that of darts-clone: a unit holds its own byte, whether a value follows, and by what the
    place of its children differs (exclusive or) from its own.
    """
    texts, offsets = bytearray(), {}
    for text in characters.values():
        if text not in offsets:
            offsets[text] = len(texts)
            texts += text.encode() + b"\0"
    tree: dict[int, object] = {}
    for character, text in characters.items():
        *path, last = character.encode()
        node = tree
        for byte in path:
            node = node.setdefault(byte, {})  # type: ignore[assignment]  # only the last byte leads to a value
        node[last] = offsets[text]
    units = _laid_out(tree)
    packed = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(packed)) + packed + texts).decode()


def _laid_out(tree: dict[int, object]) -> list[int]:
    """The tree as units: 256 places for the children of each node, and after them one for each value."""
    nodes: list[tuple[int, dict[int, object]]] = [(0, tree)]
    leaves: list[tuple[int, int]] = []
    units = [0] * 256
    for parent, node in nodes:  # which grows meanwhile
        base = len(units)
        units += [0] * 256
        units[parent] |= (parent ^ base) << _OFFSET
        for byte, below in node.items():
            units[base ^ byte] = byte
            if isinstance(below, dict):
                nodes.append((base ^ byte, below))
            else:
                leaves.append((base ^ byte, int(str(below))))
    for parent, value in leaves:
        units[parent] |= _LEAF | (parent ^ len(units)) << _OFFSET
        units.append(_VALUE | value)
    return units
