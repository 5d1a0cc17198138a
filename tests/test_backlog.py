"""``dwebsocket.backlog`` against a plain list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwebsocket.backlog import (
    COALESCE,
    DISCONNECT,
    DROP_NEWEST,
    DROP_OLDEST,
    SLOW_CONSUMER_POLICIES,
    Backlog,
)
from dwebsocket.encoder import Broadcast


def make(size: int) -> Broadcast:
    return Broadcast(2, bytes(size))


def size_of(broadcast: Broadcast) -> int:
    return len(broadcast.payload) + Backlog.ENTRY_SIZE


def pop_all(backlog: Backlog) -> list[Broadcast]:
    return [backlog.pop() for _ in range(len(backlog))]


def test_empty() -> None:
    backlog = Backlog()
    assert (len(backlog), backlog.size, bool(backlog)) == (0, 0, False)
    assert backlog.make_room(1) == 0
    assert not backlog.replace(make(1), ("g:a", None))
    with pytest.raises(KeyError):
        backlog.pop()


def test_a_message_is_replaced_in_its_place() -> None:
    backlog = Backlog()
    messages = [make(size) for size in range(4)]
    backlog.append(messages[0], COALESCE, ("g:a", "x"))
    backlog.append(messages[1], DISCONNECT)
    # The same key of another group, and none at all, are others.
    for key in (("g:b", "x"), ("g:a", None), ("g:a", "")):
        assert not backlog.replace(messages[2], key)
    assert backlog.replace(messages[3], ("g:a", "x"))
    assert backlog.size == size_of(messages[3]) + size_of(messages[1])
    assert pop_all(backlog) == [messages[3], messages[1]]
    assert not backlog.replace(messages[3], ("g:a", "x"))


def test_only_what_can_be_dropped_makes_room() -> None:
    backlog = Backlog()
    messages = [make(size) for size in range(8)]
    policies = (*SLOW_CONSUMER_POLICIES, *SLOW_CONSUMER_POLICIES)
    for message, policy in zip(messages, policies, strict=True):
        backlog.append(message, policy)
    # One is enough for this.
    assert backlog.make_room(Backlog.ENTRY_SIZE) == 1
    assert backlog.make_room(10**9) == 3
    kept = [
        message
        for message, policy in zip(messages, policies, strict=True)
        if policy in (DISCONNECT, DROP_NEWEST)
    ]
    assert backlog.size == sum(map(size_of, kept))
    assert pop_all(backlog) == kept


operations = st.one_of(
    st.tuples(
        st.just("append"),
        st.integers(0, 300),
        st.sampled_from(SLOW_CONSUMER_POLICIES),
        st.sampled_from([None, "a", "b"]),
    ),
    st.tuples(st.just("make_room"), st.integers(-10, 1000)),
    st.tuples(st.just("pop")),
)


@given(st.lists(operations, max_size=50))
def test_any_operations(steps: list[tuple[Any, ...]]) -> None:
    backlog = Backlog()
    model: list[tuple[Any, Broadcast, bool]] = []
    for step, *arguments in steps:
        if step == "append":
            size, policy, key = arguments
            broadcast = make(size)
            keys = [entry[0] for entry in model]
            if policy == COALESCE and key in keys and key is not None:
                assert backlog.replace(broadcast, key)
                index = keys.index(key)
                model[index] = (key, broadcast, model[index][2])
            else:
                key = key if policy == COALESCE else None
                backlog.append(broadcast, policy, key)
                model.append((key, broadcast, policy in (DROP_OLDEST, COALESCE)))
        elif step == "make_room":
            (size,) = arguments
            dropped = []
            for entry in model:
                if size <= 0:
                    break
                if entry[2]:
                    dropped.append(entry)
                    size -= size_of(entry[1])
            model = [entry for entry in model if entry not in dropped]
            assert backlog.make_room(arguments[0]) == len(dropped)
        elif model:
            assert backlog.pop() is model.pop(0)[1]
        assert len(backlog) == len(model)
        assert backlog.size == sum(size_of(entry[1]) for entry in model)
    assert pop_all(backlog) == [entry[1] for entry in model]
