"""YAML as people write it: what a machine would take without a word (a key twice) or choke on is an error that says so."""

from typing import Any

import yaml

from rosutils import InputError


LARGEST, MOST_NODES = 2**20, 100_000  # bytes of a file; values in it, each counted where it is repeated by an alias


class _Strict(yaml.SafeLoader):
    """Plain values only, and no key twice."""

    def construct_mapping(self, node, deep=False):
        """A mapping whose keys differ."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            where = f"line {node.start_mark.line + 1}"
            raise InputError(f"the key '{twice[0]}' is there twice in the mapping that begins at {where}; leave one")
        return super().construct_mapping(node, deep)


def parse(content: str | bytes, name: str) -> Any:
    """The value of a YAML text; raises InputError, with the text's `name`, for whatever is not a plain one of sound size."""
    if len(content) > LARGEST:
        raise InputError(f"{name} has {len(content):,} bytes; at most {LARGEST:,} are read as parameters")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        loader = _Strict(text)
        node = loader.get_single_node()
        if node is not None and _nodes(node, {}) > MOST_NODES:
            raise InputError(f"{name} repeats values by aliases until there are over {MOST_NODES:,}; write them out")
        return None if node is None else loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{name} is nested too deeply to be parameters") from None
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        # PyYAML lets impossible dates and empty numbers fail as they like
        raise InputError(f"{name} is not valid YAML: {' '.join(str(error).split())[:300]}") from None


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node holds, those behind aliases as often as they are named."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_NODES + 1  # of a node within itself
        inside = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_nodes(each, known) for each in inside)
    return known[id(node)]
