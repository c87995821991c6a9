/* Where pieces of code begin is found first: at every seed, and wherever their exits lead, as the dispatcher would form regions
 * when it comes there. Then they are translated, in the order of their addresses: what lies in the way of an earlier one
 * becomes an entry of that, so that hardly any code is translated twice. At last those of a function become one region. */
#include "aot/translate.h"

#include <stdlib.h>
#include <string.h>

#include "aot/join.h"
#include "guest/memory-map.h"
#include "mnemonics.h"

enum { TABLE_ROWS_MAX = 4096, TABLE_REACH = 64 << 10, LABELS_MAX = 256, LABEL_ROWS_MAX = 1 << 20, LOOKS_MAX = REGION_MAX_RUNS + 1 };

/* Programs take some ten bytes of records a byte of code. A file that names every byte of its code as an entry would take a
 * thousand times as much room and time as its code; what is left out of it is translated when it is executed. */
enum { RECORD_BYTES_A_BYTE = 32, RECORD_BYTES_ANYHOW = 1 << 20 };
#define RECORD_BYTES_MAX (UINT64_C(4) << 30)

/* Bytes that grow. */
typedef struct Buffer {
  uint8_t *bytes;
  size_t size, capacity;
  bool failed;
} Buffer;

typedef struct Work {
  Pipeline *pipeline;
  const Program *program;
  ImageTarget target;
  Buffer pieces;  /* Piece * */
  uint64_t piece_bytes;
  Buffer records; /* of the image */
  uint32_t record_count;
  Buffer pending; /* uint64_t: places to translate, first come, first served: functions before what data may mean */
  size_t next;    /* in `pending` */
  uint8_t *covered; /* bit n: address n of the code, from `low` on, is an entry or not worth trying */
  uint8_t *begins;  /* bit n: a piece begins there, unless it is an entry of an earlier one */
  uint8_t *tops;    /* of each address: PipelineTarget.x87_top as a piece before has left it for one there */
  uint64_t at;      /* address up to which pieces have been translated */
  bool again;       /* pieces have been found to begin before that */
  uint8_t *translated; /* bit n: the byte is part of a region */
  uint64_t low, high;
  uint64_t *functions;
  size_t function_count;
  uint64_t labels[LABELS_MAX]; /* whose addresses are made in their functions */
  unsigned label_count, label_rows; /* rows that count from one: looked at so far */
  AotImage *image;
} Work;

static void *append(Buffer *b, const void *data, size_t size) {
  if (b->size + size > b->capacity) {
    size_t capacity = b->capacity ? b->capacity * 2 : 64 << 10;
    while (capacity < b->size + size) capacity *= 2;
    uint8_t *grown = realloc(b->bytes, capacity);
    if (!grown) return b->failed = true, NULL;
    b->bytes = grown;
    b->capacity = capacity;
  }
  void *at = b->bytes + b->size;
  if (data) memcpy(at, data, size);
  else memset(at, 0, size);
  b->size += size;
  return at;
}

static bool test_and_set(uint8_t *bits, uint64_t n) {
  bool was = bits[n / 8] >> (n & 7) & 1;
  bits[n / 8] |= (uint8_t)(1u << (n & 7));
  return was;
}

static bool test(const uint8_t *bits, uint64_t n) { return bits[n / 8] >> (n & 7) & 1; }

/* While places are looked for. */
static void want(void *context, uint64_t address) {
  Work *w = context;
  if (program_code_at(w->program, address) && !test(w->covered, address - w->low))
    append(&w->pending, &address, sizeof address);
}

/* While code is translated. */
static void want_piece(Work *w, uint64_t address) {
  if (!program_code_at(w->program, address) || test(w->covered, address - w->low)) return;
  if (!test_and_set(w->begins, address - w->low) && address <= w->at) w->again = true;
}

/* The first way to a place tells where ST(0) is there. */
static void note_top(Work *w, const A64Exit *exit) {
  if (!exit->x87_top || !program_code_at(w->program, exit->guest_pc)) return;
  uint8_t *top = &w->tops[exit->guest_pc - w->low];
  if (!*top) *top = exit->x87_top;
}

