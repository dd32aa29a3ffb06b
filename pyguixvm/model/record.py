# SPDX-License-Identifier: GPL-3.0-or-later
"""What a domain remembers, as plain data of a schema with a version of its own; pure.

It outlives the programs that write it: a machine may be deployed once and looked at years later.
So what is read here is less strict than what the evaluator says of today's configuration: a key
that nobody knows any more is passed over, one that was not written yet has its default, and what
changed its meaning is carried over by the migration of its version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from pyguixvm.decoding import convert, made_of
from pyguixvm.model.applied import Metadata
from pyguixvm.model.image import RemoteImage

# A field that gets another name or meaning, or a new one without a default, is another version:
# what was written before must be carried over by a migration.  So is one that nobody may pass
# over: what has none of those is written in the schema before, which older programs read.
SCHEMA = 3
_WITHOUT_NEWS = 2


def schema_of(metadata: Metadata) -> int:
    """Return the schema that METADATA is to be written in: who does not know it keeps away.

    One on its way here must not be started, volumes that are being merged not be told apart.
    """
    news = (
        metadata.arrival is not None
        or metadata.merging is not None
        or any(isinstance(e.declaration.image, RemoteImage) for e in metadata.generations)
    )
    return SCHEMA if news else _WITHOUT_NEWS


def plain(metadata: Metadata) -> dict[str, Any]:
    """Return METADATA as plain data, see `schema_of`."""
    data: dict[str, Any] = msgspec.to_builtins(metadata)
    return data


def from_plain(data: object, schema: int) -> Metadata:
    """Return what DATA of SCHEMA says; raises ValueError if it is not of that schema."""
    if not isinstance(data, dict):
        raise ValueError(f"there is {type(data).__name__} where an object is expected")  # noqa: TRY004
    for version in range(schema, SCHEMA):
        if version not in _MIGRATIONS:
            raise ValueError(f"schema is {schema}")
        data = _MIGRATIONS[version](data)
    try:
        return convert(data, Metadata)
    except msgspec.ValidationError:
        # A later program may have written it, or an earlier one.
        return convert(_known(data, made_of(Metadata)), Metadata)


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Return DATA of schema 1 in schema 2: the file that declared a machine is no name of it."""
    return {key: value for key, value in data.items() if key != "config"}


def _from_2(data: dict[str, Any]) -> dict[str, Any]:
    """Return DATA of schema 2, which is the same in schema 3."""
    return data


# How data of each version becomes data of the next one.
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}


def _known(data: Any, kind: inspect.Type) -> Any:
    """Return DATA without the keys that KIND does not have, at any depth."""
    match kind:
        case inspect.VarTupleType() if isinstance(data, list):
            return [_known(each, kind.item_type) for each in data]
        case inspect.UnionType() if isinstance(data, dict):
            structs = [each for each in kind.types if isinstance(each, inspect.StructType)]
            fitting = [s for s in structs if s.tag is None or data.get(s.tag_field) == s.tag]
            return _known(data, fitting[0]) if len(fitting) == 1 else data
        case inspect.StructType() if isinstance(data, dict):
            kinds = {field.encode_name: field.type for field in kind.fields}
            return {
                key: _known(value, kinds[key]) if key in kinds else value
                for key, value in data.items()
                if key in kinds or key == kind.tag_field
            }
    return data
