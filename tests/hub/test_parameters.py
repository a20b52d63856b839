"""Parameters: who may change what, and who is told."""

from collections.abc import Mapping
from typing import Any

import pytest

from dreamrelay.errors import ParameterError, ProtocolError
from dreamrelay.protocol.messages import (
    Delivery,
    ParametersChanged,
    Refused,
    SchemaChanged,
    WorkerHello,
)
from tests.fakes.hub import SCHEMA, Room


class TestParameters:
    def test_all_or_nothing(self, room: Room) -> None:
        worker, viewer = room.worker(), room.viewer()
        heard = len(viewer.heard)
        with pytest.raises(ParameterError) as caught:
            room.stream.update_parameters(
                {"prompt": "a fox", "strength": 7, "speed": 1}, "rest", peer=worker
            )
        assert set(caught.value.problems) == {"strength", "speed"}
        assert room.stream.values == {"prompt": "", "strength": 0.5}
        assert room.stream.revision == 1
        assert len(viewer.heard) == heard

    def test_everybody_is_told_once_and_only_the_asker_its_id(self, room: Room) -> None:
        room.worker()
        viewer, asker = room.viewer(), room.viewer()
        stranger = room.peer("producer")
        room.stream.update_parameters({"prompt": "a"}, "studio", id=7, peer=asker)
        for peer, id_ in ((viewer, None), (asker, 7)):
            assert [n.id for n in peer.of(ParametersChanged)[1:]] == [id_]
            told = peer.last(ParametersChanged)
            assert (told.changed, told.origin, told.revision) == (("prompt",), "studio", 2)
        room.stream.update_parameters({"prompt": "b"}, "seed", id=1, peer=stranger)
        assert [n.id for n in stranger.of(ParametersChanged)] == [1]
        assert viewer.last(ParametersChanged).values["prompt"] == "b"

    def test_the_revision_counts_changes(self, room: Room) -> None:
        room.worker()
        assert room.stream.update_parameters({"strength": 0.7}, "x").revision == 2
        same = room.stream.update_parameters({"strength": 0.7}, "x")
        assert (same.revision, same.changed) == (2, ())
        assert room.stream.update_parameters({}, "x").revision == 2

    def test_a_patch_before_the_worker_is_kept_and_checked_when_one_comes(self, room: Room) -> None:
        viewer = room.viewer()
        room.stream.update_parameters({"prompt": "a fox", "strength": 9, "other": 1}, "rest")
        assert room.stream.values == {"prompt": "a fox", "strength": 9, "other": 1}
        worker = room.worker()
        assert room.stream.values == {"prompt": "a fox", "strength": 0.5}
        for peer in (viewer, worker):
            assert peer.last(SchemaChanged).schema == SCHEMA
            assert peer.last(ParametersChanged).values == room.stream.values

    def test_a_worker_hears_the_values_before_its_first_picture(self, room: Room) -> None:
        other = room.worker(0)
        room.send(room.producer())
        room.stream.update_parameters({"prompt": "a fox"}, "rest")
        worker = room.worker(1)
        room.stream.leave(other)
        kinds = [type(n) for n in worker.heard]
        assert kinds.index(ParametersChanged) < kinds.index(Delivery)
        assert worker.of(ParametersChanged)[0].values["prompt"] == "a fox"

    def test_a_worker_without_a_schema_hears_them_too(self, room: Room) -> None:
        room.stream.update_parameters({"prompt": "a fox"}, "rest")
        worker = room.worker(hello=WorkerHello())
        assert worker.last(ParametersChanged).values == {"prompt": "a fox"}

    def test_another_worker_brings_another_schema(self, room: Room) -> None:
        first = room.worker()
        room.stream.update_parameters({"prompt": "a fox", "strength": 0.9}, "rest")
        room.stream.leave(first)
        other = {"type": "object", "properties": {"prompt": {"maxLength": 100}, "speed": {}}}
        room.worker(hello=WorkerHello(schema=other, parameters={"prompt": "", "speed": 3}))
        assert room.stream.values == {"prompt": "a fox", "speed": 3}
        with pytest.raises(ParameterError, match="expected one of prompt, speed"):
            room.stream.update_parameters({"strength": 0.1}, "rest")
        room.worker()
        assert room.stream.values == {"prompt": "a fox", "strength": 0.9}

    def test_what_a_worker_says_of_parameters_it_has_not_is_left_out(self, room: Room) -> None:
        room.worker(hello=WorkerHello(schema=SCHEMA, parameters={"prompt": "p", "secret": 1}))
        assert room.stream.values == {"prompt": "p"}

    @pytest.mark.parametrize(
        ("patch", "text"),
        [
            ({"strength": 2}, "strength: expected at most 1, got 2"),
            ({"strength": -1}, "strength: expected at least 0, got -1"),
            ({"strength": "high"}, "strength: expected number, got 'high'"),
            ({"strength": True}, "strength: expected number, got True"),
            ({"prompt": "x" * 21}, "prompt: expected at most 20 characters, got 21"),
            ({"prompt": None}, "prompt: expected string, got None"),
            ({"cfg_type": "both"}, "cfg_type: expected one of none, self, got 'both'"),
            ({"steps": 0}, "steps: expected at least 1, got 0"),
            ({"steps": "x"}, "steps: expected integer or null, got 'x'"),
            ({"stength": 1}, "stength: no such parameter: expected one of cfg_type, prompt"),
        ],
    )
    def test_errors_say_what_was_expected_and_what_came(
        self, room: Room, patch: Mapping[str, Any], text: str
    ) -> None:
        room.worker()
        with pytest.raises(ParameterError) as caught:
            room.stream.update_parameters(patch, "rest")
        assert str(caught.value).startswith(text)

    def test_patches_are_bounded(self, room: Room) -> None:
        for patch in (
            {f"p{i}": 1 for i in range(65)},
            {"prompt": "x" * 9000},
            {"a name": 1},
            {"x" * 65: 1},
            {"": 1},
        ):
            with pytest.raises(ParameterError):
                room.stream.update_parameters(patch, "rest")
        for i in range(500):
            try:
                room.stream.update_parameters({f"name_{i}": 1}, "rest")
            except ParameterError:
                break
        assert len(room.stream.values) <= 256

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "nonsense"},
            {"properties": []},
            {"properties": {"a": {"minimum": "low"}}},
            {"properties": {"a": {"description": "x" * 70_000}}},
            {"properties": {f"p{i}": {} for i in range(300)}},
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        ],
    )
    def test_a_schema_that_is_none_is_refused(self, room: Room, schema: dict[str, Any]) -> None:
        worker = room.worker(hello=WorkerHello(schema=schema))
        assert isinstance(worker.last(Refused).error, ProtocolError)
        assert room.stream.schema is None

    @pytest.mark.parametrize(
        ("rule", "value"),
        [
            ({"$ref": "http://127.0.0.1:9/schema.json"}, 1),
            ({"$ref": "#/nowhere"}, 1),
            ({"$ref": "#"}, 1),
            (False, 1),
            ({"multipleOf": 1e-300}, 1e300),
        ],
    )
    def test_a_schema_that_cannot_be_used_refuses_values(
        self, room: Room, rule: Any, value: Any
    ) -> None:
        worker = room.worker(hello=WorkerHello(schema={"properties": {"a": rule}}))
        try:
            room.stream.update_parameters({"a": value}, "rest")
        except ParameterError as error:
            assert set(error.problems) == {"a"}  # noqa: PT017 - either way is right
        assert worker.id in room.stream.peers

    def test_regular_expressions_of_a_schema_are_not_run(self, room: Room) -> None:
        rules = {"a": {"type": "string", "pattern": "^(a+)+$"}, "pattern": {"type": "string"}}
        room.worker(hello=WorkerHello(schema={"properties": rules}))
        room.stream.update_parameters({"a": "a" * 60 + "!", "pattern": "x"}, "rest")
        with pytest.raises(ParameterError):
            room.stream.update_parameters({"pattern": 1}, "rest")