/* --- Tables of jumps ---------------------------------------------------------------------------------------------- */

/* The first address behind the function that holds `address`. */
static uint64_t function_end(const Work *w, uint64_t address, uint64_t *ret_start) {
  size_t low = 0, high = w->function_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (w->functions[middle] <= address) low = middle + 1;
    else high = middle;
  }
  *ret_start = low ? w->functions[low - 1] : address > TABLE_REACH ? address - TABLE_REACH : 0;
  return low < w->function_count ? w->functions[low] : address + TABLE_REACH;
}

/* Rows of four bytes, each the distance of a jump's target from `base`, up to the first that leads out of the function. How many
 * there are. */
static unsigned want_table(Work *w, uint64_t table, uint64_t base, uint64_t jump) {
  uint64_t start, end = function_end(w, jump, &start);
  unsigned rows = 0;
  for (; rows < TABLE_ROWS_MAX; rows++) {
    int32_t distance;
    const uint8_t *row = program_bytes_at(w->program, table + rows * 4, 4);
    if (!row) break;
    memcpy(&distance, row, sizeof distance);
    uint64_t target = base + (uint64_t)(int64_t)distance;
    if (target < start || target >= end) break;
    want(w, target);
  }
  return rows;
}

/* The address that an instruction makes of its own; 0 where it makes none. */
static uint64_t made_address(const RegionInsn *r) {
  if (r->insn.mnemonic != X86_LEA || r->insn.mem.base != X86_RIP) return 0;
  return r->pc + r->insn.length + (uint64_t)r->insn.mem.disp;
}

/* The address of a label that code makes in the function the label is in (GCC manual, 6.3, labels as values): it is jumped to, or
 * rows of tables count from it. Compilers make it once, before what jumps. */
static void note_label(Work *w, uint64_t label, uint64_t maker) {
  uint64_t start, end = function_end(w, maker, &start);
  if (label <= start || label >= end) return;
  want(w, label);
  for (unsigned i = 0; i < w->label_count; i++)
    if (w->labels[i] == label) return;
  if (w->label_count < LABELS_MAX) w->labels[w->label_count++] = label;
}

static void want_table_of_labels(Work *w, uint64_t table, uint64_t jump) {
  uint64_t start, end = w->label_count ? function_end(w, jump, &start) : 0;
  for (unsigned i = 0; i < w->label_count && w->label_rows < LABEL_ROWS_MAX; i++) {
    if (w->labels[i] < start || w->labels[i] >= end) continue;
    w->label_rows += 1 + want_table(w, table, w->labels[i], jump);
  }
}

/* Addresses of data that code makes may be those of tables: one that leads into the function it is made in is. Compilers count
 * the rows of position-independent switches from the table. */
static void want_tables(Work *w, const LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) {
    uint64_t made = made_address(&region->insns[i]);
    if (made && program_code_at(w->program, made)) note_label(w, made, region->insns[i].pc);
  }
  for (uint32_t i = 0; i < region->count; i++) {
    uint64_t made = made_address(&region->insns[i]), jump = region->insns[i].pc;
    if (!made || program_code_at(w->program, made)) continue;
    want_table(w, made, made, jump);
    want_table_of_labels(w, made, jump);
  }
}

/* --- Pieces ------------------------------------------------------------------------------------------------------- */

/* The bytes a region depends on beside its own, as few runs. What was looked for outside the window and not found counts for
 * nothing: less is known without it. */
static unsigned collect_looks(const LiftRegion *region, ImageLook *looks) {
  unsigned count = 0;
  for (unsigned i = 0; i < region->run_count; i++) {
    uint64_t start = region->runs[i].start, end = region->runs[i].end;
    if (start < region->window.start || start >= region->window.end) continue;
    if (end > region->window.end) end = region->window.end;
    bool known = start >= region->lowest && end <= region->highest;
    for (unsigned k = 0; k < count && !known; k++) {
      uint64_t low = looks[k].address, high = low + looks[k].length;
      if (start > high || end < low) continue;
      if (start > low) start = low;
      if (end < high) end = high;
      looks[k] = (ImageLook){(uint32_t)start, (uint32_t)(end - start)};
      known = true;
    }
    if (!known) looks[count++] = (ImageLook){(uint32_t)start, (uint32_t)(end - start)};
  }
  return count;
}

