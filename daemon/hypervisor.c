// The only user of libvirt.h. Thin on purpose: looks a domain up, calls the one function,
// translates the error. libvirt-glib hooks libvirt's event loop into GLib's, so callbacks arrive on
// the main thread. Embedded libvirt has no RPC layer between it and us: every out-parameter is
// initialised before a call. See hypervisor.h.
#include "hypervisor.h"

#include <errno.h>
#include <libvirt-glib/libvirt-glib.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include "errors.h"

struct Hypervisor {
  virConnectPtr connection;
  char *uri;
  HypervisorFeatures features;
  HypervisorEventHandler handler;
  gpointer user_data;
};

typedef virDomainPtr Domain;
static void free_domain(Domain domain) {
  virDomainFree(domain);
}
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(Domain, free_domain, NULL)

// --- errors --------------------------------------------------------------------------------------

// libvirt's codes that mean something more telling than 'libvirt failed'.
static const struct {
  int code;
  SteleError error;
} telling[] = {
    {VIR_ERR_XML_ERROR, STELE_ERROR_INVALID_XML},          {VIR_ERR_XML_DETAIL, STELE_ERROR_INVALID_XML},
    {VIR_ERR_XML_INVALID_SCHEMA, STELE_ERROR_INVALID_XML}, {VIR_ERR_CONFIG_UNSUPPORTED, STELE_ERROR_UNSUPPORTED},
    {VIR_ERR_NO_DOMAIN, STELE_ERROR_NO_SUCH_MACHINE},
};

static void set_error(GError **error, const char *what, const char *name) {
  const virError *problem = virGetLastError();
  SteleError code = STELE_ERROR_HYPERVISOR;
  for (size_t i = 0; problem && i < G_N_ELEMENTS(telling); i++)
    if (telling[i].code == problem->code) code = telling[i].error;
  if (problem && problem->code == VIR_ERR_SYSTEM_ERROR && problem->int1 == ENOSPC) code = STELE_ERROR_STORAGE_FULL;
  g_autofree char *message = g_strdup(problem && problem->message ? problem->message : "no reason given");
  g_set_error(error, STELE_ERROR, code, "%s '%s': %s", what, name, g_strstrip(message));
  virResetLastError();
}

// Errors reach the user through GError; libvirt would print them a second time.
static void swallow_error(void *user_data, virErrorPtr problem) {}

// --- events --------------------------------------------------------------------------------------

static const struct {
  int event, detail;
  HypervisorEvent means;
} lifecycle[] = {
    {VIR_DOMAIN_EVENT_STARTED, -1, HYPERVISOR_STARTED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, HYPERVISOR_SUSPENDED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR, HYPERVISOR_SUSPENDED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR, HYPERVISOR_HOST_PAUSED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG, HYPERVISOR_HOST_PAUSED},
    {VIR_DOMAIN_EVENT_RESUMED, -1, HYPERVISOR_RESUMED},
    {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, HYPERVISOR_POWERED_OFF},
    {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, HYPERVISOR_DESTROYED},
    {VIR_DOMAIN_EVENT_STOPPED, -1, HYPERVISOR_DIED},
    {VIR_DOMAIN_EVENT_CRASHED, -1, HYPERVISOR_DIED},
};

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *user_data) {
  Hypervisor *hypervisor = user_data;
  for (size_t i = 0; i < G_N_ELEMENTS(lifecycle); i++) {
    if (lifecycle[i].event != event || (lifecycle[i].detail != -1 && lifecycle[i].detail != detail)) continue;
    hypervisor->handler(virDomainGetName(domain), lifecycle[i].means, hypervisor->user_data);
    break;
  }
  return 0;
}

static void on_reboot(virConnectPtr connection, virDomainPtr domain, void *user_data) {
  Hypervisor *hypervisor = user_data;
  hypervisor->handler(virDomainGetName(domain), HYPERVISOR_RESET, hypervisor->user_data);
}

