/* Regions are formed from every seed, and from everywhere their exits lead, as the dispatcher would form them when it
 * comes there; a place that an earlier region can be entered at gets none of its own. */
#include "aot/translate.h"

#include <stdlib.h>
#include <string.h>

#include "guest/memory-map.h"
#include "mnemonics.h"

enum { TABLE_ROWS_MAX = 4096, TABLE_REACH = 64 << 10, LOOKS_MAX = REGION_MAX_RUNS + 1 };

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
  Buffer records; /* offsets of the image's records, from the first on */
  Buffer index;   /* ImageIndex */
  Buffer pending; /* uint64_t: places to translate, first come, first served: functions before what data may mean */
  size_t next;    /* in `pending` */
  uint8_t *covered; /* bit n: address n of the code, from `low` on, is an entry or not worth trying */
  uint8_t *translated; /* bit n: the byte is part of a region */
  uint64_t low, high;
  uint64_t *functions;
  size_t function_count;
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

static void want(void *context, uint64_t address) {
  Work *w = context;
  if (!program_code_at(w->program, address)) return;
  if (w->covered[(address - w->low) / 8] >> ((address - w->low) & 7) & 1) return;
  append(&w->pending, &address, sizeof address);
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

/* Rows of four bytes, each the distance of a jump's target from the table, as compilers write them for
 * position-independent switches: up to the first that leads out of the function. */
static void want_table(Work *w, uint64_t table, uint64_t jump) {
  uint64_t start, end = function_end(w, jump, &start);
  for (unsigned i = 0; i < TABLE_ROWS_MAX; i++) {
    int32_t distance;
    const uint8_t *row = program_bytes_at(w->program, table + i * 4, 4);
    if (!row) return;
    memcpy(&distance, row, sizeof distance);
    uint64_t target = table + (uint64_t)(int64_t)distance;
    if (target < start || target >= end) return;
    want(w, target);
  }
}

/* Addresses of data that code makes may be those of tables: one that leads into the function it is made in is. */
static void want_tables(Work *w, const LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) {
    const RegionInsn *r = &region->insns[i];
    if (r->insn.mnemonic != X86_LEA || r->insn.mem.base != X86_RIP) continue;
    uint64_t table = r->pc + r->insn.length + (uint64_t)r->insn.mem.disp;
    if (!program_code_at(w->program, table)) want_table(w, table, r->pc);
  }
}

/* --- Records ------------------------------------------------------------------------------------------------------ */

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

static uint8_t *put(uint8_t *at, const void *data, size_t size) { return (uint8_t *)memcpy(at, data, size) + size; }

/* The arrays, in image_region_at()'s order. */
static void fill(const Work *w, ImageRecord *record, const ImageLook *looks) {
  const A64Tables *t = &w->pipeline->tables;
  uint8_t *at = (uint8_t *)(record + 1);
  at = put(at, t->exits, t->exit_count * sizeof *t->exits);
  at = put(at, t->entries, t->entry_count * sizeof *t->entries);
  at = put(at, looks, record->look_count * sizeof *looks);
  at = put(at, t->relocations, t->relocation_count * sizeof *t->relocations);
  at = put(at, t->words, t->word_count * sizeof *t->words);
  at = put(at, t->indirect_checks, t->indirect_count * sizeof *t->indirect_checks);
  put(at, t->pc_map, t->pc_map_count * sizeof *t->pc_map);
}