/* Copies an array to *at, and moves that on. */
static const void *put(uint8_t **at, const void *data, size_t size) {
  void *copy = memcpy(*at, data, size);
  *at += (size + 7) & ~(size_t)7;
  return copy;
}

/* The piece in a block of its own. */
static Piece *keep_piece(const LiftRegion *region, const A64Tables *from) {
  ImageLook looks[LOOKS_MAX];
  size_t look_count = collect_looks(region, looks), exits = from->exit_count * sizeof *from->exits;
  size_t entries = from->entry_count * sizeof *from->entries, words = from->word_count * sizeof *from->words;
  size_t relocations = from->relocation_count * sizeof *from->relocations;
  size_t checks = from->indirect_count * sizeof *from->indirect_checks, map = from->pc_map_count;
  Piece *piece = malloc(sizeof *piece + look_count * sizeof *looks + exits + entries + words + relocations + checks + map + 64);
  if (!piece) return NULL;
  *piece = (Piece){.entry = region->entry, .length = (uint32_t)(region->highest - region->entry),
                   .look_count = (uint16_t)look_count, .tables = *from};
  uint8_t *at = (uint8_t *)(piece + 1);
  A64Tables *t = &piece->tables;
  piece->looks = put(&at, looks, look_count * sizeof *looks);
  t->exits = put(&at, from->exits, exits);
  t->entries = put(&at, from->entries, entries);
  t->words = put(&at, from->words, words);
  t->relocations = put(&at, from->relocations, relocations);
  t->indirect_checks = put(&at, from->indirect_checks, checks);
  t->pc_map = put(&at, from->pc_map, map);
  return piece;
}

static void add_piece(Work *w) {
  Pipeline *p = w->pipeline;
  A64Tables *t = &p->tables;
  a64_pack_pc_map(t, &p->table_room);
  Piece *piece = keep_piece(&p->region, t);
  if (!piece || !append(&w->pieces, &piece, sizeof piece)) {
    free(piece);
    w->pieces.failed = true;
    return;
  }
  w->piece_bytes += t->word_count * sizeof *t->words + t->exit_count * sizeof *t->exits + t->pc_map_count;
  for (unsigned i = 0; i < t->entry_count; i++)
    test_and_set(w->covered, piece->entry + (uint64_t)(int64_t)t->entries[i].distance - w->low);
}

static void count(Work *w) {
  const LiftRegion *region = &w->pipeline->region;
  w->image->regions++;
  for (uint32_t i = 0; i < region->count; i++) {
    const RegionInsn *r = &region->insns[i];
    w->image->instructions++;
    for (uint64_t at = r->pc; at < r->pc + r->insn.length; at++)
      w->image->guest_bytes += !test_and_set(w->translated, at - w->low);
  }
}

/* --- Regions ------------------------------------------------------------------------------------------------------ */

static RegionWindow window_around(const ProgramPart *part, uint64_t pc) {
  uint64_t page = pc & ~(MEMORY_PAGE_SIZE - 1), before = PIPELINE_WINDOW_BEFORE * MEMORY_PAGE_SIZE;
  uint64_t start = page - part->start > before ? page - before : part->start;
  uint64_t end = page + PIPELINE_WINDOW_AFTER * MEMORY_PAGE_SIZE, limit = part->start + part->readable;
  return (RegionWindow){.start = start, .end = end < limit ? end : limit, .bytes = part->bytes + (start - part->start),
                        .recorded = true};
}

/* Whether the region can be translated, in as many instructions as that takes. */
static bool translate_at(Work *w, uint64_t pc) {
  Pipeline *p = w->pipeline;
  RegionWindow window = window_around(program_code_at(w->program, pc), pc);
  PipelineTarget target = {.features = w->target.features, .ordered = w->target.ordered, .x87_top = w->tops[pc - w->low]};
  uint32_t max_insns = PIPELINE_INSNS, max_straight = PIPELINE_STRAIGHT;
  for (;;) {
    pipeline_analyse(p, &window, pc, max_insns, max_straight);
    if (p->region.insns[0].decode != X86_DECODE_OK) return false;
    A64EmitStatus status = pipeline_generate(p, &target);
    if (status == A64_EMIT_OK) return true;
    if (p->region.count == 1) return false;
    max_insns = max_straight = p->region.count / 2;
  }
}

