/* stele-aot: translates x86-64 programs and libraries before they run.
 *
 * Files and folders are named, translated by several threads, and the result is a store (image/image.h), by itself or behind
 * a copy of the translator, which finds it there. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aot/add-store.h"
#include "aot/reuse.h"
#include "aot/select.h"
#include "aot/translate.h"
#include "aot/write-store.h"

enum { EXIT_USAGE = 2, EXIT_PARTIAL = 3, THREADS_MAX = 256 };

static const char usage[] =
    "usage: stele-aot [OPTIONS] --output STORE FILE|FOLDER...\n"
    "       stele-aot --join --output STORE STORE...\n"
    "Translates x86-64 programs and libraries ahead of time, for stele to use when they run.\n"
    "\n"
    "  -o, --output STORE     the file to write; what is there is replaced when all is done\n"
    "  -t, --translator FILE  puts the store behind a copy of the translator FILE, which uses it then\n"
    "  -f, --features WORD    the processor to translate for, as `stele --features` prints it there; 0: any\n"
    "  -m, --memory ORDER     plain, ordered (threads share memory) or both (both)\n"
    "  -l, --loaded           of folders, only programs and the libraries that they name\n"
    "  -r, --reuse STORE      takes translations of files that are the same from there\n"
    "  -J, --join             makes one store of several, given the one first whose images count where two have a file\n"
    "  -k, --keep             writes what there is by then when SIGINT or SIGTERM ends it, for --reuse\n"
    "  -p, --progress         tells on standard output how many files are done, and of how many\n"
    "  -j, --jobs N           threads (one a processor)\n"
    "  -q, --quiet            say nothing unless something is wrong\n"
    "  -h, --help, --version\n";

typedef struct Options {
  const char *output, *translator, *reuse;
  uint32_t features;
  bool plain, ordered, quiet, loaded, join, keep, progress;
  unsigned jobs;
} Options;

typedef struct Totals {
  uint64_t files, taken_over, regions, instructions, guest_bytes, image_bytes;
} Totals;

typedef struct FileName {
  uint64_t key, content;
} FileName;

/* What the threads share; all of it under the lock but for the options and the writer. */
static struct {
  Options options;
  StoreWriter *writer;
  pthread_mutex_t lock;
  Selection files;
  size_t next, done; /* of them */
  ImageStore before; /* of --reuse; no bytes: none */
  FileName *met; /* copies and links are translated once */
  size_t met_count, met_capacity;
  Totals totals;
  int error; /* errno of what ended the work */
} work = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- Files -------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped; /* by a signal, with --keep */

static void stop(int number) {
  (void)number;
  stopped = 1;
}

/* The next file, or NULL. */
static const char *next_file(void) {
  pthread_mutex_lock(&work.lock);
  bool more = !work.error && !stopped && work.next < work.files.count;
  const char *path = more ? work.files.paths[work.next++] : NULL;
  pthread_mutex_unlock(&work.lock);
  return path;
}

static void tell_progress(void) {
  pthread_mutex_lock(&work.lock);
  work.done++;
  if (work.options.progress) {
    printf("%zu %zu\n", work.done, work.files.count);
    fflush(stdout);
  }
  if (!work.options.quiet && isatty(2))
    fprintf(stderr, "\r%zu of %zu files, %lu MB \033[K", work.done, work.files.count,
            (unsigned long)(work.totals.image_bytes >> 20));
  pthread_mutex_unlock(&work.lock);
}

static bool is_new(FileName name) {
  bool found = false;
  pthread_mutex_lock(&work.lock);
  for (size_t i = 0; i < work.met_count && !found; i++)
    found = work.met[i].key == name.key && work.met[i].content == name.content;
  if (!found && work.met_count == work.met_capacity) {
    size_t capacity = work.met_capacity ? work.met_capacity * 2 : 1024;
    FileName *grown = realloc(work.met, capacity * sizeof *grown);
    if (grown) {
      work.met = grown;
      work.met_capacity = capacity;
    }
  }
  if (!found && work.met_count < work.met_capacity) work.met[work.met_count++] = name;
  pthread_mutex_unlock(&work.lock);
  return !found;
}