static void on_close(virConnectPtr connection, int reason, void *user_data) {
  Hypervisor *hypervisor = user_data;
  hypervisor->handler(NULL, HYPERVISOR_DISCONNECTED, hypervisor->user_data);
}

static gboolean register_events(Hypervisor *hypervisor, GError **error) {
  const struct {
    int id;
    virConnectDomainEventGenericCallback callback;
  } rows[] = {
      {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
      {VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot)},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (virConnectDomainEventRegisterAny(hypervisor->connection, NULL, rows[i].id, rows[i].callback, hypervisor, NULL) <
        0) {
      set_error(error, "cannot follow the events of", hypervisor->uri);
      return FALSE;
    }
  // The embedded driver has no connection that could be lost and says so with an error.
  if (virConnectRegisterCloseCallback(hypervisor->connection, on_close, hypervisor, NULL) < 0) virResetLastError();
  return TRUE;
}

// --- opening -------------------------------------------------------------------------------------

// libvirt learnt to export virtiofs read-only in 11.0, and only the Rust virtiofsd (1.13) can do
// it.
static void probe_features(Hypervisor *hypervisor) {
  HypervisorFeatures *features = &hypervisor->features;
  if (virConnectGetLibVersion(hypervisor->connection, &features->libvirt) < 0) features->libvirt = 0;
  if (virConnectGetVersion(hypervisor->connection, &features->emulator) < 0) features->emulator = 0;
  char *kvm = virConnectGetDomainCapabilities(hypervisor->connection, NULL, "aarch64", "virt", "kvm", 0);
  features->kvm = kvm != NULL;
  free(kvm);
  features->readonly_virtiofs =
      features->libvirt >= 11000000 && g_file_test("/usr/libexec/virtiofsd", G_FILE_TEST_IS_EXECUTABLE);
  virResetLastError();
}

Hypervisor *hypervisor_open(const char *uri, HypervisorEventHandler handler, gpointer user_data, GError **error) {
  g_setenv("LIBVIRT_DEBUG", "4", FALSE); // errors only: its warnings are about choices of ours
  virSetErrorFunc(NULL, swallow_error);
  gvir_event_register();
  Hypervisor *hypervisor = g_new0(Hypervisor, 1);
  *hypervisor = (Hypervisor){.uri = g_strdup(uri), .handler = handler, .user_data = user_data};
  hypervisor->connection = virConnectOpen(uri);
  if (hypervisor->connection == NULL) {
    set_error(error, "cannot open libvirt at", uri);
    hypervisor_close(hypervisor);
    return NULL;
  }
  probe_features(hypervisor);
  if (!register_events(hypervisor, error)) {
    hypervisor_close(hypervisor);
    return NULL;
  }
  return hypervisor;
}

void hypervisor_close(Hypervisor *hypervisor) {
  if (hypervisor == NULL) return;
  if (hypervisor->connection) virConnectClose(hypervisor->connection);
  g_free(hypervisor->uri);
  g_free(hypervisor);
}

const HypervisorFeatures *hypervisor_features(Hypervisor *hypervisor) {
  return &hypervisor->features;
}

const char *hypervisor_uri(Hypervisor *hypervisor) {
  return hypervisor->uri;
}

// --- domains -------------------------------------------------------------------------------------

static Domain lookup(Hypervisor *hypervisor, const char *name, GError **error) {
  Domain domain = virDomainLookupByName(hypervisor->connection, name);
  if (domain == NULL) set_error(error, "libvirt does not know", name);
  return domain;
}

void hypervisor_domain_free(HypervisorDomain *domain) {
  g_free(domain->name);
  g_free(domain->uuid);
  g_free(domain);
}

static HypervisorDomain *describe(virDomainPtr domain) {
  HypervisorDomain *described = g_new0(HypervisorDomain, 1);
  char uuid[VIR_UUID_STRING_BUFLEN] = "";
  int state = VIR_DOMAIN_NOSTATE, reason = 0;
  if (virDomainGetUUIDString(domain, uuid) < 0 || virDomainGetState(domain, &state, &reason, 0) < 0)
    virResetLastError();
  described->name = g_strdup(virDomainGetName(domain));
  described->uuid = g_strdup(uuid);
  unsigned id = virDomainGetID(domain);
  described->id = id == (unsigned)-1 ? -1 : (int)id;
  described->active = virDomainIsActive(domain) == 1;
  // One that is being started is not what somebody has paused, nor does an event say when it goes on.
  described->paused = state == VIR_DOMAIN_PAUSED && reason != VIR_DOMAIN_PAUSED_STARTING_UP;
  return described;
}

GPtrArray *hypervisor_list(Hypervisor *hypervisor, GError **error) {
  virDomainPtr *domains = NULL;
  int count = virConnectListAllDomains(hypervisor->connection, &domains, 0);
  if (count < 0) {
    set_error(error, "cannot list the domains of", hypervisor->uri);
    return NULL;
  }
  GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)hypervisor_domain_free);
  for (int i = 0; i < count; i++) {
    g_ptr_array_add(list, describe(domains[i]));
    virDomainFree(domains[i]);
  }
  free(domains);
  return list;
}

