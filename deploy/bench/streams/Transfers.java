import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * What deploy/bench/transfers.toml does, as one would write it for Kafka Streams: each transfer once (by
 * its id), in the order of its nonce on its track, 16 of an account to a record. Exactly once (v2), one
 * thread, RocksDB, changelogs; everything else as Kafka Streams sets it.
 *
 * <p>One processor with four stores, so that there is one sub-topology and no repartition topic. It does
 * less than Semel's operators where that is simpler: no index of ids by age, no dead letters, no timers
 * (none fires during the measurement).
 */
public final class Transfers {
  private static final int BATCH = 16;
  private static final int EARLY_MAX = 64;

  private Transfers() {}

  /** Arguments: bootstrap servers, application id, input topic, output topic, state folder. */
  public static void main(String[] args) throws InterruptedException {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(
        StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    if (System.getenv("BENCH_COMMIT_MS") != null) {
      settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, System.getenv("BENCH_COMMIT_MS"));
    }
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.RETRY_BACKOFF_MS_CONFIG), 5);

    Serde<byte[]> bytes = Serdes.ByteArray();
    Topology topology = new Topology();
    topology.addSource("in", bytes.deserializer(), bytes.deserializer(), args[2]);
    topology.addProcessor("transfers", new Once(), "in");
    topology.addSink("out", args[3], bytes.serializer(), bytes.serializer(), "transfers");

    KafkaStreams streams = new KafkaStreams(topology, settings);
    CountDownLatch ended = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          ended.countDown();
          return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler
              .StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    ended.await();
    System.exit(1);
  }

  private static final class Once implements ProcessorSupplier<byte[], byte[], byte[], byte[]> {
    private static StoreBuilder<?> store(String name) {
      return Stores.keyValueStoreBuilder(
          Stores.persistentKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray());
    }

    @Override
    public Set<StoreBuilder<?>> stores() {
      return Set.of(store("ids"), store("tracks"), store("early"), store("batches"));
    }

    @Override
    public Processor<byte[], byte[], byte[], byte[]> get() {
      return new InOrder();
    }
  }

  private static final class InOrder implements Processor<byte[], byte[], byte[], byte[]> {
    private final ObjectMapper json = new ObjectMapper();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> ids;
    private KeyValueStore<byte[], byte[]> tracks;
    private KeyValueStore<byte[], byte[]> early;
    private KeyValueStore<byte[], byte[]> batches;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      ids = context.getStateStore("ids");
      tracks = context.getStateStore("tracks");
      early = context.getStateStore("early");
      batches = context.getStateStore("batches");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      JsonNode value;
      try {
        value = json.readTree(record.value());
      } catch (IOException broken) {
        throw new IllegalArgumentException(broken);
      }
      byte[] id = value.get("id").asText().getBytes(StandardCharsets.UTF_8);
      if (ids.get(id) != null) {
        return;
      }
      ids.put(id, longs(value.get("slot").asLong()));
      byte[] track =
          (value.get("account").asText() + "/" + value.get("track").asLong())
              .getBytes(StandardCharsets.UTF_8);
      inOrder(record, track, value.get("nonce").asLong());
    }

    /** Track: the next nonce, and how many wait. */
    private void inOrder(Record<byte[], byte[]> record, byte[] track, long nonce) {
      byte[] known = tracks.get(track);
      ByteBuffer state = ByteBuffer.wrap(known == null ? longs(0, 0) : known);
      long next = state.getLong();
      long waiting = state.getLong();
      if (nonce < next || waiting >= EARLY_MAX) {
        return;
      }
      if (nonce > next) {
        early.put(early(track, nonce), record.value());
        tracks.put(track, longs(next, waiting + 1));
        return;
      }
      add(record, record.value());
      next++;
      while (waiting > 0) {
        byte[] key = early(track, next);
        byte[] ready = early.delete(key);
        if (ready == null) {
          break;
        }
        add(record, ready);
        next++;
        waiting--;
      }
      tracks.put(track, longs(next, waiting));
    }

    /** Open batch: how many, and their values with commas between. */
    private void add(Record<byte[], byte[]> record, byte[] value) {
      byte[] open = batches.get(record.key());
      int count = open == null ? 1 : ByteBuffer.wrap(open).getInt() + 1;
      ByteBuffer all = ByteBuffer.allocate((open == null ? 4 : open.length + 1) + value.length);
      all.putInt(count);
      if (open != null) {
        all.put(open, 4, open.length - 4).put((byte) ',');
      }
      all.put(value);
      if (count < BATCH) {
        batches.put(record.key(), all.array());
        return;
      }
      byte[] head = "{\"records\":[".getBytes(StandardCharsets.UTF_8);
      byte[] tail = "]}".getBytes(StandardCharsets.UTF_8);
      ByteBuffer whole = ByteBuffer.allocate(head.length + all.capacity() - 4 + tail.length);
      whole.put(head).put(all.array(), 4, all.capacity() - 4).put(tail);
      batches.delete(record.key());
      context.forward(record.withValue(whole.array()).withHeaders(record.headers()));
    }

    private static byte[] early(byte[] track, long nonce) {
      return ByteBuffer.allocate(track.length + 8).put(track).putLong(nonce).array();
    }

    private static byte[] longs(long... values) {
      ByteBuffer bytes = ByteBuffer.allocate(8 * values.length);
      for (long value : values) {
        bytes.putLong(value);
      }
      return bytes.array();
    }
  }
}