static void fail(int error) {
  pthread_mutex_lock(&work.lock);
  if (!work.error) work.error = error ? error : EIO;
  pthread_mutex_unlock(&work.lock);
}

static void add_totals(const AotImage *image) {
  pthread_mutex_lock(&work.lock);
  work.totals.regions += image->regions;
  work.totals.instructions += image->instructions;
  work.totals.guest_bytes += image->guest_bytes;
  work.totals.image_bytes += image->size;
  pthread_mutex_unlock(&work.lock);
}

/* What is being translated: its copy is in the store when the first image of it is. */
typedef struct Translating {
  Program program;
  size_t copy;
} Translating;

static void add(const Translating *t, ImageTarget target, const AotImage *image) {
  const ImageEntry name = {.file = t->program.key, .target = target, .size = image->size};
  if (!writer_add(work.writer, &name, t->program.content, t->copy, image->bytes)) fail(errno);
  add_totals(image);
}

static void translate_for(Pipeline *pipeline, const Translating *t, ImageTarget target) {
  AotImage image = {0};
  const uint8_t *before = reuse_find(&work.before, &t->program, target, &image.size);
  if (before) { /* as it was made before */
    image.bytes = (uint8_t *)before;
    add(t, target, &image);
    pthread_mutex_lock(&work.lock);
    work.totals.taken_over++;
    pthread_mutex_unlock(&work.lock);
    return;
  }
  if (!aot_translate(pipeline, &t->program, target, &image)) {
    fail(ENOMEM);
    return;
  }
  add(t, target, &image);
  free(image.bytes);
}

static bool add_copy(Translating *t) {
  AotCopy copy;
  if (!aot_copy(&t->program, &copy)) return fail(ENOMEM), false;
  bool good = writer_add_copy(work.writer, copy.bytes, copy.size, &t->copy);
  if (!good) fail(errno);
  free(copy.bytes);
  return good;
}

static void translate_file(Pipeline *pipeline, const char *path) {
  Translating t;
  const char *reason;
  if (!program_open(path, &t.program, &reason)) return;
  if (is_new((FileName){t.program.key, t.program.content}) && add_copy(&t)) {
    if (work.options.plain) translate_for(pipeline, &t, (ImageTarget){work.options.features, 0});
    if (work.options.ordered) translate_for(pipeline, &t, (ImageTarget){work.options.features, 1});
    pthread_mutex_lock(&work.lock);
    work.totals.files++;
    pthread_mutex_unlock(&work.lock);
  }
  program_close(&t.program);
}

static void *run(void *ignored) {
  (void)ignored;
  Pipeline *pipeline = pipeline_new();
  if (!pipeline) return fail(ENOMEM), NULL;
  for (const char *path; (path = next_file());) {
    translate_file(pipeline, path);
    tell_progress();
  }
  return NULL;
}

static void run_all(void) {
  pthread_t threads[THREADS_MAX];
  unsigned started = 0;
  while (started < work.options.jobs && !pthread_create(&threads[started], NULL, run, NULL)) started++;
  if (!started) run(NULL);
  for (unsigned i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

/* --- The command line --------------------------------------------------------------------------------------------- */

static _Noreturn void misused(const char *format, const char *value) {
  fprintf(stderr, format, value);
  fputs("; try --help\n", stderr);
  exit(EXIT_USAGE);
}

static unsigned long number(const char *text, unsigned long most, const char *option) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 0);
  if (errno || end == text || *end || value > most) {
    fprintf(stderr, "stele-aot: %s is '%s'; it can be a number up to %lu\n", option, text, most);
    exit(EXIT_USAGE);
  }
  return value;
}

