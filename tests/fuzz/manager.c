// What a guest or a peer sends to steled, for a number of seconds: nothing may crash, overrun, leak (build it with
// sanitizers) or break an invariant that is checked here.
//
//   fuzz-manager TARGET SECONDS SEED CASES
//
// CASES is a directory of files, each the input of a finding: those of TARGET (TARGET.NAME) run first, exactly as they
// are. Other inputs are seeds of the target with pieces changed, repeated, left out and put in from a list of words
// that mean something there. A failure prints the seed of the input: that with 0 seconds repeats it.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "agent-link.h"
#include "agent-message.h"
#include "domain-xml.h"
#include "image-layer.h"
#include "json.h"
#include "stream-frame.h"
#include "text.h"

#define INPUT_MAX (3 * STELE_FRAME_SIZE_MAX)

// --- chance --------------------------------------------------------------------------------------

static guint64 random_state;

static guint64 random64(void) { // splitmix64
  guint64 z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static guint below(guint limit) {
  return (guint)(random64() % limit);
}

static guint64 current_seed;

static void say_seed(int number) {
  char text[64];
  int size = snprintf(text, sizeof text, "seed of the input: %llu\n", (unsigned long long)current_seed);
  if (write(STDERR_FILENO, text, (size_t)size) < 0) _exit(3);
  signal(number, SIG_DFL);
  raise(number);
}

static void check(gboolean holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "does not hold: %s\n", what);
  abort();
}

// --- inputs --------------------------------------------------------------------------------------

typedef struct Target {
  const char *name;
  void (*run)(const guint8 *bytes, gsize size);
  void (*make)(GByteArray *input); // or NULL: a seed
  const char *const *seeds, *const *words;
} Target;

static const char *pick(const char *const *list) {
  return list[below(g_strv_length((char **)list))];
}

// How much of what there is comes at once.
static gsize some_of(gsize there) {
  gsize most = 1 + below(below(2) ? 16 : INPUT_MAX);
  return MIN(there, most);
}

static void put_in(GByteArray *input, guint at, const void *bytes, guint size) {
  guint old = input->len;
  if (old + size > INPUT_MAX) return;
  g_byte_array_set_size(input, old + size);
  memmove(input->data + at + size, input->data + at, old - at);
  memcpy(input->data + at, bytes, size);
}

static void repeat_piece(GByteArray *input, guint at) {
  guint size = 1 + below(MIN(input->len - at, 64));
  g_autofree guint8 *piece = g_memdup2(input->data + at, size);
  for (guint times = 1 + below(below(8) ? 4 : 400); times > 0; times--) put_in(input, at, piece, size);
}

static void mutate(const Target *target, GByteArray *input) {
  static const guint8 telling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '<', '{', '[', '\\', '&'};
  for (guint times = below(8); times > 0; times--) {
    guint at = below(input->len + 1);
    const char *word = target->words ? pick(target->words) : "";
    if (at == input->len) {
      put_in(input, at, word, (guint)strlen(word));
      continue;
    }
    switch (below(6)) {
    case 0:
      input->data[at] ^= (guint8)(1u << below(8));
      break;
    case 1:
      input->data[at] = telling[below(sizeof telling)];
      break;
    case 2:
      put_in(input, at, word, (guint)strlen(word));
      break;
    case 3:
      g_byte_array_remove_range(input, at, 1 + below(MIN(input->len - at, 32)));
      break;
    case 4:
      repeat_piece(input, at);
      break;
    case 5: {
      const char *other = target->seeds ? pick(target->seeds) : word;
      put_in(input, at, other, (guint)strlen(other));
      break;
    }
    }
  }
}

// --- JSON, and what is read from it --------------------------------------------------------------

static const char *const json_seeds[] = {
    "{\"version\":\"0.1.0\",\"protocol\":2,\"state\":\"ready\",\"message\":\"up\",\"init\":\"system\",\"uptime-ms\":"
    "2900,"
    "\"ready-ms\":2800,\"translator\":{\"registered\":true,\"cpu\":\"x86-64-v2\",\"memory-model\":\"auto\"},"
    "\"command\":{\"signalled\":false,\"value\":0}}",
    "{\"code\":\"not-found\",\"message\":\"no such program\"}",
    "{\"return\":{\"a\":[1,2,-3.5e+7,null,true,false,\"\\u00e9\"]}}",
    "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"}}",
    "[[[[]]],{\"\":{}}]",
    NULL};
