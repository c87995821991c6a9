// Which numbers a row of /etc/subuid gives, and what is none.
#include <criterion/criterion.h>
#include "user-namespace.h"

#define FOUND(first_number) TRUE, first_number
#define NONE                FALSE, 0

static const struct {
  const char *text;
  gboolean found;
  guint32 first;
} rows[] = {
    {"", NONE},
    {"me:100000:65536\n", FOUND(100000)},
    {"other:1:65536\nme:100000:65535", FOUND(100000)},
    {"1000:200000:65536\n", FOUND(200000)},
    {"meme:100000:65536\nm:100000:65536\n", NONE},
    {"me:100000:65534\n", NONE},
    {"me:100000:10\nme:300000:65536\n", FOUND(300000)}, // more than one row: subuid(5)
    {"me:0:65536\n", NONE},                             // root's
    {"me:4294967000:65536\n", NONE},                    // beyond 32 bits
    {"me:-5:65536\nme:1:2:3\nme:\nme\n::\n", NONE},
    {"me:100000:99999999999\n", NONE},
};

Test(user_namespace, ranges) {
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    guint32 first = 0, count = 0;
    gboolean found = user_namespace_find_range(rows[i].text, "me", "1000", &first, &count);
    cr_expect_eq(found, rows[i].found, "row %zu", i);
    cr_expect_eq(first, rows[i].first, "row %zu: %u", i, first);
    cr_expect_eq(count, found ? 65535 : 0, "row %zu: %u", i, count);
  }
}
