# Word counts, field splitting and numeric work over a text read several times.
{ for (i = 1; i <= NF; i++) words[tolower($i)]++; lines[NR % 50] = lines[NR % 50] + length($0) * (NR % 7) }
NR % 3 == 0 { text = $0; changed += gsub(/[aeiou]/, "&&", text); total += length(text) }
END {
  for (round = 0; round < rounds * 5; round++)
    for (i = 1; i < 40000; i++) sum += (i * 7919 + round) % 1013 * (i % 3 ? 1 : -1)
  for (word in words) { distinct++; most = words[word] > most ? words[word] : most }
  print NR, changed, total, distinct, most, sum, lines[7]
}