static const char *const json_words[] = {"\"\\ud83d\\ude00\"",
                                         "\\ud800",
                                         "\\u0000",
                                         "\xc3\xa9",
                                         "\xed\xa0\x80",
                                         "\x1b[31m",
                                         "\x1b]0;",
                                         "\xe2\x80\xae",
                                         "9223372036854775808",
                                         "-0",
                                         "1e999",
                                         "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
                                         "{\"a\":",
                                         "null",
                                         "\"state\":",
                                         "\"message\":",
                                         "\"error\":",
                                         "\"return\":",
                                         NULL};

static void use_value(const JsonDocument *document, const JsonNode *node) {
  g_autofree char *string = NULL;
  int64_t integer;
  bool boolean;
  const char *text;
  size_t size;
  check(node->start <= node->end && node->next <= document->count, "a value lies inside its document");
  if (json_get_string(document, node, &string) == 0) check(string != NULL, "a string is given");
  json_get_integer(document, node, &integer);
  json_get_boolean(document, node, &boolean);
  json_get_text(document, node, &text, &size);
  json_member(document, node, "message");
  for (const JsonNode *element = json_first(document, node); element; element = json_next(document, node, element))
    check(element > node, "what an array holds comes behind it");
}

static void run_json(const guint8 *bytes, gsize size) {
  g_autofree char *exact = g_memdup2(bytes, size); // an overrun is noticed
  JsonDocument document;
  if (json_parse(&document, exact ? exact : "", size) < 0) return;
  check(document.count > 0 && document.count <= JSON_NODES_MAX, "the number of values is bounded");
  for (uint32_t i = 0; i < document.count; i++) use_value(&document, &document.nodes[i]);
  json_free(&document);
}

static void run_message(const guint8 *bytes, gsize size) {
  g_autofree char *exact = g_memdup2(bytes, size);
  const char *json = exact ? exact : "";
  AgentStatus status;
  if (agent_message_read_status(json, size, &status)) {
    check(text_all_plain(status.version) || strpbrk(status.version, "\n\t"), "a version is plain");
    check(text_all_plain(status.message) || strpbrk(status.message, "\n\t"), "a message is plain");
    check(status.ready_ms >= 0, "time does not run backwards");
    agent_message_clear_status(&status);
  }
  g_autoptr(GError) error = NULL, refusal = NULL;
  if (agent_message_read_error(json, size, &error)) check(error != NULL, "an error is given");
  agent_message_read_reply(json, size, &refusal);
}

static void run_text(const guint8 *bytes, gsize size) {
  g_autofree char *exact = g_memdup2(bytes, size), *clean = text_clean(exact ? exact : "", size);
  check(g_utf8_validate(clean, -1, NULL), "clean text is UTF-8");
  g_autofree char *again = text_clean(clean, strlen(clean));
  check(g_str_equal(clean, again), "clean text stays as it is");
  for (char *c = clean; *c; c++)
    if (*c == '\n' || *c == '\t') *c = ' ';
  check(text_all_plain(clean), "clean text steers nothing");
}

// --- frames --------------------------------------------------------------------------------------

// Headers of frames that may be right, with payloads of the length they say, mostly; streams as they are opened.
static void make_frames(GByteArray *input) {
  for (guint count = 1 + below(12); count > 0; count--) {
    guint8 header[STELE_FRAME_HEADER_SIZE], payload[256];
    guint32 stream = below(4) ? 1 + below(6) : (guint32)random64();
    SteleFrameType type = (SteleFrameType)(below(16) ? below(16) : below(256));
    if (type == STELE_FRAME_STATUS || type == STELE_FRAME_HELLO) stream = 0;
    guint32 size = below(40);
    const char *json = pick(json_seeds);
    gboolean says = type == STELE_FRAME_STATUS || type == STELE_FRAME_OPENED || type == STELE_FRAME_ERROR ||
                    type == STELE_FRAME_REPLY;
    if (says) size = (guint32)MIN(strlen(json), sizeof payload);
    for (guint32 i = 0; i < sizeof payload; i++) payload[i] = (guint8)(below(3) ? below(4) : random64());
    if (says) memcpy(payload, json, size);
    if (type == STELE_FRAME_EXIT || type == STELE_FRAME_WINDOW) size = 8;
    if (type == STELE_FRAME_EOF) size = 1;
    stele_frame_write_header(header, type, stream, below(30) ? size : (guint32)random64());
    put_in(input, input->len, header, sizeof header);
    put_in(input, input->len, payload, size);
  }
  if (below(30)) return; // as much as one frame takes
  g_autofree guint8 *much = g_malloc0(STELE_FRAME_SIZE_MAX);
  stele_frame_write_header(much, STELE_FRAME_DATA, 1 + below(4), STELE_FRAME_PAYLOAD_MAX);
  much[STELE_FRAME_HEADER_SIZE] = STELE_CHANNEL_STDOUT;
  put_in(input, input->len, much, STELE_FRAME_SIZE_MAX);
}

