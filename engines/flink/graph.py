"""The dataflow as Flink's graph: sources, keyed functions, one sink; each with its uid for ever."""

from __future__ import annotations

from typing import Any

from pyflink.common import Duration, Types, WatermarkStrategy
from pyflink.datastream import BroadcastStream, DataStream, KeyedStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaSink, KafkaSource
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray

from engines.flink.analysing import AnalyzeFunction
from engines.flink.functions import BYTES, KeyedFunction
from engines.flink.kafka import java_options
from engines.flink.learning import LearnFunction
from engines.flink.settings import JobSettings
from engines.flink.sharing import SHARED_STATE, SharingFunction
from engines.flink.wire import PLACES, topics
from engines.one_key import part_named
from pipelines.operators import Broadcast
from pipelines.topology import LOOPS, greeting_loop
from schemas.codec import current

SHARED_IDLE_MS = 1_000
"""A shared stream that says nothing for so long holds no timer back; event streams have Ticks."""
_KEYED = Types.ROW([Types.STRING(), BYTES])


class Graph:
    """Builds a job on an environment.

    Parameters
    ----------
    env : StreamExecutionEnvironment
        With the jars already added.
    settings : JobSettings
        What the job was told.
    """

    def __init__(self, env: StreamExecutionEnvironment, settings: JobSettings) -> None:
        self.env = env
        self.settings = settings
        self._jvm = get_gateway().jvm

    def source(self, name: str, streams: tuple[str, ...], *, shared: bool = False) -> DataStream:
        """Read some streams as rows of key and envelope; Ticks only move the watermark."""
        settings = self.settings
        offsets = self._jvm.org.apache.flink.connector.kafka.source.enumerator.initializer
        builder = KafkaSource.builder()
        j_builder = builder._j_builder  # noqa: SLF001 - has no public deserializer of records
        j_builder.setBootstrapServers(settings.servers)
        # Names the reader for Kafka's own tools; positions are the checkpoint's.
        j_builder.setGroupId(f"pho.{settings.prefix or 'loop'}.{name}")
        j_builder.setTopics(self._strings(topics(settings.prefix, streams)))
        j_builder.setStartingOffsets(offsets.OffsetsInitializer.earliest())
        j_builder.setDeserializer(self._jvm.pho.LogRecords(self._strings(self._topics)))
        # A transaction of another writer must not be read before it is whole.
        options = {"isolation.level": "read_committed", **java_options(settings.security)}
        for option, value in options.items():
            j_builder.setProperty(option, value)
        watermarks = WatermarkStrategy.for_monotonous_timestamps()
        if shared:
            watermarks = watermarks.with_idleness(Duration.of_millis(SHARED_IDLE_MS))
        rows = self.env.from_source(builder.build(), watermarks, f"{name} input", _KEYED)
        rows.uid(f"{name}.source")
        if shared:
            return rows
        headers = self._strings(list(self._tick_headers))
        kept = rows._j_data_stream.filter(self._jvm.pho.NoTicks(headers))  # noqa: SLF001
        return DataStream(kept).name(f"{name} without ticks").uid(f"{name}.no_ticks")

    def sink(self, name: str, emitted: DataStream) -> None:
        """Write what an operator gave out, at least once: ids make repeats harmless."""
        serializer = self._jvm.pho.Emitted(self._strings(self._topics))
        builder = self._jvm.org.apache.flink.connector.kafka.sink.KafkaSink.builder()
        builder.setBootstrapServers(self.settings.servers)
        builder.setRecordSerializer(serializer)
        builder.setDeliveryGuarantee(
            DeliveryGuarantee.AT_LEAST_ONCE._to_j_delivery_guarantee()  # noqa: SLF001
        )
        # acks=all and order within a partition; a batch waits 1 ms: 10 records a request under
        # load, where each alone halves the rate.
        options = {"acks": "all", "enable.idempotence": "true", "linger.ms": "1"}
        for option, value in {**options, **java_options(self.settings.security)}.items():
            builder.setProperty(option, value)
        emitted.sink_to(KafkaSink(builder.build())).name(f"{name} output").uid(f"{name}.sink")

    def keyed(self, rows: DataStream) -> KeyedStream:
        """Key rows by their first field, in the JVM: `key_by` would ask Python for each record."""
        key_type = Types.ROW([Types.STRING()]).get_java_type_info()
        keyed = rows._j_data_stream.keyBy(self._jvm.KeyByKeySelector(), key_type)  # noqa: SLF001
        return KeyedStream(keyed, _KEYED, rows)

    def in_order(self, name: str, inputs: tuple[str, ...], rows: KeyedStream) -> KeyedStream:
        """Hold records back until their log time is complete, then give them on in order.

        In the JVM: as a buffer in Python it took two calls of Python for each record, half of the
        join's time.
        """
        jvm = self._jvm
        places = to_jarray(jvm.int, [PLACES.index(stream) for stream in inputs])
        ordered = rows._j_data_stream.process(  # noqa: SLF001
            jvm.pho.InOrder(places), _KEYED.get_java_type_info()
        )
        stream = DataStream(ordered).name(f"{name} in order").uid(f"{name}.in_order")
        # The same keys at the same place: told so, Flink chains the operator behind it.
        reinterpret = jvm.org.apache.flink.streaming.api.datastream.DataStreamUtils
        key_type = Types.ROW([Types.STRING()]).get_java_type_info()
        keyed = reinterpret.reinterpretAsKeyedStream(
            stream._j_data_stream,  # noqa: SLF001
            jvm.KeyByKeySelector(),
            key_type,
        )
        return KeyedStream(keyed, _KEYED, stream)

    def operator(self, name: str) -> None:
        """Add a keyed operator with its source and its sink."""
        part = part_named(name)
        rows = self.keyed(self.source(name, part.inputs))
        if len(part.inputs) > 1:
            rows = self.in_order(name, part.inputs, rows)
        if part.broadcasts:
            shared = self.shared(name, part.broadcasts)
            emitted = rows.connect(shared).process(SharingFunction(name, self.settings), BYTES)
        elif name == "learn":
            emitted = rows.process(LearnFunction(self.settings), BYTES)
        else:
            emitted = rows.process(KeyedFunction(name, self.settings), BYTES)
        emitted.name(name).uid(name)
        self.sink(name, emitted)

    def analyze(self) -> None:
        """Add the calls for pictures, with their source and their sink."""
        name = "analyze"
        rows = self.keyed(self.source(name, ("frames",)))
        shared = self.shared(name, (LOOPS,))
        emitted = rows.connect(shared).process(AnalyzeFunction(self.settings), BYTES)
        emitted.name(name).uid(name)
        self.sink(name, emitted)

    def shared(self, name: str, broadcasts: tuple[Broadcast, ...]) -> BroadcastStream:
        """Read the shared streams that an operator looks at."""
        streams = tuple(broadcast.stream for broadcast in broadcasts)
        return self.source(f"{name}.shared", streams, shared=True).broadcast(SHARED_STATE)

    @property
    def _topics(self) -> list[str]:
        return topics(self.settings.prefix, PLACES)

    @property
    def _tick_headers(self) -> tuple[str, ...]:
        return self.settings.tick_headers or (current("Tick").header.hex(),)

    def _strings(self, texts: list[str]) -> Any:
        return to_jarray(self._jvm.String, texts)


def analyze_job(env: StreamExecutionEnvironment, settings: JobSettings) -> None:
    """Build the job `analyze`: calls to the outside, whose failures must not stop the loop."""
    Graph(env, settings).analyze()


def loop_job(env: StreamExecutionEnvironment, settings: JobSettings) -> None:
    """Build the job `loop`: the keyed operators."""
    graph = Graph(env, settings)
    for part in greeting_loop().keyed:
        if part.name in settings.operators:
            graph.operator(part.name)