gboolean hypervisor_lookup(Hypervisor *hypervisor, const char *name, HypervisorDomain **ret_domain) {
  g_auto(Domain) domain = lookup(hypervisor, name, NULL);
  if (domain && ret_domain) *ret_domain = describe(domain);
  return domain != NULL;
}

gboolean hypervisor_define(Hypervisor *hypervisor, const char *xml, GError **error) {
  g_auto(Domain) domain = virDomainDefineXMLFlags(hypervisor->connection, xml, VIR_DOMAIN_DEFINE_VALIDATE);
  if (domain == NULL) set_error(error, "libvirt refuses the definition at", hypervisor->uri);
  return domain != NULL;
}

gboolean hypervisor_undefine(Hypervisor *hypervisor, const char *name, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, NULL);
  if (domain == NULL) return TRUE;
  unsigned flags =
      VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
  gboolean done = virDomainUndefineFlags(domain, flags) == 0;
  if (!done) set_error(error, "cannot undefine", name);
  return done;
}

typedef int (*DomainCall)(virDomainPtr domain);

static gboolean call(Hypervisor *hypervisor, const char *name, DomainCall function, const char *what, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  if (domain == NULL) return FALSE;
  gboolean done = function(domain) == 0;
  if (!done) set_error(error, what, name);
  return done;
}

static int press_power_button(virDomainPtr domain) {
  return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
}

static int reboot(virDomainPtr domain) {
  return virDomainReboot(domain, VIR_DOMAIN_REBOOT_DEFAULT);
}

gboolean hypervisor_start(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, virDomainCreate, "cannot start", error);
}

gboolean hypervisor_destroy(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, virDomainDestroy, "cannot destroy", error);
}

gboolean hypervisor_suspend(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, virDomainSuspend, "cannot suspend", error);
}

gboolean hypervisor_resume(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, virDomainResume, "cannot resume", error);
}

gboolean hypervisor_press_power_button(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, press_power_button, "cannot press the power button of", error);
}

gboolean hypervisor_shutdown(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, virDomainShutdown, "cannot shut down", error);
}

gboolean hypervisor_reboot(Hypervisor *hypervisor, const char *name, GError **error) {
  return call(hypervisor, name, reboot, "cannot reboot", error);
}

char *hypervisor_dump_xml(Hypervisor *hypervisor, const char *name, gboolean inactive, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  char *xml = domain ? virDomainGetXMLDesc(domain, inactive ? VIR_DOMAIN_XML_INACTIVE : 0) : NULL;
  if (domain && xml == NULL) set_error(error, "cannot describe", name);
  char *copy = g_strdup(xml);
  free(xml);
  return copy;
}

