<?php
// Arrays, strings, objects, closures and arithmetic.
final class Point {
  public function __construct(public int $x, public int $y) {}
  public function moved(int $by): Point { return new Point($this->x + $by, $this->y - $by); }
}

function sieve(int $limit): int {
  $composite = [];
  $count = 0;
  for ($i = 2; $i <= $limit; $i++) {
    if (isset($composite[$i])) continue;
    $count++;
    for ($j = $i * $i; $j <= $limit; $j += $i) $composite[$j] = true;
  }
  return $count;
}

for ($round = 1; $round <= (int)$argv[1]; $round++) {
  $counts = [];
  $state = $round;
  for ($i = 0; $i < 6000; $i++) {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    $key = 'w' . $state % 211;
    $counts[$key] = ($counts[$key] ?? 0) + $i;
  }
  arsort($counts);
  $point = new Point($round, 2);
  for ($i = 0; $i < 6000; $i++) $point = $point->moved($i % 7);
  $grid = array_map(fn($i) => sqrt($i * $round), range(0, 1999));
  $matrix = 0.0;
  for ($i = 0; $i < 60; $i++)
    for ($j = 0; $j < 60; $j++) $matrix += $grid[$i * 30] * $grid[$j * 30 + 7] - $i * $j;
  printf("%s %d %d %d %.6f\n", md5(implode(',', array_keys($counts))), $point->x, $point->y, sieve(6000), $matrix);
}
