// Requests about translations made ahead, and what a start does about them. See manager-private.h and translations.h.
#include "manager-private.h"

#include "errors.h"

// Roots whose translations machines use that run or are being started.
static GHashTable *roots_in_use(Manager *manager) {
  GHashTable *roots = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  GHashTableIter machines;
  gpointer value;
  g_hash_table_iter_init(&machines, manager->machines);
  while (g_hash_table_iter_next(&machines, NULL, &value)) {
    const Machine *machine = value;
    if (machine->config && machine_state_is_active(machine->life.state) && !g_str_equal(machine->config->ahead, "off"))
      g_hash_table_add(roots, g_strdup(machine->config->root_source));
  }
  return roots;
}

// --- making --------------------------------------------------------------------------------------

typedef struct Telling {
  Job *job;
  const char *operation;
} Telling;

static void on_progress(guint done, guint count, gpointer user_data) {
  Telling *telling = user_data;
  g_autofree char *message = g_strdup_printf("translating the root's programs: %u of %u files", done, count);
  job_report_progress(telling->job, telling->operation, message);
}

static gboolean make(Job *job, const TranslationsWish *wish, const char *operation, GError **error) {
  Telling telling = {job, operation};
  job_report_progress(job, operation, "looking for programs to translate");
  return translations_make(job->manager->paths, wish, job->roots, job->cancellable, on_progress, &telling, &job->result,
                           error);
}

void job_prepare_translations(Job *job) {
  job->cancellable = g_cancellable_new();
  g_set_object(&job->machine->translating, job->cancellable);
  job->roots = roots_in_use(job->manager);
}

gboolean job_translate_ahead(Job *job) {
  TranslationsWish wish;
  g_autofree char *translator = NULL;
  g_autoptr(GError) error = NULL;
  if (!boot_plan_wish(job->plan, job->manager->paths, &wish, &translator)) return FALSE;
  if (translations_are_there(job->manager->paths, &wish, TRUE)) return FALSE;
  gboolean made = make(job, &wish, "Start", &error);
  if (job->result) g_variant_unref(g_variant_ref_sink(g_steal_pointer(&job->result)));
  if (made) return TRUE;
  if (g_error_matches(error, STELE_ERROR, STELE_ERROR_CANCELLED)) {
    job->error = g_steal_pointer(&error);
    return FALSE;
  }
  g_printerr("steled: '%s' starts without translations made ahead: %s\n", job->name, error->message);
  g_autofree char *message = g_strdup_printf("starting without translations made ahead: %s", error->message);
  job_report_progress(job, "Start", message);
  return FALSE;
}

// --- Translate -----------------------------------------------------------------------------------

static void work_translate(Job *job) {
  Manager *manager = job->manager;
  TranslationsWish wish;
  g_autofree char *translator = NULL, *xml = machine_store_read(manager->store, job->name, &job->error);
  if (xml)
    job->plan = boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), xml, job->text, &job->error);
  if (job->plan == NULL) return;
  gboolean wanted = boot_plan_wish(job->plan, manager->paths, &wish, &translator);
  if (wanted)
    make(job, &wish, "Translate", &job->error);
  else
    g_set_error(
        &job->error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
        "machine '%s' asks for nothing to be translated ahead: <stele:translator ahead='loaded'/> or 'all' does, "
        "with a root that is a directory and the embedded libvirt",
        job->name);
}

void job_forget_translations(Job *job) {
  if (job->machine->translating == job->cancellable) g_clear_object(&job->machine->translating);
}

static void finish_translate(Job *job) {
  job_forget_translations(job);
  job_reply(job);
}

void manager_translate(Manager *manager, const char *name, GCancellable *cancellable, ManagerDone done,
                       gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine == NULL) return;
  if (machine->translating || machine->foreign) {
    request_refuse(done, user_data,
                   g_error_new(STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot translate '%s': %s", name,
                               machine->foreign ? "steled does not define it" : "that is being done already"));
    return;
  }
  Job *job = job_new(manager, machine, work_translate, finish_translate, done, user_data);
  job->text = g_strdup(machine->uuid);
  job->cancellable = g_object_ref(cancellable);
  job->roots = roots_in_use(manager);
  machine->translating = g_object_ref(cancellable);
  job_run(job);
}

void manager_cancel_translations(Manager *manager) {
  GHashTableIter machines;
  gpointer value;
  g_hash_table_iter_init(&machines, manager->machines);
  while (g_hash_table_iter_next(&machines, NULL, &value)) g_cancellable_cancel(((Machine *)value)->translating);
}

// --- what there is -------------------------------------------------------------------------------

static void work_stats(Job *job) {
  job->result = translations_stats(job->manager->paths, job->roots);
}

void manager_translation_stats(Manager *manager, ManagerDone done, gpointer user_data) {
  Job *job = job_new(manager, NULL, work_stats, NULL, done, user_data);
  job->roots = roots_in_use(manager);
  job_run(job);
}

static void work_prune(Job *job) {
  job->result = translations_prune(job->manager->paths, job->bytes, job->roots);
}

void manager_prune_translations(Manager *manager, guint64 bytes, ManagerDone done, gpointer user_data) {
  Job *job = job_new(manager, NULL, work_prune, NULL, done, user_data);
  job->bytes = bytes;
  job->roots = roots_in_use(manager);
  job_run(job);
}
