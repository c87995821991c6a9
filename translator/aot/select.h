/* Which files are to be translated. */
#ifndef STELE_AOT_SELECT_H
#define STELE_AOT_SELECT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Selection {
  char **paths;
  size_t count;
} Selection;

/* All regular files of `names`, a list that ends with NULL, and in the folders among them; with `loaded` of these only programs,
 * and libraries that they name, directly or through others, as the loader would look for them (DT_NEEDED, by their file's name or
 * a link's). What is named and cannot be read, or to no avail in a folder, is told on standard error. 0 or an errno. */
int select_files(char *const *names, bool loaded, Selection *ret_selection);
void selection_free(Selection *selection);

#endif
