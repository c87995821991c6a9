/* Maps, strings, streams, virtual calls, exceptions and arrays. */
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

public class Work {
  interface Shape {
    double area();
  }

  record Circle(double radius) implements Shape {
    public double area() {
      return Math.PI * radius * radius;
    }
  }

  record Box(double width, double height) implements Shape {
    public double area() {
      if (width > 96) throw new IllegalStateException("wide");
      return width * height;
    }
  }

  static int sieve(int limit) {
    boolean[] composite = new boolean[limit + 1];
    int count = 0;
    for (int i = 2; i <= limit; i++) {
      if (composite[i]) continue;
      count++;
      for (long j = (long) i * i; j <= limit; j += i) composite[(int) j] = true;
    }
    return count;
  }

  static String round(int number) {
    Map<String, Integer> counts = new HashMap<>();
    int state = number, wide = 0;
    for (int i = 0; i < 4000; i++) {
      state = state * 1103515245 + 12345 & 0x7fffffff;
      counts.merge("w" + state % 211, i, Integer::sum);
    }
    String ranked = counts.entrySet().stream()
        .sorted(Comparator.comparing((Map.Entry<String, Integer> e) -> -e.getValue()).thenComparing(Map.Entry::getKey))
        .limit(5).map(Object::toString).collect(Collectors.joining(";"));
    List<Shape> shapes = new ArrayList<>();
    for (int i = 0; i < 2000; i++) shapes.add(i % 3 == 0 ? new Circle(i % 17) : new Box(i % 97 + number % 2, i % 13));
    double total = 0;
    for (Shape shape : shapes) {
      try {
        total += shape.area();
      } catch (IllegalStateException e) {
        wide++;
      }
    }
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < 500; i++) text.append((char) ('a' + (i * number) % 26)).append(i);
    return ranked + " " + String.format("%.3f", total) + " " + wide + " " + sieve(20000) + " "
        + text.reverse().toString().hashCode();
  }

  public static void main(String[] arguments) {
    int rounds = Integer.parseInt(arguments[0]);
    for (int i = 1; i <= rounds; i++) {
      String line = round(i);
      if (i % 16 == 0) System.out.println(line);
    }
  }
}