static void run_frames(const guint8 *bytes, gsize size) {
  g_autofree SteleFrameParser *parser = g_new0(SteleFrameParser, 1);
  parser->sender = STELE_FROM_GUEST;
  for (gsize at = 0; at < size;) {
    gsize room = 0;
    guint8 *space = stele_frame_parser_space(parser, &room);
    check(room > 0 && space >= parser->buffer && space + room <= parser->buffer + sizeof parser->buffer,
          "there is room");
    gsize piece = some_of(MIN(room, size - at));
    memcpy(space, bytes + at, piece);
    stele_frame_parser_commit(parser, piece);
    at += piece;
    SteleFrame frame;
    int r;
    while ((r = stele_frame_parser_next(parser, &frame)) == 1)
      check(frame.length <= STELE_FRAME_PAYLOAD_MAX && frame.payload >= parser->buffer &&
                frame.payload + frame.length <= parser->buffer + sizeof parser->buffer,
            "a payload lies inside the parser");
    if (r < 0) return;
  }
}

// --- the link ------------------------------------------------------------------------------------

// A channel whose other end is the input; what is sent there is looked at for the greeting only.
typedef struct InputChannel {
  ByteChannel base;
  GByteArray *input;
  gsize at;
  gboolean greeted;
  gsize taken, limit; // of what was sent; afterwards the guest reads no more
  ByteChannelReady ready;
  gpointer user_data;
} InputChannel;

static InputChannel *channel; // of the link, until it closes it

static gssize channel_read(ByteChannel *base, void *bytes, gsize size) {
  InputChannel *it = (InputChannel *)base;
  gsize piece = some_of(MIN(size, it->input->len - it->at));
  if (piece == 0) return -EAGAIN;
  memcpy(bytes, it->input->data + it->at, piece);
  it->at += piece;
  return (gssize)piece;
}

// Echoes HELLO, as an agent must, before anything of the input.
static gssize channel_write(ByteChannel *base, const void *bytes, gsize size) {
  InputChannel *it = (InputChannel *)base;
  gsize hello = STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE + 4;
  if (!it->greeted && size >= hello) {
    g_byte_array_prepend(it->input, (const guint8 *)bytes + size - hello, (guint)hello);
    it->greeted = TRUE;
  }
  if (it->taken >= it->limit) return -EAGAIN;
  it->taken += size;
  return (gssize)size;
}

static void channel_watch(ByteChannel *base, GIOCondition conditions, ByteChannelReady ready, gpointer user_data) {
  InputChannel *it = (InputChannel *)base;
  it->ready = ready;
  it->user_data = user_data;
}

static void channel_close(ByteChannel *base) {
  InputChannel *it = (InputChannel *)base;
  g_byte_array_unref(it->input);
  g_free(it);
  channel = NULL;
}

static const ByteChannelClass channel_class = {channel_read, channel_write, channel_watch, channel_close};

static AgentLink *link_;
static AgentStream *streams[4];
static int client_ends[4][3];
static guint answers;

static void on_link_status(const AgentStatus *status, gpointer user_data) {
  check(status->state != NULL, "a status has a state");
}

static void on_link_ended(const char *why, gpointer user_data) {
  g_clear_pointer(&link_, agent_link_free);
}

static void on_stream_opened(AgentStream *stream, const int *fds, int count, gpointer user_data) {
  int *ends = user_data;
  for (int i = 0; i < count; i++) {
    check(ends[i] < 0 && fds[i] >= 0, "a stream is opened once, with descriptors");
    ends[i] = fds[i];
  }
  if (below(3) == 0 && ends[0] >= 0) { // a client that goes at once
    close(ends[0]);
    ends[0] = -1;
  } else if (below(2) && write(ends[0], "input\n", 6) < 0) {
    check(errno == EPIPE, "a client can write, unless the guest takes no input");
  }
}