/* Where control comes back to from outside, behind the region's last instruction. */
static bool comes_back(const X86Insn *insn) {
  return insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_SYSTEM;
}

static bool goes_on(const X86Insn *insn) { return insn->flow == X86_FLOW_NEXT || insn->flow == X86_FLOW_COND || comes_back(insn); }

static bool has_target(const X86Insn *insn) {
  return insn->flow == X86_FLOW_JUMP || insn->flow == X86_FLOW_COND || insn->flow == X86_FLOW_CALL;
}

/* Where the code of a piece leads. */
static void want_exits(Work *w, const LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) {
    const RegionInsn *r = &region->insns[i];
    if (r->decode != X86_DECODE_OK) continue;
    uint64_t next = r->pc + r->insn.length;
    if (has_target(&r->insn) && r->target == REGION_NO_INSN) want(w, next + (uint64_t)r->insn.imm);
    if (!r->adjacent && goes_on(&r->insn)) want(w, next);
  }
  want_tables(w, region);
}

static void discover_at(Work *w, uint64_t pc) {
  LiftRegion *region = &w->pipeline->region;
  if (test_and_set(w->covered, pc - w->low)) return;
  RegionWindow window = window_around(program_code_at(w->program, pc), pc);
  pipeline_analyse(w->pipeline, &window, pc, PIPELINE_INSNS, PIPELINE_STRAIGHT);
  if (region->insns[0].decode != X86_DECODE_OK) return;
  test_and_set(w->begins, pc - w->low);
  for (uint32_t i = 1; i < region->count; i++)
    if (region->insns[i].entry) test_and_set(w->covered, region->insns[i].pc - w->low);
  want_exits(w, region);
}

/* Out of line, code may leave in the middle of what it goes on with in line (x87 instructions after an exception). A piece for
 * each such place would hold all that follows once more; who comes there has it translated. */
static bool goes_on_inside(const LiftRegion *region, uint64_t pc) {
  for (uint32_t i = 1; i < region->count; i++)
    if (region->insns[i].pc == pc) return true;
  return false;
}

static void work_at(Work *w, uint64_t pc) {
  const A64Code *code = &w->pipeline->code;
  const LiftRegion *region = &w->pipeline->region;
  bool made = translate_at(w, pc);
  /* What has the whole process translated otherwise (flags that returns carry) is left to it. */
  if (made && !region->return_reads_flags) {
    add_piece(w);
    count(w);
  }
  test_and_set(w->covered, pc - w->low);
  if (!made) return;
  for (uint32_t i = 0; i < code->exit_count; i++) {
    const A64Exit *exit = &code->exits[i];
    if (goes_on_inside(region, exit->guest_pc)) continue;
    want_piece(w, exit->guest_pc);
    note_top(w, exit);
  }
  const RegionInsn *last = &region->insns[region->count - 1];
  if (last->decode == X86_DECODE_OK && comes_back(&last->insn)) want_piece(w, last->pc + last->insn.length);
}

static bool failed(const Work *w) { return w->pending.failed || w->pieces.failed; }

static void discover(Work *w) {
  program_seeds(w->program, want, w);
  for (; !failed(w) && w->next < w->pending.size; w->next += sizeof(uint64_t)) {
    uint64_t pc;
    memcpy(&pc, w->pending.bytes + w->next, sizeof pc);
    discover_at(w, pc);
  }
}

static bool begins_at(const void *context, uint64_t pc) {
  const Work *w = context;
  return pc >= w->low && pc < w->high && test(w->begins, pc - w->low);
}

