// Requests that ask, and those that connect a client to a guest: its console, programs in it;
// each request is what is checked on the main loop, what is done on a worker thread (a work_… function, which
// sees only the job), and what follows on the main loop (a finish_… function). See manager-private.h.
#include "manager-private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "errors.h"
#include "log-file.h"
#include "pump.h"
#include "translator-disk.h"
#include "user-namespace.h"

#define LOG_READ_MAX (1024 * 1024)

// --- list and info --------------------------------------------------------------------------------

static void add_basics(GVariantBuilder *builder, Machine *machine) {
  g_variant_builder_add(builder, "{sv}", "name", g_variant_new_string(machine->name));
  g_variant_builder_add(builder, "{sv}", "state", g_variant_new_string(machine_state_name(machine->life.state)));
  g_variant_builder_add(builder, "{sv}", "reason", g_variant_new_string(machine->life.reason));
  g_variant_builder_add(builder, "{sv}", "uuid", g_variant_new_string(machine->uuid));
  g_variant_builder_add(builder, "{sv}", "stele", g_variant_new_boolean(machine->config != NULL));
}

static gint compare_machines(gconstpointer a, gconstpointer b) {
  return strcmp(((const Machine *)a)->name, ((const Machine *)b)->name);
}

void manager_list(Manager *manager, ManagerDone done, gpointer user_data) {
  g_autoptr(GList) machines = g_list_sort(g_hash_table_get_values(manager->machines), compare_machines);
  GVariantBuilder list;
  g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
  for (GList *item = machines; item; item = item->next) {
    g_variant_builder_open(&list, G_VARIANT_TYPE_VARDICT);
    add_basics(&list, item->data);
    g_variant_builder_close(&list);
  }
  g_autoptr(GVariant) result = g_variant_ref_sink(g_variant_builder_end(&list));
  done(result, NULL, user_data);
}

static void add_text(GVariantBuilder *builder, const char *key, const char *text) {
  if (text && *text) g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(text));
}

static void add_config(GVariantBuilder *builder, const MachineConfig *config) {
  add_text(builder, "root", config->root_source);
  add_text(builder, "root-type", root_type_name(config->root_type));
  add_text(builder, "root-mode", root_mode_name(config->root_mode));
  add_text(builder, "init", init_kind_name(config->init));
  add_text(builder, "cpu", config->cpu);
  add_text(builder, "cpu-vendor", config->cpu_vendor);
  add_text(builder, "memory-model", config->memory_model);
  add_text(builder, "ahead", config->ahead);
}

static void add_running(GVariantBuilder *builder, Machine *machine) {
  int pid = boot_qemu_pid(machine->manager->paths, machine->uuid);
  if (pid > 0) g_variant_builder_add(builder, "{sv}", "pid", g_variant_new_int32(pid));
  g_variant_builder_add(builder, "{sv}", "agent", g_variant_new_boolean(machine->agent_up));
  add_text(builder, "agent-version", machine->agent_version);
  add_text(builder, "guest-state", machine->guest_state);
  add_text(builder, "guest-message", machine->guest_message);
  if (machine->ready_ms)
    g_variant_builder_add(builder, "{sv}", "ready-ms", g_variant_new_uint64((guint64)machine->ready_ms));
}

static void work_info(Job *job) {
  job->flag = hypervisor_usage(job->manager->hypervisor, job->name, &job->usage, NULL);
  job->text = hypervisor_dump_xml(job->manager->hypervisor, job->name, FALSE, NULL);
}

static void add_usage(GVariantBuilder *builder, Job *job) {
  xmlDoc *document = job->text ? xmlReadMemory(job->text, (int)strlen(job->text), NULL, NULL, XML_PARSE_NONET) : NULL;
  xmlNode *domain = document ? xmlDocGetRootElement(document) : NULL;
  xmlChar *type = domain ? xmlGetNoNsProp(domain, (const xmlChar *)"type") : NULL;
  add_text(builder, "type", (const char *)type);
  if (job->flag) {
    g_variant_builder_add(builder, "{sv}", "vcpus", g_variant_new_uint32(job->usage.vcpus));
    g_variant_builder_add(builder, "{sv}", "memory", g_variant_new_uint64(job->usage.memory));
    g_variant_builder_add(builder, "{sv}", "cpu-time", g_variant_new_uint64(job->usage.cpu_time));
  }
  xmlFree(type);
  xmlFreeDoc(document);
}