static void write_record(Work *w) {
  A64Tables *t = &w->pipeline->tables;
  a64_pack_pc_map(t, &w->pipeline->table_room);
  const LiftRegion *region = &w->pipeline->region;
  ImageLook looks[LOOKS_MAX];
  unsigned look_count = collect_looks(region, looks);
  ImageRecord head = {.entry = (uint32_t)region->entry, .length = (uint16_t)(region->highest - region->entry),
                      .word_count = t->word_count, .instruction_count = t->instruction_count,
                      .exit_count = t->exit_count, .entry_count = t->entry_count,
                      .relocation_count = t->relocation_count, .indirect_count = t->indirect_count,
                      .pc_map_count = t->pc_map_count, .look_count = (uint16_t)look_count};
  uint64_t offset = w->records.size, size = image_record_size(&head);
  if (size / 8 > UINT16_MAX) return; /* none is: a region has 16 kB of code at most */
  head.size = (uint16_t)(size / 8);
  ImageRecord *record = append(&w->records, NULL, size);
  if (!record) return;
  *record = head;
  fill(w, record, looks);
  for (unsigned i = 0; i < t->entry_count; i++) {
    uint64_t address = region->entry + (uint64_t)(int64_t)t->entries[i].distance;
    if (test_and_set(w->covered, address - w->low)) continue;
    append(&w->index, &(ImageIndex){(uint32_t)address, (uint32_t)(offset / 8)}, sizeof(ImageIndex));
  }
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
  PipelineTarget target = {.features = w->target.features, .ordered = w->target.ordered};
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

static void work_at(Work *w, uint64_t pc) {
  if (w->covered[(pc - w->low) / 8] >> ((pc - w->low) & 7) & 1) return;
  const A64Code *code = &w->pipeline->code;
  const LiftRegion *region = &w->pipeline->region;
  bool made = translate_at(w, pc);
  /* What has the whole process translated otherwise (flags that returns carry) is left to it. */
  if (made && !region->return_reads_flags) {
    write_record(w);
    count(w);
  }
  test_and_set(w->covered, pc - w->low);
  if (!made) return;
  for (uint32_t i = 0; i < code->exit_count; i++) want(w, code->exits[i].guest_pc);
  want_tables(w, region);
  const RegionInsn *last = &region->insns[region->count - 1];
  if (last->decode == X86_DECODE_OK && comes_back(&last->insn)) want(w, last->pc + last->insn.length);
}

/* --- The image ---------------------------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b) {
  const ImageIndex *x = a, *y = b;
  return x->address < y->address ? -1 : x->address > y->address;
}

/* Segments with copies of their bytes, from `at` in the image on. What a file ends before is zeros. */
static uint64_t add_segments(const Program *program, ImageHead *head, Buffer *copies, uint64_t at) {
  for (uint32_t i = 0; i < program->part_count && head->segment_count < IMAGE_SEGMENTS_MAX; i++) {
    const ProgramPart *part = &program->parts[i];
    if (!part->executable) continue;
    uint64_t size = part->end - part->start;
    head->segments[head->segment_count++] = (ImageSegment){part->file_offset, size, part->start, at};
    uint8_t *copy = append(copies, NULL, size);
    if (copy) memcpy(copy, part->bytes, part->readable);
    at += size;
  }
  return at;
}

/* Where each bucket's addresses begin in the index, and the end. */
static void fill_buckets(ImageBucket *buckets, const ImageHead *head, const ImageIndex *index) {
  uint32_t i = 0;
  for (uint32_t bucket = 0; bucket <= head->bucket_count; bucket++) {
    while (i < head->index_count && index[i].address / IMAGE_BUCKET_BYTES < head->bucket_base + bucket) i++;
    buckets[bucket] = i;
  }
}

/* Records say where they stand: their checksums are made last. */
static void seal_records(Buffer *image, uint64_t records) {
  for (uint64_t at = records; at < image->size;) {
    ImageRecord *record = (ImageRecord *)(image->bytes + at);
    record->checksum = image_checksum(&record->entry, record->size * UINT64_C(8) - sizeof record->checksum, at);
    at += record->size * UINT64_C(8);
  }
}

static bool finish(Work *w) {
  Buffer image = {0};
  ImageIndex *index = (ImageIndex *)w->index.bytes;
  ImageHead head = {.index_count = (uint32_t)(w->index.size / sizeof *index),
                    .bucket_base = (uint32_t)(w->low / IMAGE_BUCKET_BYTES),
                    .bucket_count = (uint32_t)((w->high - w->low) / IMAGE_BUCKET_BYTES)};
  Buffer copies = {0};
  uint64_t index_offset = image_index_offset(head.bucket_count);
  uint64_t records = add_segments(w->program, &head, &copies, index_offset + w->index.size);
  for (uint32_t i = 0; i < head.index_count; i++) index[i].record += (uint32_t)(records / 8);
  if (index) qsort(index, head.index_count, sizeof *index, by_address);
  append(&image, NULL, index_offset);
  append(&image, index, w->index.size);
  append(&image, copies.bytes, copies.size);
  append(&image, w->records.bytes, w->records.size);
  free(copies.bytes);
  if (image.failed || copies.failed) return free(image.bytes), false;
  memcpy(image.bytes, &head, sizeof head);
  fill_buckets((ImageBucket *)(image.bytes + sizeof head), &head, index);
  seal_records(&image, records);
  w->image->bytes = image.bytes;
  w->image->size = image.size;
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
  w->translated = calloc((w->high - w->low) / 8 + 1, 1);
  w->functions = program_functions(w->program, &w->function_count);
  return w->covered && w->translated;
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
  region_forget_decoded(&pipeline->region);
  bool done = begin(&w);
  if (done) program_seeds(program, want, &w);
  uint64_t most = most_records(program);
  for (; done && w.next < w.pending.size && w.records.size < most; w.next += sizeof(uint64_t)) {
    uint64_t pc;
    memcpy(&pc, w.pending.bytes + w.next, sizeof pc);
    work_at(&w, pc);
    done = !w.pending.failed && !w.records.failed && !w.index.failed;
  }
  done = done && finish(&w);
  free(w.pending.bytes);
  free(w.records.bytes);
  free(w.index.bytes);
  free(w.covered);
  free(w.translated);
  free(w.functions);
  return done;
}