/* Once over all code, from its beginning; what was found behind on the way is for the next time. */
static void translate_all(Work *w, uint64_t most) {
  w->again = false;
  for (w->at = w->low; w->at < w->high; w->at++) {
    if (!w->begins[(w->at - w->low) / 8]) w->at |= 7; /* the code begins at a page */
    else if (test(w->begins, w->at - w->low) && !test(w->covered, w->at - w->low)) work_at(w, w->at);
    if (failed(w) || w->piece_bytes >= most) return;
  }
}

/* --- Regions of pieces -------------------------------------------------------------------------------------------- */

/* A region that is small costs as much to place and look for as a large one; of a large one more is not wanted. */
enum { REGION_WORDS = 3500, REGION_GUEST_BYTES = 16384, PIECES_MAX = 256 };

static int by_entry(const void *a, const void *b) {
  const Piece *x = *(Piece *const *)a, *y = *(Piece *const *)b;
  return x->entry < y->entry ? -1 : x->entry > y->entry;
}

/* Whether the piece goes on with a region that begins at `first`, and has `words` already. */
static bool belongs(const Work *w, const Piece *first, uint32_t words, const Piece *piece) {
  uint64_t distance = piece->entry - first->entry, start, end = function_end(w, first->entry, &start);
  if (words + piece->tables.word_count > REGION_WORDS || distance > REGION_GUEST_BYTES) return false;
  return piece->entry < end;
}

/* As many of the pieces as go together; what does not fit is taken by halves. */
static void join(Work *w, Joiner *joiner, const Piece *const *pieces, size_t count) {
  const ImageRecord *record = join_pieces(joiner, pieces, count);
  if (record) {
    append(&w->records, record, record->size * UINT64_C(8));
    w->record_count++;
  } else if (count > 1) {
    join(w, joiner, pieces, count / 2);
    join(w, joiner, pieces + count / 2, count - count / 2);
  }
}

static void join_all(Work *w, Joiner *joiner, const Piece *const *pieces, size_t count) {
  for (size_t first = 0, next; first < count; first = next) {
    uint32_t words = 0;
    for (next = first; next < count && next - first < PIECES_MAX; next++) {
      if (next > first && !belongs(w, pieces[first], words, pieces[next])) break;
      words += pieces[next]->tables.word_count;
    }
    join(w, joiner, pieces + first, next - first);
  }
}

static bool make_records(Work *w) {
  size_t count = w->pieces.size / sizeof(Piece *);
  Joiner *joiner = join_new();
  if (!joiner) return false;
  if (count) qsort(w->pieces.bytes, count, sizeof(Piece *), by_entry);
  join_all(w, joiner, (const Piece *const *)w->pieces.bytes, count);
  join_free(joiner);
  return !w->records.failed;
}

/* --- The image ---------------------------------------------------------------------------------------------------- */

/* Their copies' size. What a file ends before is zeros in `copies`, unless that is NULL. */
static uint64_t add_segments(const Program *program, ImageHead *head, uint8_t *copies) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < program->part_count && head->segment_count < IMAGE_SEGMENTS_MAX; i++) {
    const ProgramPart *part = &program->parts[i];
    if (!part->executable) continue;
    uint64_t size = part->end - part->start;
    head->segments[head->segment_count++] = (ImageSegment){part->file_offset, size, part->start, at};
    if (copies) memcpy(copies + at, part->bytes, part->readable);
    at += size;
  }
  return at;
}

bool aot_copy(const Program *program, AotCopy *ret_copy) {
  ImageHead head = {0};
  ret_copy->size = add_segments(program, &head, NULL);
  ret_copy->bytes = calloc(ret_copy->size, 1);
  if (!ret_copy->bytes) return false;
  head.segment_count = 0;
  add_segments(program, &head, ret_copy->bytes);
  return true;
}

/* The row belongs to the buckets in which its record can be entered, unless an earlier one does. */
static void fill_buckets(const Work *w, ImageBucket *buckets, uint32_t row, const ImageRecord *record) {
  uint64_t last = record->entry + (uint64_t)(int64_t)image_record_entries(record)[record->entry_count - 1].distance;
  for (uint64_t at = record->entry / IMAGE_BUCKET_BYTES; at <= last / IMAGE_BUCKET_BYTES; at++) {
    ImageBucket *bucket = &buckets[at - w->low / IMAGE_BUCKET_BYTES];
    if (*bucket == IMAGE_NO_ROW) *bucket = row;
  }
}