static void on_stream_ended(AgentStream *stream, const AgentStreamResult *result, gpointer user_data) {
  check(result->error || result->value <= 255, "a status is one");
}

static void on_answer(const GError *error, gpointer user_data) {
  answers--;
}

static const AgentLinkHandlers link_handlers = {on_link_status, on_link_ended};
static const AgentStreamHandlers stream_handlers = {on_stream_opened, on_stream_ended};

static void open_streams(void) {
  static const char *const argv[] = {"true", NULL};
  for (gsize i = 0; i < G_N_ELEMENTS(streams); i++) {
    const AgentExecRequest request = {.argv = argv, .tty = i == 3};
    memset(client_ends[i], -1, sizeof client_ends[i]);
    streams[i] = link_ ? agent_link_exec(link_, &request, &stream_handlers, client_ends[i], NULL) : NULL;
  }
  for (guint i = below(3); i > 0 && link_; i--) {
    answers++;
    agent_link_command(link_, "{\"execute\":\"guest-sync\"}", 600, on_answer, NULL);
  }
}

static void turn(void) {
  if (channel && channel->ready && (channel->at < channel->input->len || below(4) == 0))
    channel->ready(&channel->base, G_IO_IN | (below(2) ? G_IO_OUT : 0), channel->user_data);
  while (g_main_context_iteration(NULL, FALSE)) {
  }
}

static void close_streams(void) {
  for (gsize i = 0; i < G_N_ELEMENTS(streams); i++) {
    for (int n = 0; n < 3; n++)
      if (client_ends[i][n] >= 0) close(client_ends[i][n]);
    if (streams[i]) agent_stream_close(streams[i]);
    streams[i] = NULL;
  }
}

static void run_link(const guint8 *bytes, gsize size) {
  channel = g_new0(InputChannel, 1);
  *channel =
      (InputChannel){.base = {&channel_class}, .input = g_byte_array_new(), .limit = below(3) ? G_MAXSIZE : 200000};
  link_ = agent_link_new(&channel->base, &link_handlers, NULL);
  for (int i = 0; i < 4 && channel && channel->at < channel->input->len; i++) turn();
  open_streams();
  turn();
  if (channel) g_byte_array_append(channel->input, bytes, (guint)size);
  for (int i = 0; i < 200 && channel && channel->at < channel->input->len; i++) {
    if (below(50) == 0 && streams[below(4)])
      agent_stream_signal(streams[0] ? streams[0] : streams[1] ? streams[1] : streams[2] ? streams[2] : streams[3], 15);
    if (below(100) == 0) agent_link_restart(link_);
    turn();
  }
  if (below(2)) close_streams();
  turn();
  g_clear_pointer(&link_, agent_link_free);
  close_streams();
  turn();
  check(answers == 0, "each command is answered once");
}

// --- machines' XML -------------------------------------------------------------------------------

#define HEAD "<domain type='qemu'><name>dev</name><memory unit='GiB'>2</memory>"
#define OPEN "<metadata><stele:machine xmlns:stele='urn:stele:machine:1'>"
static const char *const xml_seeds[] = {
    HEAD "<os><type arch='aarch64' machine='virt'>hvm</type></os>" OPEN
         "<stele:rootfs arch='x86_64' type='dir' source='/srv/debian' mode='overlay'/><stele:translator tag='stele' "
         "cpu='x86-64-v2' memory-model='auto'/><stele:init>system</stele:init><stele:hostname>dev</stele:hostname>"
         "</stele:machine></metadata></domain>",
    HEAD OPEN
    "<stele:rootfs type='disk' source='/a.img' format='qcow2' fstype='erofs' mode='ro'/><stele:init>command"
    "</stele:init><stele:command cwd='/tmp' user='nobody'><stele:arg>sh</stele:arg><stele:arg>-c</stele:arg>"
    "<stele:env name='A'>hello &amp; more</stele:env></stele:command><stele:network host-loopback='on'/>"
    "</stele:machine></metadata><devices><disk type='file' device='disk'><source file='/b'/><target dev='vdb' "
    "bus='virtio'/><address type='pci' bus='0x00' slot='0x11'/></disk></devices></domain>",
    "<?xml version='1.0' encoding='iso-8859-1'?>\n<!DOCTYPE domain [<!ENTITY a 'b'>]>" HEAD
    "<devices><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><interface "
    "type='user'/>"
    "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env name='LD_PRELOAD' "
    "value='/x.so'/></qemu:commandline></domain>",
    NULL};
