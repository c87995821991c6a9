# Regular expressions, hashes and string building.
use strict;
my %count;
my $total = 0;
for my $round (1 .. 9 * $ARGV[0]) {
  my $text = join " ", map { "item$_=" . ($_ * $round % 1009) . ";" } 1 .. 900;
  while ($text =~ /item(\d+)=(\d+);/g) {
    $count{$1 % 97} += $2;
    $total += length($1) * $2;
  }
  (my $copy = $text) =~ s/(\d)(\d)/$2$1/g;
  $total += () = $copy =~ /\b[a-z]+\d*[13579]=/g;
  my @fields = sort { $a cmp $b } split /;\s*/, $copy;
  $total += unpack("%32C*", join "", reverse @fields);
}
print "$total ", join(",", map { "$_:$count{$_}" } sort { $a <=> $b } keys %count), "\n";