static void set_memory(Options *options, const char *order) {
  options->plain = !strcmp(order, "plain") || !strcmp(order, "both");
  options->ordered = !strcmp(order, "ordered") || !strcmp(order, "both");
  if (!options->plain && !options->ordered) misused("stele-aot: --memory is '%s'; it can be plain, ordered or both", order);
}

static Options parse(int argc, char **argv) {
  static const struct option names[] = {
      {"output", required_argument, NULL, 'o'}, {"translator", required_argument, NULL, 't'},
      {"features", required_argument, NULL, 'f'}, {"memory", required_argument, NULL, 'm'},
      {"jobs", required_argument, NULL, 'j'}, {"reuse", required_argument, NULL, 'r'},
      {"loaded", no_argument, NULL, 'l'}, {"keep", no_argument, NULL, 'k'}, {"progress", no_argument, NULL, 'p'},
      {"quiet", no_argument, NULL, 'q'}, {"join", no_argument, NULL, 'J'},
      {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  Options options = {.plain = true, .ordered = true, .jobs = processors > 0 ? (unsigned)processors : 1};
  for (int c; (c = getopt_long(argc, argv, "o:t:f:m:j:r:lJkpqh", names, NULL)) != -1;) switch (c) {
    case 'o': options.output = optarg; break;
    case 't': options.translator = optarg; break;
    case 'f': options.features = (uint32_t)number(optarg, UINT32_MAX, "--features"); break;
    case 'm': set_memory(&options, optarg); break;
    case 'j': options.jobs = (unsigned)number(optarg, THREADS_MAX, "--jobs"); break;
    case 'r': options.reuse = optarg; break;
    case 'l': options.loaded = true; break;
    case 'J': options.join = true; break;
    case 'k': options.keep = true; break;
    case 'p': options.progress = true; break;
    case 'q': options.quiet = true; break;
    case 'h': fputs(usage, stdout); exit(0);
    case 'V': puts("stele-aot " STELE_VERSION); exit(0);
    default: fputs("Try --help\n", stderr); exit(EXIT_USAGE);
    }
  if (!options.output) misused("stele-aot: where to? Name a store with --output%s", "");
  if (optind == argc) misused("stele-aot: which files or folders%s?", "");
  return options;
}

static int finish(void) {
  bool good = !work.error;
  if (!good) {
    writer_abandon(work.writer);
    errno = work.error;
  } else {
    good = writer_finish(work.writer);
  }
  if (!good) {
    fprintf(stderr, "stele-aot: %s: %s; it is as it was before\n", work.options.output, strerror(errno));
    return 1;
  }
  const Totals *t = &work.totals;
  if (!work.options.quiet && !work.options.join)
    fprintf(stderr, "%s%lu files: %lu regions, %lu instructions, %lu kB of code, %lu images as before; %lu kB\n",
            isatty(2) ? "\r" : "", (unsigned long)t->files, (unsigned long)t->regions, (unsigned long)t->instructions,
            (unsigned long)(t->guest_bytes >> 10), (unsigned long)t->taken_over, (unsigned long)(t->image_bytes >> 10));
  return stopped ? EXIT_PARTIAL : 0;
}

static void join_stores(char *const *names) {
  for (uint64_t rank = 0; names[rank] && !work.error; rank++)
    if (!add_store(work.writer, names[rank], rank)) fail(errno);
}

static void begin(char *const *names) {
  if (work.options.reuse) reuse_open(work.options.reuse, &work.before); /* nothing there: everything is made */
  if (work.options.keep) {
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
  }
  work.writer = writer_begin(work.options.output, work.options.translator);
  if (!work.writer) {
    fprintf(stderr, "stele-aot: %s: %s\n", work.options.output, strerror(errno));
    exit(1);
  }
  if (work.options.join) join_stores(names);
  else work.error = select_files(names, work.options.loaded, &work.files);
}

int main(int argc, char **argv) {
  work.options = parse(argc, argv);
  begin(argv + optind);
  run_all();
  selection_free(&work.files);
  return finish();
}