static const char *const xml_words[] = {"<![CDATA[",
                                        "]]>",
                                        "&a;",
                                        "&#0;",
                                        "&#x10ffff;",
                                        "<!--",
                                        "-->",
                                        "<?x ?>",
                                        "xmlns='urn:stele:machine:1'",
                                        "<name>",
                                        "</name>",
                                        "<domain>",
                                        "</domain>",
                                        "<stele:machine xmlns:stele='urn:stele:machine:1'>",
                                        "<metadata/>",
                                        "<os/>",
                                        "<os><cmdline>quiet</cmdline></os>",
                                        "<devices>",
                                        "</devices>",
                                        "<uuid>",
                                        "<uuid/>",
                                        "<cpu/>",
                                        "<console/>",
                                        "xmlns:stele=''",
                                        "<qemu:env xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>",
                                        "<filesystem><target dir='stele'/></filesystem>",
                                        "<a b=''/>",
                                        "\xc3\xa9",
                                        "encoding='utf-16'",
                                        "../",
                                        "%s%n",
                                        "<stele:arg/>",
                                        "<features><tcg/></features>",
                                        "<memoryBacking/>",
                                        "slot='99999999999999999999'",
                                        "<on_reboot>destroy</on_reboot>",
                                        NULL};

static void run_xml(const guint8 *bytes, gsize size) {
  g_autofree char *text = g_strndup((const char *)bytes, size); // a D-Bus string has no NUL
  g_autofree char *declared = domain_text_declare_utf8(text);
  g_autoptr(GError) error = NULL;
  g_autoptr(xmlDoc) document = domain_document_parse(text, &error);
  check((document == NULL) == (error != NULL), "a refusal is explained");
  if (document == NULL) return;
  g_autofree char *name = domain_document_dup_name(document);
  check(*name && strchr(name, '/') == NULL && name[0] != '.' && text_all_plain(name), "a name can be a file's");
  g_autoptr(MachineConfig) config = NULL;
  if (!machine_config_parse(document, &config, &error)) {
    check(error != NULL, "a refusal is explained");
    return;
  }
  DomainHost host = {.kvm = size % 2 != 0,
                     .cpus = 4,
                     .kernel = "/k",
                     .initrd = "/i",
                     .translator_dir = "/t",
                     .root_dir = "/r",
                     .console_log = "/l",
                     .embedded = size % 3 != 0,
                     .network_guard = size % 5 ? "/g.so" : NULL,
                     .file_server = size % 7 ? "/v" : NULL,
                     .uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"};
  if (!domain_xml_expand(document, config, &host, &error)) return;
  g_autofree char *expanded = domain_xml_to_string(document);
  g_autoptr(xmlDoc) again =
      xmlReadMemory(expanded, (int)strlen(expanded), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR);
  check(again != NULL, "what is expanded is XML");
}

// --- layers of images ----------------------------------------------------------------------------

#define LAYER_BUDGET ((guint64)1 << 20)

static const char *const layer_names[] = {
    "etc/passwd",       "a/./b//c",       "..",      "a/../../b", "/abs",      "dir/",        ".wh.gone",
    "dir/.wh..wh..opq", "./.wh..wh.plnk", "/",       ".",         "..\\x",     "a/.. /b",     "",
    "\xff\xfe",         "x/../x",         "..a/b..", "link/..",   "dev/null0", "etc/.wh....", NULL};
static const char *const layer_records[] = {
    "path=../x",          "path=a/b",  "linkpath=../../y",    "size=10",       "size=-1",
    "size=9999999999999", "size=0x10", "GNU.sparse.major=1",  "mtime=1.5",     "path=",
    "path=a\nb",          "=",         "SCHILY.xattr.user=x", "hdrcharset=ab", NULL};

static void put_number(guint8 *field, gsize size, guint64 value) {
  if (below(8) == 0) { // GNU's base 256
    for (gsize i = 0; i < size; i++) field[i] = i + 8 < size ? 0 : (guint8)(value >> (8 * (size - 1 - i)));
    field[0] |= 0x80;
  } else {
    g_snprintf((char *)field, size, "%0*llo", (int)size - 1, (unsigned long long)value);
  }
}

// Its sum is right, mostly, so that what stands in it is looked at.
static void put_tar_header(GByteArray *input, const char *name, const char *link, char type, guint64 size) {
  guint8 block[512] = {0};
  memcpy(block, name, MIN(strlen(name), 100));
  memcpy(block + 157, link, MIN(strlen(link), 100));
  put_number(block + 124, 12, size);
  block[156] = (guint8)type;
  memcpy(block + 257, below(3) ? "ustar\0" : "ustar ", 6);
  if (below(6) == 0) g_strlcpy((char *)block + 345, pick(layer_names), 155);
  if (below(12) == 0) block[below(512)] ^= (guint8)(1u << below(8));
  memset(block + 148, ' ', 8);
  guint sum = 0;
  for (int i = 0; i < 512; i++) sum += block[i];
  g_snprintf((char *)block + 148, 8, "%06o", below(30) ? sum : sum + 1);
  put_in(input, input->len, block, sizeof block);
}

static void put_content(GByteArray *input, const char *bytes, gsize size) {
  static const guint8 zeros[512];
  put_in(input, input->len, bytes, (guint)size);
  if (below(40)) put_in(input, input->len, zeros, (guint)(-size % 512));
}

static void make_layer(GByteArray *input) {
  static const char types[] = {'0', 0, '1', '2', '3', '4', '5', '6', '7', 'S', 'g', 'V'};
  static const guint8 zeros[1024];
  for (guint count = 1 + below(8); count > 0; count--) {
    if (below(3) == 0) { // what a long name or a pax header says of the next entry
      char type = "xLKg"[below(4)];
      g_autoptr(GString) special = g_string_new(NULL);
      for (guint records = below(4); records > 0; records--) {
        const char *record = pick(layer_records);
        gsize digits = strlen(record) + 3 < 10 ? 1 : 2, length = strlen(record) + 2 + digits;
        if (type == 'x' || type == 'g')
          g_string_append_printf(special, "%zu %s\n", length + (below(12) == 0), record);
        else
          g_string_append(special, pick(layer_names));
      }
      put_tar_header(input, "special", "", type, below(20) ? special->len : random64() >> below(64));
      put_content(input, special->str, special->len);
    }
    char type = types[below(sizeof types)], content[700] = "content";
    guint size = below(2) ? 0 : below(sizeof content);
    put_tar_header(input, pick(layer_names), pick(layer_names), type, below(20) ? size : random64() >> below(64));
    if (type != '1' && type != '2' && type != '5') put_content(input, content, size);
  }
  if (below(10)) put_in(input, input->len, zeros, sizeof zeros);
}

// gzip in one member or two, which must change nothing.
static GByteArray *gzipped(const guint8 *bytes, gsize size) {
  GByteArray *packed = g_byte_array_new();
  gsize first = size && below(2) ? below((guint)size) : size;
  for (int member = 0; member < 2; member++) {
    z_stream stream = {.next_in = (guint8 *)bytes + (member ? first : 0),
                       .avail_in = (uInt)(member ? size - first : first)};
    if (member && stream.avail_in == 0) break;
    check(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "there is memory");
    gsize old = packed->len, room = deflateBound(&stream, stream.avail_in);
    g_byte_array_set_size(packed, (guint)(old + room));
    stream.next_out = packed->data + old;
    stream.avail_out = (uInt)room;
    check(deflate(&stream, Z_FINISH) == Z_STREAM_END, "it is compressed at once");
    g_byte_array_set_size(packed, (guint)(old + stream.total_out));
    deflateEnd(&stream);
  }
  return packed;
}

static gboolean check_layer(const char *file, const guint8 *bytes, gsize size, const char *media_type,
                            char **ret_diff_id) {
  ImageLayer layer = {.media_type = (char *)media_type};
  ImageBudget budget = {.bytes = LAYER_BUDGET, .bytes_max = LAYER_BUDGET, .entries = 6};
  g_autoptr(GError) error = NULL;
  check(g_file_set_contents(file, (const char *)bytes, (gssize)size, NULL), "the layer is written");
  gboolean good = image_layer_check(file, &layer, &budget, NULL, &error);
  check(good == (error == NULL), "a refusal is explained");
  check(budget.bytes <= LAYER_BUDGET && budget.entries <= 6, "what is left is no more than there was");
  g_autofree char *clean = error ? text_clean(error->message, strlen(error->message)) : NULL;
  check(error == NULL || g_strcmp0(clean, error->message) == 0, "a refusal can be shown");
  check(!good || (layer.digest && layer.diff_id && layer.size == size), "a layer that is taken is described");
  *ret_diff_id = good ? g_strdup(layer.diff_id) : NULL;
  g_free(layer.digest);
  g_free(layer.diff_id);
  return good;
}

static void run_layer(const guint8 *bytes, gsize size) {
  static char file[64];
  if (!*file) g_snprintf(file, sizeof file, "/dev/shm/fuzz-layer-%d", (int)getpid());
  g_autofree char *plain = NULL, *unpacked = NULL, *damaged = NULL;
  gboolean good = check_layer(file, bytes, size, "application/vnd.oci.image.layer.v1.tar", &plain);
  g_autoptr(GByteArray) packed = gzipped(bytes, size);
  gboolean same =
      check_layer(file, packed->data, packed->len, "application/vnd.oci.image.layer.v1.tar+gzip", &unpacked);
  check(good == same && g_strcmp0(plain, unpacked) == 0, "compressed or not, a layer is the same");
  packed->data[below(packed->len)] ^= (guint8)(1u << below(8));
  if (check_layer(file, packed->data, packed->len, "application/vnd.oci.image.layer.v1.tar+gzip", &damaged))
    check(good && g_strcmp0(plain, damaged) == 0, "damage is noticed, or has changed nothing");
  unlink(file);
}

// --- running -------------------------------------------------------------------------------------

static const char *const no_words[] = {"\1\2\0", "\1\6", "\xff\xff\xff\xff", NULL};

static const Target targets[] = {
    {"json", run_json, NULL, json_seeds, json_words},    {"message", run_message, NULL, json_seeds, json_words},
    {"text", run_text, NULL, json_seeds, json_words},    {"frames", run_frames, make_frames, NULL, no_words},
    {"link", run_link, make_frames, NULL, no_words},     {"xml", run_xml, NULL, xml_seeds, xml_words},
    {"layer", run_layer, make_layer, NULL, layer_names},
};

static void run_seed(const Target *target, guint64 seed) {
  g_autoptr(GByteArray) input = g_byte_array_new();
  current_seed = random_state = seed;
  if (target->make) {
    target->make(input);
    if (below(3) == 0) mutate(target, input);
  } else {
    const char *text = pick(target->seeds);
    g_byte_array_append(input, (const guint8 *)text, (guint)strlen(text));
    mutate(target, input);
  }
  target->run(input->data, input->len);
}

static guint run_cases(const Target *target, const char *directory) {
  guint count = 0;
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  g_autofree char *prefix = g_strconcat(target->name, ".", NULL);
  check(files != NULL, "the directory of cases is there");
  for (const char *name; (name = g_dir_read_name(files));) {
    g_autofree char *path = g_build_filename(directory, name, NULL), *content = NULL;
    gsize size = 0;
    if (!g_str_has_prefix(name, prefix)) continue;
    check(g_file_get_contents(path, &content, &size, NULL), "a case can be read");
    current_seed = random_state = 0;
    target->run((const guint8 *)content, size);
    count++;
  }
  return count;
}

int main(int argc, char **argv) {
  const Target *target = NULL;
  for (gsize i = 0; argc == 5 && i < G_N_ELEMENTS(targets); i++)
    if (g_str_equal(argv[1], targets[i].name)) target = &targets[i];
  if (target == NULL) {
    fprintf(stderr, "usage: fuzz-manager json|message|text|frames|link|xml|layer SECONDS SEED CASES\n");
    return 2;
  }
  signal(SIGABRT, say_seed);
  signal(SIGPIPE, SIG_IGN);
  guint64 seed = strtoull(argv[3], NULL, 0), count = 0;
  gint64 end = g_get_monotonic_time() + (gint64)(atof(argv[2]) * 1e6);
  guint cases = run_cases(target, argv[4]);
  do {
    run_seed(target, seed + count++);
  } while (g_get_monotonic_time() < end);
  printf("%s: %u cases, %llu inputs\n", target->name, cases, (unsigned long long)count);
  return 0;
}
