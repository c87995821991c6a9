import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;

/** Threads that allocate until the collector runs, contend for a lock, and start a program. */
public class Threads {
  private static final AtomicLong counter = new AtomicLong();
  private static long guarded;

  private static long work(int number) {
    List<byte[]> kept = new ArrayList<>();
    long sum = 0;
    for (int i = 0; i < 20000; i++) {
      byte[] block = new byte[256 + i % 64];
      block[i % 256] = (byte) number;
      if (i % 16 == 0) kept.add(block);
      if (kept.size() > 200) kept.clear();
      sum += block[i % 256] + (i ^ number) % 7;
      counter.incrementAndGet();
      if (i % 50 == 0) synchronized (Threads.class) { guarded++; }
    }
    return sum;
  }

  public static void main(String[] arguments) throws Exception {
    var pool = Executors.newFixedThreadPool(4);
    List<Future<Long>> results = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      final int number = i;
      results.add(pool.submit(() -> work(number)));
    }
    Process child = new ProcessBuilder("/bin/echo", "child").start();
    System.out.print(new String(child.getInputStream().readAllBytes()));
    for (var result : results) System.out.println(result.get());
    pool.shutdown();
    System.out.println(counter.get() + " " + guarded);
  }
}
