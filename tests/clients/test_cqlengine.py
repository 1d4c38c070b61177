"""cqlengine, the object mapper of Apache's driver: it makes tables, reads the schema back and writes CQL of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from cassandra.cluster import Cluster
from cassandra.cqlengine import columns, connection
from cassandra.cqlengine.management import drop_table, sync_table, sync_type
from cassandra.cqlengine.models import Model
from cassandra.cqlengine.query import BatchQuery, DoesNotExist, LWTException, MultipleObjectsReturned
from cassandra.cqlengine.usertype import UserType
from tests.clients import cluster_of
from tests.nodes import NodeProcess

NAME = "cqlengine_tests"


class Address(UserType):
    street = columns.Text()
    zip_code = columns.Integer()


class Person(Model):
    __table_name__ = "people"
    id = columns.UUID(primary_key=True, default=uuid.uuid4)
    name = columns.Text(required=True)
    born = columns.DateTime()
    height = columns.Double()
    tags = columns.Set(columns.Text)
    scores = columns.List(columns.Integer)
    phones = columns.Map(columns.Text, columns.BigInt)
    home = columns.UserDefinedType(Address)


class Reading(Model):
    __table_name__ = "readings"
    __options__ = {"comment": "of sensors", "gc_grace_seconds": 1234}  # noqa: RUF012
    sensor = columns.Text(partition_key=True)
    day = columns.Integer(partition_key=True)
    at = columns.Integer(primary_key=True, clustering_order="DESC")
    unit = columns.Text(static=True)
    value = columns.Float()


class Hits(Model):
    __table_name__ = "hits"
    page = columns.Text(primary_key=True)
    count = columns.Counter()


MODELS = (Person, Reading, Hits)


@pytest.fixture(scope="module")
def cql(node: NodeProcess, way: tuple[int, str | None]) -> Iterator[Cluster]:
    """A connection of cqlengine's own: it shuts down what it no longer needs."""
    cluster = cluster_of(node, *way)
    connection.register_connection(NAME, session=cluster.connect(), default=True)
    yield cluster
    connection.unregister_connection(NAME)


