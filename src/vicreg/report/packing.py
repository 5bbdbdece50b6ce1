"""Arrays inside a page: one block of compressed bytes, and plain references to what is where in it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNED = 8
"""Bytes: a browser reads an array only from where a whole number of its entries lie before it."""
LEVELS = 2**15 - 1
KEPT_BITS = 12
"""Of a number's fraction where it is only shown: to 1 part in 8,000, which is more than four digits say."""


class Pack:
    """Collects arrays and texts; each `add` gives a reference that JSON can hold."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def _put(self, content: bytes, **plain: Any) -> dict[str, Any]:
        found = {"at": self._length, "bytes": len(content), **plain}
        padded = content + bytes(-len(content) % ALIGNED)
        self._parts.append(padded)
        self._length += len(padded)
        return found

    def array(self, values: NDArray[Any]) -> dict[str, Any]:
        """An array as it is, of uint8, int16, uint16, int32 or float32."""
        kind = values.dtype.newbyteorder("<")
        return self._put(np.ascontiguousarray(values, kind).tobytes(), type=values.dtype.name, shape=list(values.shape))

    def quantised(self, values: NDArray[Any]) -> dict[str, Any]:
        """Numbers as 16-bit steps of their range, which is as fine as a screen; NaN is the lowest step.

        Example:
            >>> Pack().quantised(np.array([0.0, 1.0, np.nan]))
            {'at': 0, 'bytes': 6, 'type': 'int16', 'shape': [3], 'low': 0.0, 'high': 1.0}
        """
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        with np.errstate(invalid="ignore"):
            share = (values.astype(np.float64) - low) / (high - low if high > low else 1.0)
        steps = np.where(np.isfinite(share), np.rint(share * 2 * LEVELS) - LEVELS, -LEVELS - 1).astype(np.int16)
        return {**self.array(steps), "low": low, "high": high}

    def numbers(self, values: NDArray[np.float64]) -> dict[str, Any]:
        """Numbers to be read: whole ones of up to 31 bits exactly, others to four digits; NaN where there are none."""
        finite = np.isfinite(values)
        whole = values[finite]
        if whole.size and (whole == np.rint(whole)).all() and np.abs(whole).max() < 2**31 - 1:
            small = bool(np.abs(whole).max() < 2**15 - 1)
            kind: Any = np.int16 if small else np.int32
            gap = int(np.iinfo(kind).min)
            found = self.array(np.where(finite, values, gap).astype(kind))
            return {**found, "gap": gap}
        with np.errstate(over="ignore"):
            bits = values.astype(np.float32).view(np.uint32)
        drop = 23 - KEPT_BITS
        half = np.uint32(1 << (drop - 1))
        kept = ((bits + half) >> drop << drop).astype(np.uint32)
        return self.array(np.where(finite, kept, np.float32("nan").view(np.uint32)).astype(np.uint32).view(np.float32))

    def texts(self, values: Sequence[str | None]) -> dict[str, Any]:
        """Texts, None where there is none."""
        return self._put(json.dumps(list(values), ensure_ascii=False).encode("utf-8", "replace"), type="text")

    def base64(self) -> str:
        """All of it, compressed."""
        return compressed(b"".join(self._parts))


def compressed(content: bytes) -> str:
    """Bytes as a page holds them: zlib, then base64, which needs no escaping anywhere."""
    return base64.b64encode(zlib.compress(content, 6)).decode()


def as_json(plain: object) -> str:
    r"""JSON that no parser of HTML or JavaScript takes for anything else, whatever text is in it; NaN is null.

    Example:
        >>> print(as_json({"</script>": float("nan")}))
        {"\u003c/script\u003e": null}
    """
    text = json.dumps(_finite(plain), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(plain: object) -> object:
    if isinstance(plain, dict):
        return {str(name): _finite(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    if isinstance(plain, np.ndarray):
        return _finite(plain.tolist())
    if isinstance(plain, float | np.floating):
        value = float(plain)
        return value if np.isfinite(value) else None
    if isinstance(plain, np.integer):
        return int(plain)
    return plain if plain is None or isinstance(plain, bool | int | str) else str(plain)
