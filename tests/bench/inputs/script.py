# Objects, dictionaries, strings, integers and exceptions: what Python programs are made of.
import sys


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def moved(self, by):
        return Point(self.x + by, self.y - by)


def words(seed, count):
    state, out = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7fffffff
        out.append("w%d" % (state % 997))
    return out


def work(seed):
    counts = {}
    for word in words(seed, 6000):
        counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]
    point = Point(seed, 2)
    for i in range(3000):
        point = point.moved(i % 7)
        try:
            if i % 50 == 0:
                raise ValueError(i)
        except ValueError as error:
            point.x += error.args[0]
    primes = [n for n in range(2, 1500) if all(n % d for d in range(2, int(n ** 0.5) + 1))]
    text = " ".join(word.upper().replace("W", "x-") for word, _ in ranked)
    big = 1
    for i in range(1, 150):
        big *= i
    return hash((point.x, point.y)), len(primes), text[:40], big % 1000003, sum(ord(c) for c in text)


for n in range(4 * int(sys.argv[1])):
    print(work(n + 1))
