// Dictionaries, strings, delegates, virtual calls, exceptions and arrays.
using System;
using System.Collections.Generic;
using System.Text;

abstract class Shape { public abstract double Area(); }
class Circle : Shape {
  readonly double radius;
  public Circle(double radius) { this.radius = radius; }
  public override double Area() { return Math.PI * radius * radius; }
}
class Box : Shape {
  readonly double width, height;
  public Box(double width, double height) { this.width = width; this.height = height; }
  public override double Area() {
    if (width > 96) throw new InvalidOperationException("wide");
    return width * height;
  }
}

static class Work {
  static int Sieve(int limit) {
    var composite = new bool[limit + 1];
    int count = 0;
    for (int i = 2; i <= limit; i++) {
      if (composite[i]) continue;
      count++;
      for (long j = (long)i * i; j <= limit; j += i) composite[j] = true;
    }
    return count;
  }

  static string Round(int number) {
    var counts = new Dictionary<string, int>();
    int state = number, wide = 0;
    for (int i = 0; i < 4000; i++) {
      state = unchecked(state * 1103515245 + 12345) & 0x7fffffff;
      string key = "w" + state % 211;
      int old;
      counts.TryGetValue(key, out old);
      counts[key] = old + i;
    }
    var ranked = new List<KeyValuePair<string, int>>(counts);
    ranked.Sort((a, b) => a.Value != b.Value ? b.Value.CompareTo(a.Value) : string.CompareOrdinal(a.Key, b.Key));
    var shapes = new List<Shape>();
    for (int i = 0; i < 2000; i++) shapes.Add(i % 3 == 0 ? (Shape)new Circle(i % 17) : new Box(i % 97 + number % 2, i % 13));
    double total = 0;
    foreach (var shape in shapes) {
      try { total += shape.Area(); } catch (InvalidOperationException) { wide++; }
    }
    var text = new StringBuilder();
    for (int i = 0; i < 500; i++) text.Append((char)('a' + (i * number) % 26)).Append(i);
    return ranked[0] + " " + ranked[4] + " " + ((long)(total * 1000)) + " " + wide + " " + Sieve(20000) + " " + text.Length;
  }

  static void Main(string[] arguments) {
    int rounds = int.Parse(arguments[0]);
    for (int i = 1; i <= rounds; i++) {
      string line = Round(i);
      if (i % 16 == 0) Console.WriteLine(line);
    }
  }
}