gboolean hypervisor_usage(Hypervisor *hypervisor, const char *name, HypervisorUsage *ret_usage, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  if (domain == NULL) return FALSE;
  virDomainInfo info = {0};
  if (virDomainGetInfo(domain, &info) < 0) {
    set_error(error, "cannot look at", name);
    return FALSE;
  }
  *ret_usage =
      (HypervisorUsage){.memory = (guint64)info.memory * 1024, .cpu_time = info.cpuTime, .vcpus = info.nrVirtCpu};
  return TRUE;
}

// --- statistics ----------------------------------------------------------------------------------

// virConnectGetAllDomainStats(3) names its numbers: of each disk and card those with its number in them.
static void add_stat(HypervisorStats *stats, const char *name, guint64 value) {
  const struct {
    const char *prefix, *suffix;
    guint64 *sum, factor;
  } rows[] = {{"cpu.time", "", &stats->cpu_time, 1},
              {"balloon.current", "", &stats->memory, 1024},
              {"balloon.rss", "", &stats->resident, 1024},
              {"block.", ".rd.bytes", &stats->block_read, 1},
              {"block.", ".wr.bytes", &stats->block_written, 1},
              {"net.", ".rx.bytes", &stats->net_received, 1},
              {"net.", ".tx.bytes", &stats->net_sent, 1}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
    if (*rows[i].suffix ? g_str_has_prefix(name, rows[i].prefix) && g_str_has_suffix(name, rows[i].suffix)
                        : g_str_equal(name, rows[i].prefix))
      *rows[i].sum += value * rows[i].factor;
}

gboolean hypervisor_stats(Hypervisor *hypervisor, const char *name, HypervisorStats *ret_stats, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  if (domain == NULL) return FALSE;
  virDomainPtr domains[] = {domain, NULL};
  virDomainStatsRecordPtr *records = NULL;
  unsigned wanted =
      VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_BLOCK | VIR_DOMAIN_STATS_INTERFACE;
  *ret_stats = (HypervisorStats){0};
  int count = virDomainListGetStats(domains, wanted, &records, VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
  if (count < 0) set_error(error, "cannot look at", name);
  for (int i = 0; i < count; i++)
    for (int k = 0; k < records[i]->nparams; k++)
      if (records[i]->params[k].type == VIR_TYPED_PARAM_ULLONG)
        add_stat(ret_stats, records[i]->params[k].field, records[i]->params[k].value.ul);
  if (records) virDomainStatsRecordListFree(records);
  return count >= 0;
}

// --- ports ---------------------------------------------------------------------------------------

// libvirt 9 takes <portForward> without doing it. The commands answer nothing when they did what they were told (QEMU,
// hmp-commands.hx); the first network card's backend is libvirt's hostnet0.
gboolean hypervisor_forward_port(Hypervisor *hypervisor, const char *name, gboolean add, const char *protocol,
                                 const char *address, guint host_port, guint guest_port, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  if (domain == NULL) return FALSE;
  g_autofree char *command =
      add ? g_strdup_printf("hostfwd_add hostnet0 %s:%s:%u-:%u", protocol, address, host_port, guest_port)
          : g_strdup_printf("hostfwd_remove hostnet0 %s:%s:%u", protocol, address, host_port);
  char *answer = NULL;
  if (virDomainQemuMonitorCommand(domain, command, &answer, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP) < 0) {
    set_error(error, "cannot forward a port of", name);
    return FALSE;
  }
  g_autofree char *said = g_strdup(answer ? answer : "");
  free(answer);
  if (*g_strstrip(said) == 0 || (!add && g_str_has_prefix(said, "host forwarding rule"))) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT, "cannot forward port %s:%u to '%s': %s", address,
              host_port, name, said);
  return FALSE;
}

// --- streams -------------------------------------------------------------------------------------

typedef struct StreamChannel {
  ByteChannel base;
  virStreamPtr stream;
  gboolean watching;
  ByteChannelReady ready;
  gpointer user_data;
} StreamChannel;

static int conditions_to_events(GIOCondition conditions) {
  return (conditions & G_IO_IN ? VIR_STREAM_EVENT_READABLE : 0) |
         (conditions & G_IO_OUT ? VIR_STREAM_EVENT_WRITABLE : 0) | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR;
}

static void on_stream(virStreamPtr stream, int events, void *user_data) {
  StreamChannel *channel = user_data;
  GIOCondition ready =
      (events & VIR_STREAM_EVENT_READABLE ? G_IO_IN : 0) | (events & VIR_STREAM_EVENT_WRITABLE ? G_IO_OUT : 0) |
      (events & VIR_STREAM_EVENT_HANGUP ? G_IO_HUP : 0) | (events & VIR_STREAM_EVENT_ERROR ? G_IO_ERR : 0);
  channel->ready(&channel->base, ready, channel->user_data);
}

static gssize to_errno(int result) {
  if (result >= 0) return result;
  virResetLastError();
  return result == -2 ? -EAGAIN : -EIO;
}

static gssize stream_read(ByteChannel *base, void *bytes, gsize size) {
  return to_errno(virStreamRecv(((StreamChannel *)base)->stream, bytes, size));
}

static gssize stream_write(ByteChannel *base, const void *bytes, gsize size) {
  return to_errno(virStreamSend(((StreamChannel *)base)->stream, bytes, size));
}

static void stream_watch(ByteChannel *base, GIOCondition conditions, ByteChannelReady ready, gpointer user_data) {
  StreamChannel *channel = (StreamChannel *)base;
  channel->ready = ready;
  channel->user_data = user_data;
  int events = conditions_to_events(conditions);
  int r = channel->watching ? virStreamEventUpdateCallback(channel->stream, events)
                            : virStreamEventAddCallback(channel->stream, events, on_stream, channel, NULL);
  channel->watching = channel->watching || r == 0;
  if (r < 0) virResetLastError();
}

static void stream_close(ByteChannel *base) {
  StreamChannel *channel = (StreamChannel *)base;
  if (channel->watching) virStreamEventRemoveCallback(channel->stream);
  virStreamAbort(channel->stream);
  virStreamFree(channel->stream);
  virResetLastError();
  g_free(channel);
}

static const ByteChannelClass stream_class = {stream_read, stream_write, stream_watch, stream_close};

typedef int (*OpenCall)(virDomainPtr domain, const char *device, virStreamPtr stream, unsigned flags);

static ByteChannel *open_stream(Hypervisor *hypervisor, const char *name, OpenCall function, const char *device,
                                unsigned flags, const char *what, GError **error) {
  g_auto(Domain) domain = lookup(hypervisor, name, error);
  if (domain == NULL) return NULL;
  virStreamPtr stream = virStreamNew(hypervisor->connection, VIR_STREAM_NONBLOCK);
  if (stream == NULL || function(domain, device, stream, flags) < 0) {
    set_error(error, what, name);
    if (stream) virStreamFree(stream);
    return NULL;
  }
  StreamChannel *channel = g_new0(StreamChannel, 1);
  *channel = (StreamChannel){.base = {&stream_class}, .stream = stream};
  return &channel->base;
}

ByteChannel *hypervisor_open_console(Hypervisor *hypervisor, const char *name, gboolean force, GError **error) {
  unsigned flags = force ? VIR_DOMAIN_CONSOLE_FORCE : VIR_DOMAIN_CONSOLE_SAFE;
  return open_stream(hypervisor, name, virDomainOpenConsole, NULL, flags, "cannot open the console of", error);
}

ByteChannel *hypervisor_open_channel(Hypervisor *hypervisor, const char *name, const char *channel, GError **error) {
  return open_stream(hypervisor, name, virDomainOpenChannel, channel, VIR_DOMAIN_CHANNEL_FORCE,
                     "cannot open a channel of", error);
}