@pytest.fixture(scope="module", autouse=True)
def models(cql: Cluster, keyspace: str) -> Iterator[None]:
    """The models' tables, in the keyspace of the way that is being tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CQLENG_ALLOW_SCHEMA_MANAGEMENT", "1")
        for model in MODELS:
            model.__keyspace__ = keyspace
        sync_type(keyspace, Address)
        for model in MODELS:
            sync_table(model)
        yield
        for model in MODELS:
            drop_table(model)
    assert not {model.__table_name__ for model in MODELS} & set(cql.metadata.keyspaces[keyspace].tables)


def test_tables_are_as_modelled(cql: Cluster, keyspace: str) -> None:
    table = cql.metadata.keyspaces[keyspace].tables["readings"]
    assert [column.name for column in table.partition_key] == ["sensor", "day"]
    assert table.columns["at"].is_reversed
    assert table.columns["unit"].is_static
    assert (table.options["comment"], table.options["gc_grace_seconds"]) == ("of sensors", 1234)


def test_sync_adds_columns_and_options(cql: Cluster, keyspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQLENG_ALLOW_SCHEMA_MANAGEMENT", "1")

    class Small(Model):
        __keyspace__ = keyspace
        __table_name__ = "grows"
        k = columns.Integer(primary_key=True)

    class Large(Model):
        __keyspace__ = keyspace
        __table_name__ = "grows"
        __options__ = {"default_time_to_live": 77}  # noqa: RUF012
        k = columns.Integer(primary_key=True)
        v = columns.Text()

    sync_table(Small)
    Small.create(k=1)
    sync_table(Large)
    table = cql.metadata.keyspaces[keyspace].tables["grows"]
    assert set(table.columns) == {"k", "v"}
    assert table.options["default_time_to_live"] == 77
    assert Large.get(k=1).v is None
    drop_table(Large)
    assert "grows" not in cql.metadata.keyspaces[keyspace].tables


def test_create_get_update_delete() -> None:
    made = Person.create(
        name="Ada",
        born=datetime(1815, 12, 10),
        height=1.65,
        tags={"maths", "engine"},
        scores=[3, 1, 2],
        phones={"home": 123456789012},
        home=Address(street="St James", zip_code=1),
    )
    got = Person.get(id=made.id)
    assert dict(got) == dict(made)
    assert got.home.street == "St James"
    got.update(name="Ada L.", height=None)
    got = Person.get(id=made.id)
    assert (got.name, got.height, got.born) == ("Ada L.", None, datetime(1815, 12, 10))
    got.delete()
    with pytest.raises(DoesNotExist):
        Person.get(id=made.id)


def test_collections_change_by_deltas() -> None:
    person = Person.create(name="B", tags={"a"}, scores=[1], phones={"x": 1})
    person.tags.add("b")
    person.scores.append(2)
    person.phones["y"] = 2
    person.save()
    got = Person.get(id=person.id)
    assert (got.tags, got.scores, dict(got.phones)) == ({"a", "b"}, [1, 2], {"x": 1, "y": 2})
    Person.objects(id=person.id).update(
        tags__remove={"a"}, scores__prepend=[0], phones__update={"z": 3}, name="C"
    )
    got = Person.get(id=person.id)
    assert (got.tags, got.scores, dict(got.phones), got.name) == (
        {"b"},
        [0, 1, 2],
        {"x": 1, "y": 2, "z": 3},
        "C",
    )
    Person.objects(id=person.id).update(tags=None, scores=[], phones__remove={"x", "y", "z"})
    got = Person.get(id=person.id)
    assert (set(got.tags), list(got.scores), dict(got.phones)) == (set(), [], {})


def test_filters_orders_and_limits() -> None:
    for at in range(20):
        Reading.create(sensor="s", day=1, at=at, unit="°C", value=at / 2)

    def count(day: int) -> int:
        return int(Reading.objects(sensor="s", day=day).count())  # a query set remembers its count

    Reading.create(sensor="s", day=2, at=0, value=100.0)
    of_day = Reading.objects(sensor="s", day=1)
    assert count(day=1) == 20
    assert [reading.at for reading in of_day.limit(3)] == [19, 18, 17]
    assert [reading.at for reading in of_day.order_by("at").limit(3)] == [0, 1, 2]
    assert [reading.at for reading in of_day.filter(at__gte=5, at__lt=8)] == [7, 6, 5]
    assert [reading.at for reading in of_day.filter(at__in=[3, 9])] == [9, 3]
    assert {reading.unit for reading in of_day} == {"°C"}
    assert [reading.day for reading in Reading.objects(sensor="s", day__in=[1, 2], at=0)] == [1, 2]
    assert list(of_day.filter(at=4).values_list("value", flat=True)) == [2.0]
    assert [reading.at for reading in Reading.objects.filter(value=9.5).allow_filtering()] == [19]
    assert [reading.at for reading in of_day.fetch_size(3)] == list(range(19, -1, -1))
    assert [reading.value for reading in of_day.only(["value"]).limit(1)] == [9.5]
    with pytest.raises(MultipleObjectsReturned):
        of_day.get()
    Reading.objects(sensor="s", day=1, at=4).delete()
    assert count(day=1) == 19
    Reading.objects(sensor="s", day=1).delete()
    assert (count(day=1), count(day=2)) == (0, 1)


def test_batch() -> None:
    with BatchQuery() as batch:
        for at in range(5):
            Reading.batch(batch).create(sensor="batch", day=1, at=at, value=float(at))
        Reading.objects(sensor="batch", day=1, at=0).batch(batch).update(value=50.0)
    of_day = Reading.objects(sensor="batch", day=1)
    assert {reading.at: reading.value for reading in of_day} == {0: 50.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    with BatchQuery(timestamp=datetime(2001, 1, 1)) as batch:  # before the rows were written
        Reading.objects(sensor="batch", day=1, at=0).batch(batch).delete()
    assert of_day.count() == 5


def test_conditions() -> None:
    person = Person.if_not_exists().create(name="first")
    with pytest.raises(LWTException) as refusal:
        Person.if_not_exists().create(id=person.id, name="second")
    assert refusal.value.existing["name"] == "first"
    Person.objects(id=person.id).iff(name="first").update(name="third")
    with pytest.raises(LWTException) as refusal:
        Person.objects(id=person.id).iff(name="first").update(name="fourth")
    assert refusal.value.existing == {"[applied]": False, "name": "third"}
    Person.objects(id=person.id).if_exists().delete()
    with pytest.raises(LWTException):
        Person.objects(id=person.id).if_exists().update(name="fifth")


def test_ttl_and_timestamp(keyspace: str) -> None:
    Reading.ttl(500).create(sensor="ttl", day=1, at=1, value=1.0)
    session = connection.get_session()
    (row,) = session.execute(
        f"SELECT ttl(value) AS left FROM {keyspace}.readings WHERE sensor = 'ttl' AND day = 1"
    )
    assert 400 < row["left"] <= 500
    Reading.timestamp(10).create(sensor="ttl", day=2, at=1, value=1.0)
    Reading.timestamp(5).create(sensor="ttl", day=2, at=1, value=2.0)
    assert Reading.get(sensor="ttl", day=2, at=1).value == 1.0


def test_counters() -> None:
    Hits.objects(page="a").update(count=3)
    Hits.objects(page="a").update(count=4)
    hits = Hits.get(page="a")
    assert hits.count == 7
    hits.update(count=hits.count - 2)
    rows: list[Any] = [(hits.page, hits.count) for hits in Hits.objects.all()]
    assert rows == [("a", 5)]
