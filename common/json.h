// Reads and writes the small JSON messages of the guest's channels (RFC 8259).
//
// Constraints: the reader takes hostile text: depth and node count are bounded, invalid UTF-8, control
// characters, lone surrogates, NUL in strings and trailing text are refused, nothing recurses on
// input. The writer appends to a Buffer, whose sticky error covers it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buffer.h"

enum { JSON_DEPTH_MAX = 32, JSON_NODES_MAX = 4096 };

typedef enum JsonType {
  JSON_NULL,
  JSON_FALSE,
  JSON_TRUE,
  JSON_NUMBER,
  JSON_STRING,
  JSON_ARRAY,
  JSON_OBJECT,
} JsonType;

// One value. Values stand in an array in the order of the text, a container before what it holds; an
// object holds its keys (strings) and values alternately.
typedef struct JsonNode {
  JsonType type;
  uint32_t start, end; // of the value's text; of a string without its quotes
  uint32_t next;       // index of the first node behind this value and all it holds
} JsonNode;

typedef struct JsonDocument {
  const char *text; // the caller's; must outlive the document
  JsonNode *nodes;  // nodes[0] is the root
  uint32_t count;
} JsonDocument;

// Parses `size` bytes. Returns 0; -EINVAL for what is not JSON; -E2BIG beyond the bounds; -ENOMEM.
// On success the caller frees with json_free().
int json_parse(JsonDocument *ret_document, const char *text, size_t size);
void json_free(JsonDocument *document);

// The member of an object, or NULL (no such member, or `object` is NULL or no object). The last one
// counts where a name is repeated.
const JsonNode *json_member(const JsonDocument *document, const JsonNode *object, const char *name);

// Walks an array: the first element, and the one after `element`; NULL at the end.
const JsonNode *json_first(const JsonDocument *document, const JsonNode *array);
const JsonNode *json_next(const JsonDocument *document, const JsonNode *array, const JsonNode *element);

// A string's decoded, NUL-terminated copy in memory the caller frees. -EINVAL: NULL or no string.
int json_get_string(const JsonDocument *document, const JsonNode *node, char **ret_string);
// Whether the node is a string equal to `text` (only strings without escapes ever are).
bool json_equals(const JsonDocument *document, const JsonNode *node, const char *text);
// An integer. -EINVAL: NULL or no number; -ERANGE: a fraction, an exponent, or out of range.
int json_get_integer(const JsonDocument *document, const JsonNode *node, int64_t *ret_value);
// A boolean. -EINVAL: NULL or no boolean.
int json_get_boolean(const JsonDocument *document, const JsonNode *node, bool *ret_value);
// The text of a value as it was sent, for an answer that must echo it.
void json_get_text(const JsonDocument *document, const JsonNode *node, const char **ret_text, size_t *ret_size);

// The writer: punctuation is put in by these calls, so a message is a plain sequence of them.
void json_open(Buffer *buffer, char bracket);  // '{' or '['
void json_close(Buffer *buffer, char bracket); // '}' or ']'
void json_key(Buffer *buffer, const char *name);
// Bytes that are no UTF-8 are written as U+FFFD, so that file names cannot spoil a reply.
void json_put_string(Buffer *buffer, const char *string);
void json_put_integer(Buffer *buffer, int64_t value);
void json_put_boolean(Buffer *buffer, bool value);
// Several members at once.
void json_member_string(Buffer *buffer, const char *name, const char *string);
void json_member_integer(Buffer *buffer, const char *name, int64_t value);
void json_member_boolean(Buffer *buffer, const char *name, bool value);
// An array of strings, NULL-terminated; NULL: an empty one.
void json_member_strings(Buffer *buffer, const char *name, const char *const *strings);