static void finish_info(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *log = boot_console_log(job->manager->paths, machine->name);
  GVariantBuilder info;
  g_variant_builder_init(&info, G_VARIANT_TYPE_VARDICT);
  add_basics(&info, machine);
  add_text(&info, "message", machine->message);
  add_usage(&info, job);
  if (machine->config) add_config(&info, machine->config);
  if (machine_state_is_active(machine->life.state)) add_running(&info, machine);
  if (machine->command_ended) {
    guint status = machine->command_value + (machine->command_signalled ? 128 : 0);
    g_variant_builder_add(&info, "{sv}", "command-status", g_variant_new_uint32(status));
  }
  if (g_access(log, R_OK) == 0) add_text(&info, "console-log", log);
  job->result = g_variant_builder_end(&info);
  job_reply(job);
}

void manager_info(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine) job_run_in(job_new(manager, machine, work_info, finish_info, done, user_data), LANE_LOOKS);
}

// --- the console ----------------------------------------------------------------------------------

static void work_console_log(Job *job) {
  g_autofree char *path = boot_console_log(job->manager->paths, job->name);
  g_autoptr(GBytes) text = (job->flag ? log_file_read_before : log_file_read)(path, job->seconds);
  job->result = g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, text, TRUE);
}

void manager_read_console_log(Manager *manager, const char *name, gboolean former, guint bytes, ManagerDone done,
                              gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_console_log, NULL, done, user_data);
  job->seconds = MIN(bytes, LOG_READ_MAX);
  job->flag = former;
  job_run_in(job, LANE_LOOKS);
}

// A descriptor of the log as it is written: who reads it sees it grow, and be emptied when it is long.
static void work_open_console_log(Job *job) {
  g_autofree char *path = boot_console_log(job->manager->paths, job->name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0)
    job->result = g_variant_new_int32(fd);
  else
    g_set_error(&job->error, STELE_ERROR, STELE_ERROR_WRONG_STATE,
                "machine '%s' has no log: it has not been started, or its console is none of steled's", job->name);
}

void manager_open_console_log(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine) job_run_in(job_new(manager, machine, work_open_console_log, NULL, done, user_data), LANE_LOOKS);
}

// --- statistics and ports -------------------------------------------------------------------------

static void work_stats(Job *job) {
  HypervisorStats stats = {0};
  if (!hypervisor_stats(job->manager->hypervisor, job->name, &stats, &job->error)) return;
  const struct {
    const char *key;
    guint64 value;
  } rows[] = {{"cpu-time", stats.cpu_time},
              {"memory", stats.memory},
              {"memory-resident", stats.resident},
              {"block-read", stats.block_read},
              {"block-written", stats.block_written},
              {"net-received", stats.net_received},
              {"net-sent", stats.net_sent}};
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE("a{st}"));
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) g_variant_builder_add(&builder, "{st}", rows[i].key, rows[i].value);
  job->result = g_variant_builder_end(&builder);
}

static gboolean check_active(Machine *machine, const char *verb, GError **error);

void manager_stats(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine && check_active(machine, "measure", &error))
    job_run_in(job_new(manager, machine, work_stats, NULL, done, user_data), LANE_LOOKS);
  else
    request_refuse(done, user_data, error);
}

typedef struct PortRequest {
  MachinePort port;
  gboolean add;
} PortRequest;

static void port_request_free(gpointer data) {
  PortRequest *request = data;
  g_free(request->port.protocol);
  g_free(request->port.address);
  g_free(request);
}

static void work_port(Job *job) {
  const PortRequest *request = job->data;
  hypervisor_forward_port(job->manager->hypervisor, job->name, request->add, request->port.protocol,
                          request->port.address, request->port.host, request->port.guest, &job->error);
}

void manager_forward_port(Manager *manager, const char *name, const char *port, gboolean add, ManagerDone done,
                          gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  PortRequest *request = g_new0(PortRequest, 1);
  request->add = add;
  if (machine == NULL || !check_active(machine, "forward a port of", &error) ||
      !machine_port_parse(port, &request->port, &error)) {
    port_request_free(request);
    request_refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_port, NULL, done, user_data);
  job->data = request;
  job->free_data = port_request_free;
  job_run(job);
}

// --- the console, both ways -----------------------------------------------------------------------

static void work_console(Job *job) {
  job->channel = hypervisor_open_console(job->manager->hypervisor, job->name, job->flag, &job->error);
}