/* Records say where they stand: their checksums are made last. */
static void fill_image(Work *w, uint8_t *image, uint64_t records, const ImageHead *head) {
  ImageBucket *buckets = (ImageBucket *)(image + sizeof *head);
  ImageRow *rows = (ImageRow *)(image + image_rows_offset(head->bucket_count));
  memcpy(image, head, sizeof *head);
  memset(buckets, 0xff, head->bucket_count * sizeof *buckets);
  if (w->records.size) memcpy(image + records, w->records.bytes, w->records.size);
  uint64_t at = records;
  for (uint32_t row = 0; row < head->row_count; row++) {
    ImageRecord *record = (ImageRecord *)(image + at);
    rows[row] = (ImageRow)(at / 8);
    fill_buckets(w, buckets, row, record);
    record->checksum = image_checksum(&record->entry, record->size * UINT64_C(8) - sizeof record->checksum, at);
    at += record->size * UINT64_C(8);
  }
}

static bool finish(Work *w) {
  if (!make_records(w)) return false;
  ImageHead head = {.row_count = w->record_count, .bucket_base = (uint32_t)(w->low / IMAGE_BUCKET_BYTES),
                    .bucket_count = (uint32_t)((w->high - w->low) / IMAGE_BUCKET_BYTES)};
  add_segments(w->program, &head, NULL);
  uint64_t records = (image_rows_offset(head.bucket_count) + head.row_count * sizeof(ImageRow) + 7) & ~UINT64_C(7);
  uint64_t size = records + w->records.size;
  if (size / 8 > UINT32_MAX) return false;
  uint8_t *image = calloc(size, 1);
  if (!image) return false;
  fill_image(w, image, records, &head);
  w->image->bytes = image;
  w->image->size = size;
  return true;
}

static bool begin(Work *w) {
  w->low = UINT64_MAX;
  for (uint32_t i = 0; i < w->program->part_count; i++) {
    const ProgramPart *part = &w->program->parts[i];
    if (!part->executable) continue;
    if (part->start < w->low) w->low = part->start;
    if (part->end > w->high) w->high = part->end;
  }
  w->covered = calloc((w->high - w->low) / 8 + 1, 1);
  w->begins = calloc((w->high - w->low) / 8 + 1, 1);
  w->tops = calloc(w->high - w->low + 1, 1);
  w->translated = calloc((w->high - w->low) / 8 + 1, 1);
  w->functions = program_functions(w->program, &w->function_count);
  return w->covered && w->begins && w->tops && w->translated;
}

static uint64_t most_records(const Program *program) {
  uint64_t code = 0;
  for (uint32_t i = 0; i < program->part_count; i++)
    if (program->parts[i].executable) code += program->parts[i].readable;
  uint64_t most = RECORD_BYTES_ANYHOW + code * RECORD_BYTES_A_BYTE;
  return most < RECORD_BYTES_MAX ? most : RECORD_BYTES_MAX;
}

bool aot_translate(Pipeline *pipeline, const Program *program, ImageTarget target, AotImage *ret_image) {
  *ret_image = (AotImage){0};
  Work w = {.pipeline = pipeline, .program = program, .target = target, .image = ret_image};
  LiftRegion *region = &pipeline->region;
  bool done = begin(&w);
  if (done) {
    discover(&w);
    memset(w.covered, 0, (w.high - w.low) / 8 + 1);
    region->is_entry = begins_at;
    region->entries = &w;
    do translate_all(&w, most_records(program));
    while (w.again && !failed(&w) && w.piece_bytes < most_records(program));
    region->is_entry = NULL;
  }
  done = done && !failed(&w) && finish(&w);
  for (size_t i = 0; i < w.pieces.size / sizeof(Piece *); i++) free(((Piece **)w.pieces.bytes)[i]);
  free(w.pending.bytes);
  free(w.pieces.bytes);
  free(w.records.bytes);
  free(w.covered);
  free(w.begins);
  free(w.tops);
  free(w.translated);
  free(w.functions);
  return done;
}
