// Text of strangers: what is UTF-8, and what may be shown on a terminal. Guests, their programs, and other users of the
// host choose names, messages and logs; whatever of these is shown to a person goes through here first.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The length of the UTF-8 sequence at `bytes` (RFC 3629: shortest form, no surrogates), 0 for none.
size_t text_utf8_length(const uint8_t *bytes, size_t size);

// Whether a code point shows as itself and steers nothing: no control character (C0, DEL, C1), no override or isolate
// of the writing direction (Unicode TR 9, 2.7: a name must not look like another), no invisible tag.
bool text_is_plain(uint32_t code);

// Whether all of it is UTF-8 and plain.
bool text_all_plain(const char *text);

// A copy that cannot steer the terminal it is shown on; new lines and tabs stay. Escape sequences go as a whole where
// their end is known (ECMA-48, 5.4 and 5.6), bytes that are no UTF-8 become U+FFFD, all else that is not plain goes.
// Memory of malloc(3); NULL without memory.
char *text_clean(const char *text, size_t size);