static void finish_console(Job *job) {
  int pair[2];
  if (job->error == NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    g_set_error(&job->error, STELE_ERROR, STELE_ERROR_HYPERVISOR, "cannot make a socket: %s", g_strerror(errno));
  if (job->error == NULL) {
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    pump_start(g_steal_pointer(&job->channel), pair[0]);
    job->result = g_variant_new_int32(pair[1]);
  }
  job_reply(job);
}

static gboolean check_active(Machine *machine, const char *verb, GError **error) {
  if (machine_state_is_active(machine->life.state) && machine->life.state != MACHINE_STARTING) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot %s '%s': it is %s: 'vmctl start' it first", verb,
              machine->name, machine_state_name(machine->life.state));
  return FALSE;
}

void manager_open_console(Manager *manager, const char *name, gboolean force, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL || !check_active(machine, "open the console of", &error)) {
    request_refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_console, finish_console, done, user_data);
  job->flag = force;
  job_run_in(job, LANE_LOOKS);
}

// --- programs in the guest ------------------------------------------------------------------------

#define AGENT_WAIT_SECONDS 60

void manager_await_agent(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL || !check_active(machine, "run a program in", &error)) {
    request_refuse(done, user_data, error);
    return;
  }
  g_autofree char *late = g_strdup_printf("machine '%s' is booting and its agent has not answered within %d s",
                                          machine->name, AGENT_WAIT_SECONDS);
  if (machine->life.state == MACHINE_BOOTING)
    machine_wait(machine, WAIT_RUNNING, AGENT_WAIT_SECONDS, late, FALSE, done, user_data);
  else
    done(NULL, NULL, user_data);
}

AgentStream *manager_exec(Manager *manager, const char *name, const AgentExecRequest *request,
                          const AgentStreamHandlers *handlers, gpointer user_data, GError **error) {
  Machine *machine = manager_find(manager, name, error);
  if (machine == NULL) return NULL;
  gboolean share_died = machine->life.state == MACHINE_FAILED && g_str_equal(machine->life.reason, "share-died");
  const char *why = machine->config == NULL ? "it is a plain VM without Stele's agent"
                    : share_died            ? "a virtiofsd that serves its files has died: end it with 'vmctl destroy'"
                    : machine->life.state == MACHINE_PAUSED ? "it is paused: 'vmctl resume' it first"
                    : !agent_link_is_open(machine->link)    ? "its agent does not answer"
                                                            : NULL;
  if (why) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "cannot run a program in '%s': %s", name, why);
    return NULL;
  }
  return agent_link_exec(machine->link, request, handlers, user_data, error);
}

// --- version --------------------------------------------------------------------------------------

static void add_version(GVariantBuilder *builder, const char *key, const char *prefix, unsigned long version) {
  g_autofree char *text =
      g_strdup_printf("%s%lu.%lu.%lu", prefix, version / 1000000, version / 1000 % 1000, version % 1000);
  add_text(builder, key, text);
}

void manager_version(Manager *manager, ManagerDone done, gpointer user_data) {
  const HypervisorFeatures *features = hypervisor_features(manager->hypervisor);
  GVariantBuilder versions;
  g_variant_builder_init(&versions, G_VARIANT_TYPE_VARDICT);
  add_text(&versions, "version", STELE_VERSION);
  add_version(&versions, "libvirt", "", features->libvirt);
  if (features->emulator) add_version(&versions, "hypervisor", "QEMU ", features->emulator);
  add_text(&versions, "uri", hypervisor_uri(manager->hypervisor));
  add_text(&versions, "root", manager->paths->root);
  add_text(&versions, "confinement", manager->paths->confinement);
  g_autoptr(UserNamespace) users = geteuid() == 0 ? NULL : user_namespace_new();
  gboolean shares = !translator_disk_is_used(manager->paths, features),
           owners = users == NULL || user_namespace_has_owners(users);
  g_variant_builder_add(&versions, "{sv}", "shares-directories", g_variant_new_boolean(shares));
  g_variant_builder_add(&versions, "{sv}", "keeps-owners", g_variant_new_boolean(owners));
  add_text(&versions, "guest-dir", manager->paths->guest_dir);
  add_text(&versions, "translator-dir", manager->paths->translator_dir);
  g_variant_builder_add(&versions, "{sv}", "pid", g_variant_new_int32(getpid()));
  g_autoptr(GVariant) result = g_variant_ref_sink(g_variant_builder_end(&versions));
  done(result, NULL, user_data);
}
